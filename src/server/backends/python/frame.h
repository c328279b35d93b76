// SPDX-License-Identifier: Apache-2.0
// Frames between the server and a model process (docs/python_backend.md): a header, JSON, and a tail
// of small tensors. What a process sends may be anything, so every length is bounded. Not
// thread-safe; no input or output of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/status.h"

namespace trireme::server {

constexpr uint64_t kInlineBytes = 64 * 1024;     // a message's tensors; more go in shared memory
constexpr uint64_t kMaxJsonBytes = 64ull << 20;  // of one message
constexpr uint64_t kTensorAlignment = 64;

struct Frame {
  std::string json;
  // Shared: tensors of the message lie in it.
  std::shared_ptr<const std::string> tail;
  bool has_descriptor = false;
};

// The header of a frame, 16 bytes.
std::string FrameHeader(uint64_t json_bytes, uint64_t tail_bytes, bool has_descriptor);

// Makes frames of a stream of bytes.
class FrameReader {
 public:
  // Appends the frames that `bytes` completes. INVALID_ARGUMENT: the stream is none of ours, and
  // nothing after it can be understood.
  Status Feed(std::string_view bytes, std::vector<Frame>& frames);

 private:
  std::string pending_;
};

}  // namespace trireme::server
