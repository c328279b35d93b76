// SPDX-License-Identifier: Apache-2.0
// Unicode properties, normal forms and case over the generated tables. Thread-safe, no state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/unicode_tables.h"

namespace trireme::unicode {

// The class byte of a code point (unicode_tables.h).
inline uint8_t ClassOf(uint32_t c) {
  if (c >= 0x110000) return kCn;
  return kClassBlocks[static_cast<size_t>(kClassIndex[c >> 7]) << 7 | (c & 127)];
}
inline Category CategoryOf(uint32_t c) { return static_cast<Category>(ClassOf(c) & kCategoryMask); }
inline bool IsWhiteSpace(uint32_t c) { return (ClassOf(c) & kWhiteSpaceBit) != 0; }
inline bool IsWordChar(uint32_t c) { return (ClassOf(c) & kWordBit) != 0; }
inline bool IsLetter(Category c) { return c >= kLu && c <= kLo; }
inline bool IsMark(Category c) { return c >= kMn && c <= kMe; }
inline bool IsNumber(Category c) { return c >= kNd && c <= kNo; }
inline bool IsPunctuation(Category c) { return c >= kPc && c <= kPo; }
inline bool IsOther(Category c) { return c >= kCc; }  // not the unassigned ones
// ASCII symbols count as punctuation too, as in BERT.
bool IsPunctuationOrAsciiSymbol(uint32_t c);

uint8_t CombiningClass(uint32_t c);
Script ScriptOf(uint32_t c);
GraphemeBreak GraphemeBreakOf(uint32_t c);
// Bytes of the first extended grapheme cluster of `text` (not empty, valid UTF-8).
size_t GraphemeSize(std::string_view text);

enum class Form { kNfc, kNfd, kNfkc, kNfkd };
// Valid UTF-8 in, valid UTF-8 out.
std::string Normalize(std::string_view text, Form form);
// Offset from which NFC may change something: text before it is already in the form and cannot
// combine with what follows. npos: the whole text is in NFC for sure.
size_t NfcPrefix(std::string_view text);

// Appends the lower case of `c` without looking at its neighbours.
void AppendLower(uint32_t c, std::string& out);
std::string Lower(std::string_view text);

}  // namespace trireme::unicode
