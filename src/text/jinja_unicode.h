// SPDX-License-Identifier: Apache-2.0
// UTF-8 and the character classes and case mappings of Python's str. Pure functions, thread-safe.
//
// Every text here is valid UTF-8: templates and variables are checked when they come in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme::jinja {

// Offset of the first byte that is not UTF-8, or npos.
size_t FindInvalidUtf8(std::string_view text);

// Reads the code point at `*position` and steps over it; `*position` < text.size().
uint32_t DecodeAt(std::string_view text, size_t* position);
void AppendCodePoint(uint32_t code, std::string* out);
size_t CountCodePoints(std::string_view text);
// Byte offset of code point number `index`; text.size() when there are fewer.
size_t OffsetOfCodePoint(std::string_view text, size_t index);

bool IsSpace(uint32_t code);
bool IsUpper(uint32_t code);
bool IsLower(uint32_t code);
bool IsTitle(uint32_t code);
bool IsAlpha(uint32_t code);
bool IsDecimal(uint32_t code);
bool IsDigit(uint32_t code);
bool IsNumeric(uint32_t code);
bool IsPrintable(uint32_t code);
bool IsAlnum(uint32_t code);
// What `\w` of a regular expression takes.
bool IsWord(uint32_t code);

std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
// str.title(): every letter that follows no letter becomes title case.
std::string ToTitle(std::string_view text);
std::string Capitalize(std::string_view text);
std::string SwapCase(std::string_view text);
std::string CaseFold(std::string_view text);

// `chars` empty: white space. Sides as told.
std::string_view Strip(std::string_view text, std::string_view chars, bool left, bool right);
inline std::string_view StripSpace(std::string_view text) { return Strip(text, {}, true, true); }

}  // namespace trireme::jinja
