// SPDX-License-Identifier: Apache-2.0
// UTF-8 and Python's str properties over the generated tables. Pure functions, thread-safe.
#include "text/jinja_unicode.h"

#include <algorithm>

#include "text/jinja_unicode_tables.h"

namespace trireme::jinja {
namespace {

constexpr uint32_t kCapitalSigma = 0x3A3;
constexpr uint32_t kSmallSigma = 0x3C3;
constexpr uint32_t kFinalSigma = 0x3C2;

bool InRanges(uint32_t code, const CodeRange* table, size_t count) {
  const CodeRange* end = table + count;
  const CodeRange* at = std::upper_bound(
      table, end, code, [](uint32_t value, const CodeRange& range) { return value < range.first; });
  return at != table && code <= (at - 1)->last;
}

struct CaseTable {
  const CaseRun* runs;
  size_t num_runs;
  const CaseSpecial* specials;
  size_t num_specials;
};

const CaseTable kUpperTable = {kToUpperRuns, kToUpperRunsCount, kToUpperSpecials,
                               kToUpperSpecialsCount};
const CaseTable kLowerTable = {kToLowerRuns, kToLowerRunsCount, kToLowerSpecials,
                               kToLowerSpecialsCount};
const CaseTable kTitleTable = {kToTitleRuns, kToTitleRunsCount, kToTitleSpecials,
                               kToTitleSpecialsCount};
const CaseTable kFoldTable = {kToFoldRuns, kToFoldRunsCount, kToFoldSpecials, kToFoldSpecialsCount};

// Appends the image of `code`; false when the table does not change it.
bool AppendMapped(const CaseTable& table, uint32_t code, std::string* out) {
  const CaseSpecial* specials_end = table.specials + table.num_specials;
  const CaseSpecial* special =
      std::lower_bound(table.specials, specials_end, code,
                       [](const CaseSpecial& entry, uint32_t value) { return entry.from < value; });
  if (special != specials_end && special->from == code) {
    for (uint32_t to : special->to) {
      if (to != 0) AppendCodePoint(to, out);
    }
    return true;
  }
  // Runs with a stride may interleave, so the two candidates before the bound are looked at.
  const CaseRun* end = table.runs + table.num_runs;
  const CaseRun* at = std::upper_bound(
      table.runs, end, code, [](uint32_t value, const CaseRun& run) { return value < run.first; });
  for (int back = 0; back < 2 && at != table.runs; ++back) {
    --at;
    if (code <= at->last && (code - at->first) % at->stride == 0) {
      AppendCodePoint(static_cast<uint32_t>(static_cast<int32_t>(code) + at->delta), out);
      return true;
    }
  }
  return false;
}

void AppendUpper(uint32_t code, std::string* out) {
  if (!AppendMapped(kUpperTable, code, out)) AppendCodePoint(code, out);
}

void AppendLowerSimple(uint32_t code, std::string* out) {
  if (!AppendMapped(kLowerTable, code, out)) AppendCodePoint(code, out);
}

void AppendTitle(uint32_t code, std::string* out) {
  if (!AppendMapped(kTitleTable, code, out)) AppendUpper(code, out);
}

bool IsCased(uint32_t code) { return IsUpper(code) || IsLower(code) || IsTitle(code); }

// The sigma rule: final form after a letter when no letter follows.
void AppendLower(std::string_view text, size_t next, uint32_t code, bool after_cased,
                 std::string* out) {
  if (code != kCapitalSigma) {
    AppendLowerSimple(code, out);
    return;
  }
  const bool before_cased = next < text.size() && IsCased(DecodeAt(text, &next));
  AppendCodePoint(after_cased && !before_cased ? kFinalSigma : kSmallSigma, out);
}

}  // namespace

size_t FindInvalidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const unsigned char lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || i + length > text.size()) return i;
    uint32_t code = lead & (0x7Fu >> length);
    for (size_t k = 1; k < length; ++k) {
      const unsigned char byte = static_cast<unsigned char>(text[i + k]);
      if ((byte & 0xC0) != 0x80) return i;
      code = code << 6 | (byte & 0x3F);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (overlong || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return i;
    i += length;
  }
  return std::string_view::npos;
}

