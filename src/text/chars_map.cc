// SPDX-License-Identifier: Apache-2.0
// Reading of the character map: uint32 size of the trie in bytes, the trie, the replacements.
#include <cstring>

#include "text/normalizer.h"
#include "text/utf8.h"

namespace trireme {
namespace {

// The layout of a trie unit.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7fffffff; }
uint32_t Label(uint32_t unit) { return unit & 0x800000ff; }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

}  // namespace

StatusOr<CharsMap> CharsMap::Parse(std::string_view blob) {
  CharsMap map;
  if (blob.empty()) return map;
  uint32_t size = 0;
  if (blob.size() >= 4) std::memcpy(&size, blob.data(), 4);
  if (blob.size() < 4 || size % 4 != 0 || size > blob.size() - 4 || size == 0)
    return InvalidArgument("the precompiled character map is damaged ({} bytes)", blob.size());
  map.units_.resize(size / 4);
  std::memcpy(map.units_.data(), blob.data() + 4, size);
  map.replacements_ = blob.substr(4 + size);
  if (utf8::FindInvalid(map.replacements_) != std::string_view::npos)
    return InvalidArgument("the precompiled character map holds text that is not UTF-8");
  return map;
}

CharsMap::Found CharsMap::Search(std::string_view text, bool longest) const {
  Found found;
  if (units_.empty()) return found;
  uint32_t at = Offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte == 0) break;
    at ^= byte;
    if (at >= units_.size() || Label(units_[at]) != byte) break;
    const uint32_t unit = units_[at];
    at ^= Offset(unit);
    if (at >= units_.size()) break;
    if (!HasLeaf(unit)) continue;
    const uint32_t value = Value(units_[at]);
    if (value >= replacements_.size()) break;
    found = {i + 1, std::string_view(replacements_.c_str() + value)};
    if (!longest) break;
  }
  return found;
}

}  // namespace trireme
