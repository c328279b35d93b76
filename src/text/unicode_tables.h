// SPDX-License-Identifier: Apache-2.0
// Layout of the generated Unicode tables (scripts/gen_unicode_tables.py). Immutable.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::unicode {

// One byte per code point, in blocks of 128: bits 0-4 Category, bit 5 White_Space, bit 6 word
// character (Alphabetic, M, Nd, Pc, Join_Control), bit 7 "may be changed by NFC, or by NFC in
// this context" (NFC_Quick_Check is not Yes, or the combining class is not 0).
inline constexpr uint8_t kCategoryMask = 0x1f;
inline constexpr uint8_t kWhiteSpaceBit = 0x20;
inline constexpr uint8_t kWordBit = 0x40;
inline constexpr uint8_t kNfcBit = 0x80;

// The order of CATEGORIES in the generator.
enum Category : uint8_t {
  kCn,
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCs,
  kCo,
};

// The order of BREAKS in the generator.
enum GraphemeBreak : uint8_t {
  kGbOther,
  kGbCr,
  kGbLf,
  kGbControl,
  kGbExtend,
  kGbZwj,
  kGbRegional,
  kGbPrepend,
  kGbSpacingMark,
  kGbL,
  kGbV,
  kGbT,
  kGbLv,
  kGbLvt,
  kGbPictographic,
};

// The first scripts of the generator; the others only need to differ from each other.
enum Script : uint8_t {
  kScriptUnknown,
  kScriptCommon,
  kScriptInherited,
  kScriptHan,
  kScriptHiragana,
  kScriptKatakana,
};

struct RangeValue {
  uint32_t first, last;  // inclusive
  uint8_t value;
};
struct MappingRow {
  uint32_t code_point;
  uint16_t offset, size;  // into the pool
};
struct CompositionRow {
  uint64_t pair;  // first << 32 | second
  uint32_t code_point;
};

extern const uint16_t kClassIndex[0x110000 >> 7];
extern const uint8_t kClassBlocks[];
extern const RangeValue kCombining[];
extern const size_t kCombiningSize;
// Full canonical decompositions, and compatibility ones where they differ. Hangul is arithmetic.
extern const MappingRow kCanonical[];
extern const size_t kCanonicalSize;
extern const uint32_t kCanonicalPool[];
extern const MappingRow kCompat[];
extern const size_t kCompatSize;
extern const uint32_t kCompatPool[];
extern const MappingRow kLower[];
extern const size_t kLowerSize;
extern const uint32_t kLowerPool[];
extern const CompositionRow kComposition[];
extern const size_t kCompositionSize;
extern const RangeValue kScript[];
extern const size_t kScriptSize;
extern const RangeValue kGraphemeBreak[];
extern const size_t kGraphemeBreakSize;

}  // namespace trireme::unicode
