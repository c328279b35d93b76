// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <algorithm>
#include <vector>

#include "text/utf8.h"

namespace trireme::unicode {
namespace {

constexpr uint32_t kSBase = 0xac00, kLBase = 0x1100, kVBase = 0x1161, kTBase = 0x11a7;
constexpr uint32_t kLCount = 19, kVCount = 21, kTCount = 28, kSCount = kLCount * kVCount * kTCount;

uint8_t FindRange(const RangeValue* rows, size_t size, uint32_t c) {
  const RangeValue* row = std::lower_bound(
      rows, rows + size, c, [](const RangeValue& r, uint32_t value) { return r.last < value; });
  return row != rows + size && row->first <= c ? row->value : 0;
}

const MappingRow* FindMapping(const MappingRow* rows, size_t size, uint32_t c) {
  const MappingRow* row = std::lower_bound(
      rows, rows + size, c, [](const MappingRow& r, uint32_t v) { return r.code_point < v; });
  return row != rows + size && row->code_point == c ? row : nullptr;
}

struct Element {
  uint32_t code_point;
  uint8_t combining;
};

void AppendElement(uint32_t c, std::vector<Element>& out) { out.push_back({c, CombiningClass(c)}); }

void DecomposeInto(uint32_t c, bool compat, std::vector<Element>& out) {
  if (c < 0x80) {
    out.push_back({c, 0});
    return;
  }
  if (c - kSBase < kSCount) {
    const uint32_t s = c - kSBase;
    out.push_back({kLBase + s / (kVCount * kTCount), 0});
    out.push_back({kVBase + s % (kVCount * kTCount) / kTCount, 0});
    if (s % kTCount != 0) out.push_back({kTBase + s % kTCount, 0});
    return;
  }
  const MappingRow* row = compat ? FindMapping(kCompat, kCompatSize, c) : nullptr;
  const uint32_t* pool = kCompatPool;
  if (row == nullptr) {
    row = FindMapping(kCanonical, kCanonicalSize, c);
    pool = kCanonicalPool;
  }
  if (row == nullptr) {
    AppendElement(c, out);
    return;
  }
  for (size_t i = 0; i < row->size; ++i) AppendElement(pool[row->offset + i], out);
}

// Puts runs of combining marks into canonical order.
void Reorder(std::vector<Element>& elements) {
  auto begin = elements.begin();
  while (begin != elements.end()) {
    if (begin->combining == 0) {
      ++begin;
      continue;
    }
    auto end =
        std::find_if(begin, elements.end(), [](const Element& e) { return e.combining == 0; });
    std::stable_sort(begin, end,
                     [](const Element& a, const Element& b) { return a.combining < b.combining; });
    begin = end;
  }
}

// 0 when the two do not compose.
uint32_t ComposePair(uint32_t a, uint32_t b) {
  if (a - kLBase < kLCount && b - kVBase < kVCount)
    return kSBase + ((a - kLBase) * kVCount + (b - kVBase)) * kTCount;
  if (a - kSBase < kSCount && (a - kSBase) % kTCount == 0 && b - kTBase - 1 < kTCount - 1)
    return a + (b - kTBase);
  const uint64_t pair = static_cast<uint64_t>(a) << 32 | b;
  const CompositionRow* end = kComposition + kCompositionSize;
  const CompositionRow* row = std::lower_bound(
      kComposition, end, pair, [](const CompositionRow& r, uint64_t v) { return r.pair < v; });
  return row != end && row->pair == pair ? row->code_point : 0;
}

// In place; `elements` is decomposed and ordered.
void Compose(std::vector<Element>& elements) {
  size_t out = 0;
  size_t starter = SIZE_MAX;  // index in the output of the last starter
  for (const Element element : elements) {
    if (starter != SIZE_MAX) {
      const bool adjacent = out == starter + 1;
      const bool blocked = !adjacent && elements[out - 1].combining >= element.combining;
      if (!blocked) {
        const uint32_t composed = ComposePair(elements[starter].code_point, element.code_point);
        if (composed != 0) {
          elements[starter].code_point = composed;
          continue;
        }
      }
    }
    if (element.combining == 0) starter = out;
    elements[out++] = element;
  }
  elements.resize(out);
}

void NormalizePart(std::string_view text, Form form, std::string& out) {
  std::vector<Element> elements;
  elements.reserve(text.size());
  const bool compat = form == Form::kNfkc || form == Form::kNfkd;
  for (size_t i = 0; i < text.size();) {
    const utf8::Decoded d = utf8::DecodeValid(text.data() + i);
    i += d.size;
    DecomposeInto(d.code_point, compat, elements);
  }
  Reorder(elements);
  if (form == Form::kNfc || form == Form::kNfkc) Compose(elements);
  for (const Element& element : elements) utf8::Append(element.code_point, out);
}

}  // namespace

bool IsPunctuationOrAsciiSymbol(uint32_t c) {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
           (c >= 123 && c <= 126);
  return IsPunctuation(CategoryOf(c));
}

uint8_t CombiningClass(uint32_t c) {
  return c < 0x300 ? 0 : FindRange(kCombining, kCombiningSize, c);
}

Script ScriptOf(uint32_t c) { return static_cast<Script>(FindRange(kScript, kScriptSize, c)); }

GraphemeBreak GraphemeBreakOf(uint32_t c) {
  return static_cast<GraphemeBreak>(FindRange(kGraphemeBreak, kGraphemeBreakSize, c));
}

size_t GraphemeSize(std::string_view text) {
  utf8::Decoded d = utf8::DecodeValid(text.data());
  size_t size = d.size;
  GraphemeBreak last = GraphemeBreakOf(d.code_point);
  bool pictographic = last == kGbPictographic;  // a pictograph and Extends lie before `size`
  size_t regionals = last == kGbRegional ? 1 : 0;
  while (size < text.size()) {
    d = utf8::DecodeValid(text.data() + size);
    const GraphemeBreak next = GraphemeBreakOf(d.code_point);
    const bool last_control = last == kGbCr || last == kGbLf || last == kGbControl;
    const bool next_control = next == kGbCr || next == kGbLf || next == kGbControl;
    bool join = next == kGbExtend || next == kGbZwj || next == kGbSpacingMark || last == kGbPrepend;
    join =
        join || (last == kGbL && (next == kGbL || next == kGbV || next == kGbLv || next == kGbLvt));
    join = join || ((last == kGbLv || last == kGbV) && (next == kGbV || next == kGbT));
    join = join || ((last == kGbLvt || last == kGbT) && next == kGbT);
    join = join || (last == kGbZwj && pictographic && next == kGbPictographic);
    join = join || (last == kGbRegional && next == kGbRegional && regionals % 2 == 1);
    if (last_control || next_control) join = last == kGbCr && next == kGbLf;
    if (!join) break;
    pictographic =
        next == kGbPictographic || (pictographic && (next == kGbExtend || next == kGbZwj));
    if (next == kGbRegional) ++regionals;
    last = next;
    size += d.size;
  }
  return size;
}

size_t NfcPrefix(std::string_view text) {
  size_t safe = 0;  // start of the last code point that nothing before can change
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = static_cast<uint8_t>(text[i]);
    // Everything below U+0300 is in NFC and starts afresh.
    if (lead < 0xcc) {
      safe = i;
      i += lead < 0x80 ? 1 : 2;
      continue;
    }
    const utf8::Decoded d = utf8::DecodeValid(text.data() + i);
    if ((ClassOf(d.code_point) & kNfcBit) != 0) return safe;
    safe = i;
    i += d.size;
  }
  return std::string_view::npos;
}

