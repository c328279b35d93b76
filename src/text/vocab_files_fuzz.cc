// SPDX-License-Identifier: Apache-2.0
// Fuzz target: vocabularies that come without a tokenizer.json. The first byte chooses the layout; a
// NUL ends vocab.json and begins merges.txt. What loads encodes a text and decodes it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/vocab_files.h"

namespace {

trireme::StatusOr<trireme::TokenizerParts> Parse(uint8_t layout, std::string_view file) {
  if (layout % 3 == 0) {
    const size_t cut = file.find('\0');
    const std::string_view merges = cut == file.npos ? "#version\n" : file.substr(cut + 1);
    return trireme::ParseVocabAndMerges(file.substr(0, cut), merges, {});
  }
  if (layout % 3 == 2) return trireme::ParseVocabText(file, {});
  (void)trireme::LooksLikeTiktoken(file);
  return trireme::ParseTiktoken(file, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  auto parts = Parse(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  if (!parts.ok()) return 0;
  const auto tokenizer = trireme::MakePipeline(std::move(*parts));
  if (!tokenizer.ok()) return 0;
  const auto ids = (*tokenizer)->Encode("Hello,  w\xc3\xb6rld 12!", true);
  if (ids.ok()) (void)(*tokenizer)->Decode(*ids, false);
  return 0;
}
