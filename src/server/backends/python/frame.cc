// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/frame.h"

#include <array>
#include <cstring>

#include "base/status.h"

namespace trireme::server {
namespace {

constexpr uint32_t kMagic = 0x31505254;  // "TRP1"
constexpr size_t kHeaderBytes = 16;
using Words = std::array<uint32_t, 4>;

}  // namespace

std::string FrameHeader(uint64_t json_bytes, uint64_t tail_bytes, bool has_descriptor) {
  const Words words = {kMagic, static_cast<uint32_t>(json_bytes), static_cast<uint32_t>(tail_bytes),
                       has_descriptor ? 1u : 0u};
  return std::string(reinterpret_cast<const char*>(words.data()), kHeaderBytes);
}

Status FrameReader::Feed(std::string_view bytes, std::vector<Frame>& frames) {
  pending_.append(bytes);
  size_t at = 0;
  while (pending_.size() - at >= kHeaderBytes) {
    Words words;
    std::memcpy(words.data(), pending_.data() + at, kHeaderBytes);
    const auto [magic, json_bytes, tail_bytes, descriptors] = words;
    if (magic != kMagic || descriptors > 1) {
      return InvalidArgument("the model process sent bytes that are no frame");
    }
    if (json_bytes > kMaxJsonBytes || tail_bytes > kInlineBytes) {
      return InvalidArgument("the model process sent a frame of {} and {} bytes; {} and {} go",
                             json_bytes, tail_bytes, kMaxJsonBytes, kInlineBytes);
    }
    const size_t size = kHeaderBytes + json_bytes + tail_bytes;
    if (pending_.size() - at < size) break;
    frames.push_back({pending_.substr(at + kHeaderBytes, json_bytes),
                      std::make_shared<const std::string>(
                          pending_.substr(at + kHeaderBytes + json_bytes, tail_bytes)),
                      descriptors == 1});
    at += size;
  }
  pending_.erase(0, at);
  return OkStatus();
}

}  // namespace trireme::server
