// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the bytes a model process sends, as frames, messages and tensors.
#include <cstddef>
#include <cstdint>

#include "server/backends/python/frame.h"
#include "server/backends/python/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme::server;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  FrameReader reader;
  std::vector<Frame> frames;
  (void)reader.Feed(bytes.substr(0, size / 2), frames).ok();
  (void)reader.Feed(bytes.substr(size / 2), frames).ok();
  frames.push_back({std::string(bytes), std::make_shared<const std::string>(bytes)});
  for (const Frame& frame : frames) {
    auto message = ReadProcessMessage(frame.json);
    if (!message.ok()) continue;
    const auto tensors = TensorsIn(std::move(message->rows), *frame.tail, frame.tail);
    if (tensors.ok() && !tensors->empty()) (void)BytesElements(tensors->front().data).ok();
  }
  return 0;
}
