// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tokenizer.json, followed after a NUL by a text: loads or is refused, encodes or
// is refused, and what it encodes decodes the same at once and token by token.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const std::string_view text = cut == input.npos ? "Hello, world 12!" : input.substr(cut + 1);
  auto parts = ParseTokenizerJson(input.substr(0, cut));
  if (!parts.ok()) return 0;
  const auto tokenizer = MakePipeline(std::move(*parts));
  if (!tokenizer.ok()) return 0;
  const auto ids = (*tokenizer)->Encode(text, true);
  if (!ids.ok()) return 0;
  for (const bool skip : {false, true}) {
    const auto decoded = (*tokenizer)->Decode(*ids, skip);
    // A template may name ids that no token has.
    if (!decoded.ok()) continue;
    Detokenizer stream(**tokenizer, {.skip_special_tokens = skip});
    std::string streamed;
    for (const int32_t id : *ids) streamed += stream.Append(id);
    streamed += stream.Finish();
    if (streamed != *decoded) std::abort();
  }
  return 0;
}
