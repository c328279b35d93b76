// SPDX-License-Identifier: Apache-2.0
#include "text/normalizer.h"

#include <nlohmann/json.hpp>

#include <array>

#include "text/base64.h"
#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/regex.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace trireme {
namespace {

using nlohmann::json;
using Made = StatusOr<std::unique_ptr<Normalizer>>;

Status Keep(std::string result, std::string_view& text, std::string& storage) {
  storage = std::move(result);
  text = storage;
  return OkStatus();
}

class FormNormalizer : public Normalizer {
 public:
  explicit FormNormalizer(unicode::Form form) : form_(form) {}
  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    const bool unchanged = form_ == unicode::Form::kNfc
                               ? unicode::NfcPrefix(text) == std::string_view::npos
                               : utf8::IsAscii(text);
    return unchanged ? OkStatus() : Keep(unicode::Normalize(text, form_), text, storage);
  }

 private:
  unicode::Form form_;
};

// Maps each code point on its own; `map(code_point, out)` appends the result.
template <typename Map>
class CharNormalizer : public Normalizer {
 public:
  explicit CharNormalizer(Map map) : map_(map) {}
  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
      const utf8::Decoded d = utf8::DecodeValid(text.data() + i);
      map_(d.code_point, out);
      i += d.size;
    }
    return Keep(std::move(out), text, storage);
  }

 private:
  Map map_;
};

template <typename Map>
Made MakeChar(Map map) {
  return std::unique_ptr<Normalizer>(std::make_unique<CharNormalizer<Map>>(map));
}

void DropNonspacingMark(uint32_t c, std::string& out) {
  if (unicode::CategoryOf(c) != unicode::kMn) utf8::Append(c, out);
}

void DropMark(uint32_t c, std::string& out) {
  if (!unicode::IsMark(unicode::CategoryOf(c))) utf8::Append(c, out);
}

// The clean-up of neural machine translation corpora: control characters vanish, odd white
// space becomes a space.
void MapNmt(uint32_t c, std::string& out) {
  const bool control = (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f ||
                       c == 0x8f || c == 0x9f;
  if (control) return;
  const bool space = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 ||
                     (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                     c == 0xfeff || c == 0xfffd;
  utf8::Append(space ? ' ' : c, out);
}

class StripNormalizer : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}
  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    while (left_ && !text.empty()) {
      const utf8::Decoded d = utf8::DecodeValid(text.data());
      if (!unicode::IsWhiteSpace(d.code_point)) break;
      text.remove_prefix(d.size);
    }
    while (right_ && !text.empty()) {
      const utf8::Decoded d = utf8::DecodeLastValid(text.data() + text.size());
      if (!unicode::IsWhiteSpace(d.code_point)) break;
      text.remove_suffix(d.size);
    }
    return OkStatus();
  }

 private:
  bool left_, right_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  ReplaceNormalizer(std::unique_ptr<Regex> regex, std::string literal, std::string content)
      : regex_(std::move(regex)), literal_(std::move(literal)), content_(std::move(content)) {}
  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    std::vector<Span> matches;
    if (regex_ != nullptr) {
      TRIREME_RETURN_IF_ERROR(regex_->FindAll(text, matches));
    } else {
      for (size_t at = text.find(literal_); at != text.npos;
           at = text.find(literal_, at + literal_.size()))
        matches.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(at + literal_.size())});
    }
    if (matches.empty()) return OkStatus();
    std::string out;
    out.reserve(text.size() + matches.size() * content_.size());
    size_t at = 0;
    for (const Span& match : matches) {
      out.append(text.substr(at, match.begin - at));
      out += content_;
      at = match.end;
    }
    out.append(text.substr(at));
    return Keep(std::move(out), text, storage);
  }

 private:
  std::unique_ptr<Regex> regex_;  // or else the literal
  std::string literal_;
  std::string content_;
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(std::string prefix) : prefix_(std::move(prefix)) {}
  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    if (text.empty()) return OkStatus();
    return Keep(prefix_ + std::string(text), text, storage);
  }

 private:
  std::string prefix_;
};

class PrecompiledNormalizer : public Normalizer {
 public:
  explicit PrecompiledNormalizer(CharsMap map) : map_(std::move(map)) {}
  // Short grapheme clusters are looked up whole, then every code point alone; the shortest key
  // that begins them counts, and replaces all of them.
  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    constexpr size_t kLongestCluster = 5;
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
      const std::string_view cluster = text.substr(i, unicode::GraphemeSize(text.substr(i)));
      i += cluster.size();
      if (cluster.size() <= kLongestCluster && Transform(cluster, out)) continue;
      for (size_t k = 0; k < cluster.size();) {
        const size_t size = utf8::Length(static_cast<uint8_t>(cluster[k]));
        if (!Transform(cluster.substr(k, size), out)) out += cluster.substr(k, size);
        k += size;
      }
    }
    return Keep(std::move(out), text, storage);
  }

 private:
  bool Transform(std::string_view part, std::string& out) const {
    const CharsMap::Found found = map_.Shortest(part);
    if (found.size == 0) return false;
    out += found.replacement;
    return true;
  }
  CharsMap map_;
};

