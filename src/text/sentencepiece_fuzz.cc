// SPDX-License-Identifier: Apache-2.0
// Any bytes as a SentencePiece model: loads or is refused, and what loads encodes a fixed text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/sentencepiece.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  auto parts = ParseSentencePiece({reinterpret_cast<const char*>(data), size}, {});
  if (!parts.ok()) return 0;
  const auto tokenizer = MakePipeline(std::move(*parts));
  if (!tokenizer.ok()) return 0;
  const auto ids = (*tokenizer)->Encode("Hello,  w\xc3\xb6rld \xe2\x96\x81 12!", true);
  if (!ids.ok()) return 0;
  const auto decoded = (*tokenizer)->Decode(*ids, false);
  if (!decoded.ok()) std::abort();
  Detokenizer stream(**tokenizer, {.skip_special_tokens = false});
  std::string streamed;
  for (const int32_t id : *ids) streamed += stream.Append(id);
  if (streamed + stream.Finish() != *decoded) std::abort();
  return 0;
}