namespace {

// Rewrites only the stretches that NFC may change: from a code point nothing before can change to
// the next one of that kind.
std::string ToNfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t start = NfcPrefix(text);
    if (start == std::string_view::npos) break;
    out.append(text.substr(0, start));
    size_t end = start + utf8::Length(static_cast<uint8_t>(text[start]));
    // Either this code point or the next is the one that NFC may change.
    while (end < text.size()) {
      const utf8::Decoded d = utf8::DecodeValid(text.data() + end);
      if ((ClassOf(d.code_point) & kNfcBit) == 0) break;
      end += d.size;
    }
    NormalizePart(text.substr(start, end - start), Form::kNfc, out);
    text.remove_prefix(end);
  }
  out.append(text);
  return out;
}

}  // namespace

std::string Normalize(std::string_view text, Form form) {
  if (form == Form::kNfc) return ToNfc(text);
  size_t start = 0;
  while (start < text.size() && static_cast<uint8_t>(text[start]) < 0x80) ++start;
  // A mark right after the ASCII part may compose with its last character.
  if (start > 0) --start;
  std::string out;
  out.reserve(text.size());
  out.append(text.substr(0, start));
  NormalizePart(text.substr(start), form, out);
  return out;
}

void AppendLower(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
    return;
  }
  const MappingRow* row = FindMapping(kLower, kLowerSize, c);
  if (row == nullptr) {
    utf8::Append(c, out);
    return;
  }
  for (size_t i = 0; i < row->size; ++i) utf8::Append(kLowerPool[row->offset + i], out);
}

std::string Lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const utf8::Decoded d = utf8::DecodeValid(text.data() + i);
    i += d.size;
    AppendLower(d.code_point, out);
  }
  return out;
}

}  // namespace trireme::unicode