bool IsCjkIdeograph(uint32_t c) {
  struct Range {
    uint32_t first, last;
  };
  constexpr std::array<Range, 8> kRanges = {{{0x4e00, 0x9fff},
                                             {0x3400, 0x4dbf},
                                             {0x20000, 0x2a6df},
                                             {0x2a700, 0x2b73f},
                                             {0x2b740, 0x2b81f},
                                             {0x2b920, 0x2ceaf},
                                             {0xf900, 0xfaff},
                                             {0x2f800, 0x2fa1f}}};
  for (const Range& range : kRanges)
    if (c >= range.first && c <= range.last) return true;
  return false;
}

class BertNormalizer : public Normalizer {
 public:
  explicit BertNormalizer(const json& section)
      : clean_text_(BoolOr(section, "clean_text", true)),
        space_ideographs_(BoolOr(section, "handle_chinese_chars", true)),
        lowercase_(BoolOr(section, "lowercase", true)),
        strip_accents_(BoolOr(section, "strip_accents", lowercase_)) {}

  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
      const utf8::Decoded d = utf8::DecodeValid(text.data() + i);
      i += d.size;
      Clean(d.code_point, out);
    }
    if (strip_accents_) {
      const std::string decomposed = unicode::Normalize(out, unicode::Form::kNfd);
      out.clear();
      for (size_t i = 0; i < decomposed.size();) {
        const utf8::Decoded d = utf8::DecodeValid(decomposed.data() + i);
        i += d.size;
        DropNonspacingMark(d.code_point, out);
      }
    }
    return Keep(lowercase_ ? unicode::Lower(out) : std::move(out), text, storage);
  }

 private:
  void Clean(uint32_t c, std::string& out) const {
    if (clean_text_) {
      const bool line = c == '\t' || c == '\n' || c == '\r';
      if (c == 0 || c == 0xfffd || (!line && unicode::IsOther(unicode::CategoryOf(c)))) return;
      if (unicode::IsWhiteSpace(c)) c = ' ';
    }
    const bool pad = space_ideographs_ && IsCjkIdeograph(c);
    if (pad) out += ' ';
    utf8::Append(c, out);
    if (pad) out += ' ';
  }

  bool clean_text_, space_ideographs_, lowercase_, strip_accents_;
};

class SequenceNormalizer : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> steps)
      : steps_(std::move(steps)) {}
  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    for (const auto& step : steps_) TRIREME_RETURN_IF_ERROR(step->Apply(text, storage, at_start));
    return OkStatus();
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

class ByteLevelNormalizer : public Normalizer {
 public:
  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    std::string out;
    AppendByteLevel(text, out);
    return Keep(std::move(out), text, storage);
  }
};

Made MakePrecompiled(const json& section) {
  std::string blob;
  if (!DecodeBase64(StringOr(section, "precompiled_charsmap", ""), blob))
    return InvalidArgument("normalizer: precompiled_charsmap is not base64");
  TRIREME_ASSIGN_OR_RETURN(CharsMap map, CharsMap::Parse(blob));
  return Made(std::make_unique<PrecompiledNormalizer>(std::move(map)));
}

Made MakeReplace(const json& section) {
  const json& pattern = Member(section, "pattern");
  std::unique_ptr<Regex> regex;
  std::string literal = StringOr(pattern, "String", "");
  if (const std::string* expression = StringMember(pattern, "Regex")) {
    TRIREME_ASSIGN_OR_RETURN(regex, Regex::Compile(*expression));
  } else if (literal.empty()) {
    return InvalidArgument("normalizer: Replace needs a pattern with String or Regex");
  }
  return Made(std::make_unique<ReplaceNormalizer>(std::move(regex), std::move(literal),
                                                  StringOr(section, "content", "")));
}

Made MakeSequence(const json& section) {
  const json& members = Member(section, "normalizers");
  if (!members.is_array())
    return InvalidArgument("normalizer: Sequence needs the list normalizers");
  std::vector<std::unique_ptr<Normalizer>> steps;
  for (const json& member : members) {
    TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Normalizer> step, MakeNormalizer(member));
    steps.push_back(std::move(step));
  }
  return Made(std::make_unique<SequenceNormalizer>(std::move(steps)));
}

}  // namespace

StatusOr<std::unique_ptr<Normalizer>> MakeNormalizer(const json& section) {
  using unicode::Form;
  const std::string type = StringOr(section, "type", "");
  if (type == "Sequence") return MakeSequence(section);
  if (type == "NFC") return Made(std::make_unique<FormNormalizer>(Form::kNfc));
  if (type == "NFD") return Made(std::make_unique<FormNormalizer>(Form::kNfd));
  if (type == "NFKC") return Made(std::make_unique<FormNormalizer>(Form::kNfkc));
  if (type == "NFKD") return Made(std::make_unique<FormNormalizer>(Form::kNfkd));
  if (type == "Lowercase") return MakeChar(unicode::AppendLower);
  if (type == "StripAccents") return MakeChar(DropMark);
  if (type == "Nmt") return MakeChar(MapNmt);
  if (type == "Strip")
    return Made(std::make_unique<StripNormalizer>(BoolOr(section, "strip_left", true),
                                                  BoolOr(section, "strip_right", true)));
  if (type == "Replace") return MakeReplace(section);
  if (type == "Prepend")
    return Made(std::make_unique<PrependNormalizer>(StringOr(section, "prepend", "")));
  if (type == "Precompiled") return MakePrecompiled(section);
  if (type == "BertNormalizer") return Made(std::make_unique<BertNormalizer>(section));
  if (type == "ByteLevel") return Made(std::make_unique<ByteLevelNormalizer>());
  return Unimplemented("normalizer type '{}' is not supported", type);
}

}  // namespace trireme
