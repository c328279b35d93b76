// SPDX-License-Identifier: Apache-2.0
// The generated tables behind jinja_unicode.h. Constant data, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::jinja {

struct CodeRange {  // closed
  uint32_t first;
  uint32_t last;
};
struct CaseRun {  // first, first + stride, ..., last all map to themselves + delta
  uint32_t first;
  uint32_t last;
  uint32_t stride;
  int32_t delta;
};
struct CaseSpecial {  // one code point to two or three; unused places are 0
  uint32_t from;
  uint32_t to[3];
};

#define TRIREME_DECLARE_TABLE(Type, name) \
  extern const Type name[];               \
  extern const size_t name##Count
TRIREME_DECLARE_TABLE(CodeRange, kSpaceRanges);
TRIREME_DECLARE_TABLE(CodeRange, kUpperRanges);
TRIREME_DECLARE_TABLE(CodeRange, kLowerRanges);
TRIREME_DECLARE_TABLE(CodeRange, kTitleRanges);
TRIREME_DECLARE_TABLE(CodeRange, kAlphaRanges);
TRIREME_DECLARE_TABLE(CodeRange, kDecimalRanges);
TRIREME_DECLARE_TABLE(CodeRange, kDigitRanges);
TRIREME_DECLARE_TABLE(CodeRange, kNumericRanges);
TRIREME_DECLARE_TABLE(CodeRange, kPrintableRanges);
TRIREME_DECLARE_TABLE(CaseRun, kToUpperRuns);
TRIREME_DECLARE_TABLE(CaseRun, kToLowerRuns);
TRIREME_DECLARE_TABLE(CaseRun, kToTitleRuns);
TRIREME_DECLARE_TABLE(CaseRun, kToFoldRuns);
TRIREME_DECLARE_TABLE(CaseSpecial, kToUpperSpecials);
TRIREME_DECLARE_TABLE(CaseSpecial, kToLowerSpecials);
TRIREME_DECLARE_TABLE(CaseSpecial, kToTitleSpecials);
TRIREME_DECLARE_TABLE(CaseSpecial, kToFoldSpecials);
#undef TRIREME_DECLARE_TABLE

}  // namespace trireme::jinja