uint32_t DecodeAt(std::string_view text, size_t* position) {
  const size_t i = *position;
  const unsigned char lead = static_cast<unsigned char>(text[i]);
  if (lead < 0x80) {
    *position = i + 1;
    return lead;
  }
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  uint32_t code = lead & (0x7Fu >> length);
  size_t k = 1;
  for (; k < length && i + k < text.size(); ++k) {
    code = code << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3F);
  }
  *position = i + k;
  return code;
}

void AppendCodePoint(uint32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | code >> 6));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | code >> 12));
    out->push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | code >> 18));
    out->push_back(static_cast<char>(0x80 | (code >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

size_t OffsetOfCodePoint(std::string_view text, size_t index) {
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;
    if (index == 0) return i;
    --index;
  }
  return text.size();
}

#define TRIREME_DEFINE_CLASS(Name, table) \
  bool Name(uint32_t code) { return InRanges(code, table, table##Count); }
TRIREME_DEFINE_CLASS(IsSpace, kSpaceRanges)
TRIREME_DEFINE_CLASS(IsUpper, kUpperRanges)
TRIREME_DEFINE_CLASS(IsLower, kLowerRanges)
TRIREME_DEFINE_CLASS(IsTitle, kTitleRanges)
TRIREME_DEFINE_CLASS(IsAlpha, kAlphaRanges)
TRIREME_DEFINE_CLASS(IsDecimal, kDecimalRanges)
TRIREME_DEFINE_CLASS(IsDigit, kDigitRanges)
TRIREME_DEFINE_CLASS(IsNumeric, kNumericRanges)
TRIREME_DEFINE_CLASS(IsPrintable, kPrintableRanges)
#undef TRIREME_DEFINE_CLASS

bool IsAlnum(uint32_t code) { return IsAlpha(code) || IsNumeric(code); }

bool IsWord(uint32_t code) { return IsAlnum(code) || code == '_'; }

std::string ToUpper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) AppendUpper(DecodeAt(text, &i), &out);
  return out;
}

std::string ToLower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool after_cased = false;
  for (size_t i = 0; i < text.size();) {
    const uint32_t code = DecodeAt(text, &i);
    AppendLower(text, i, code, after_cased, &out);
    after_cased = IsCased(code);
  }
  return out;
}

std::string ToTitle(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool after_cased = false;
  for (size_t i = 0; i < text.size();) {
    const uint32_t code = DecodeAt(text, &i);
    if (after_cased) {
      AppendLower(text, i, code, true, &out);
    } else {
      AppendTitle(code, &out);
    }
    after_cased = IsCased(code);
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  if (text.empty()) return {};
  size_t first_end = 0;
  std::string out;
  AppendTitle(DecodeAt(text, &first_end), &out);
  // Lowered as one text, so that a sigma sees the letter before it.
  std::string lowered = ToLower(text);
  std::string lowered_first = ToLower(text.substr(0, first_end));
  return out + lowered.substr(lowered_first.size());
}

std::string SwapCase(std::string_view text) {
  std::string out;
  bool after_cased = false;
  for (size_t i = 0; i < text.size();) {
    const uint32_t code = DecodeAt(text, &i);
    if (IsUpper(code)) {
      AppendLower(text, i, code, after_cased, &out);
    } else if (IsLower(code)) {
      AppendUpper(code, &out);
    } else {
      AppendCodePoint(code, &out);
    }
    after_cased = IsCased(code);
  }
  return out;
}

std::string CaseFold(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const uint32_t code = DecodeAt(text, &i);
    if (!AppendMapped(kFoldTable, code, &out)) AppendLowerSimple(code, &out);
  }
  return out;
}

std::string_view Strip(std::string_view text, std::string_view chars, bool left, bool right) {
  auto strips = [&](std::string_view one, uint32_t code) {
    return chars.empty() ? IsSpace(code) : chars.find(one) != std::string_view::npos;
  };
  while (left && !text.empty()) {
    size_t end = 0;
    const uint32_t code = DecodeAt(text, &end);
    if (!strips(text.substr(0, end), code)) break;
    text.remove_prefix(end);
  }
  while (right && !text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    size_t end = start;
    const uint32_t code = DecodeAt(text, &end);
    if (!strips(text.substr(start), code)) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

}  // namespace trireme::jinja
