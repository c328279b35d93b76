// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>

#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/splitter.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace trireme {
namespace {

using nlohmann::json;

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

StatusOr<Behavior> ParseBehavior(const std::string& name) {
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return InvalidArgument("pre_tokenizer: behavior '{}' is not known", name);
}

struct Part {
  Span span;
  bool match;
};

// `matches` and the gaps between them, covering [0, size).
std::vector<Part> WithGaps(const std::vector<Span>& matches, uint32_t size, bool invert) {
  std::vector<Part> parts;
  uint32_t at = 0;
  for (const Span& match : matches) {
    if (match.begin > at) parts.push_back({{at, match.begin}, invert});
    parts.push_back({match, !invert});
    at = match.end;
  }
  if (at < size) parts.push_back({{at, size}, invert});
  return parts;
}

void AppendParts(const std::vector<Part>& parts, Behavior behavior, uint32_t offset,
                 std::vector<Span>& out) {
  const size_t first = out.size();
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    if (behavior == Behavior::kRemoved && part.match) continue;
    const bool joins =
        i > 0 &&
        ((behavior == Behavior::kMergedWithPrevious && part.match && !parts[i - 1].match) ||
         (behavior == Behavior::kMergedWithNext && !part.match && parts[i - 1].match) ||
         (behavior == Behavior::kContiguous && part.match == parts[i - 1].match));
    if (joins && out.size() > first)
      out.back().end = offset + part.span.end;
    else
      out.push_back({offset + part.span.begin, offset + part.span.end});
  }
  out.erase(std::remove_if(out.begin() + static_cast<ptrdiff_t>(first), out.end(),
                           [](const Span& span) { return span.begin == span.end; }),
            out.end());
}

class SplitStep : public PreTokenizer {
 public:
  SplitStep(std::unique_ptr<Splitter> splitter, Behavior behavior, bool invert)
      : splitter_(std::move(splitter)), behavior_(behavior), invert_(invert) {}

  Status Apply(PreTokenized& p) const override {
    std::vector<Span> out;
    out.reserve(p.pieces.size() + p.text.size() / 4);
    if (p.pieces.size() == 1 && p.pieces[0].begin == 0 && splitter_->covers_all() &&
        behavior_ == Behavior::kIsolated) {
      TRIREME_RETURN_IF_ERROR(splitter_->FindAll(p.Piece(0), out));
      p.pieces = std::move(out);
      return OkStatus();
    }
    std::vector<Span> matches;
    for (size_t i = 0; i < p.pieces.size(); ++i) {
      matches.clear();
      const std::string_view piece = p.Piece(i);
      TRIREME_RETURN_IF_ERROR(splitter_->FindAll(piece, matches));
      AppendParts(WithGaps(matches, static_cast<uint32_t>(piece.size()), invert_), behavior_,
                  p.pieces[i].begin, out);
    }
    p.at_start = p.at_start && !out.empty() && out[0].begin == p.pieces[0].begin;
    p.pieces = std::move(out);
    return OkStatus();
  }

 private:
  std::unique_ptr<Splitter> splitter_;
  Behavior behavior_;
  bool invert_;
};

// Matches single characters that satisfy a predicate.
template <typename Predicate>
class CharSplitter : public Splitter {
 public:
  explicit CharSplitter(Predicate predicate) : predicate_(predicate) {}
  Status FindAll(std::string_view text, std::vector<Span>& matches) const override {
    for (uint32_t i = 0; i < text.size();) {
      const utf8::Decoded d = utf8::DecodeValid(text.data() + i);
      if (predicate_(d.code_point)) matches.push_back({i, i + d.size});
      i += d.size;
    }
    return OkStatus();
  }

 private:
  Predicate predicate_;
};

template <typename Predicate>
std::unique_ptr<PreTokenizer> CharStep(Predicate predicate, Behavior behavior) {
  return std::make_unique<SplitStep>(std::make_unique<CharSplitter<Predicate>>(predicate), behavior,
                                     false);
}

// Runs of word characters and runs of what is neither word nor space; the space is dropped.
class WordRunSplitter : public Splitter {
 public:
  Status FindAll(std::string_view text, std::vector<Span>& matches) const override {
    int last = kSpace;
    for (uint32_t i = 0; i < text.size();) {
      const utf8::Decoded d = utf8::DecodeValid(text.data() + i);
      const int kind = KindOf(d.code_point);
      if (kind != kSpace) {
        if (kind == last) {
          matches.back().end = i + d.size;
        } else {
          matches.push_back({i, i + d.size});
        }
      }
      last = kind;
      i += d.size;
    }
    return OkStatus();
  }

 private:
  enum { kSpace, kWord, kRest };
  static int KindOf(uint32_t c) {
    if (unicode::IsWordChar(c)) return kWord;
    return unicode::IsWhiteSpace(c) ? kSpace : kRest;
  }
};

class ScriptSplitter : public Splitter {
 public:
  Status FindAll(std::string_view text, std::vector<Span>& matches) const override {
    int last = -1;
    for (uint32_t i = 0; i < text.size();) {
      const utf8::Decoded d = utf8::DecodeValid(text.data() + i);
      const int script = ScriptFor(d.code_point);
      if (script >= 0) {
        if (script != last) matches.push_back({i, i});
        last = script;
      }
      if (!matches.empty()) matches.back().end = i + d.size;
      i += d.size;
    }
    return OkStatus();
  }

 private:
  // -1 for the space and unassigned code points, which go with any script.
  static int ScriptFor(uint32_t c) {
    if (c == ' ') return -1;
    const unicode::Script script = unicode::ScriptOf(c);
    if (script == unicode::kScriptUnknown) return -1;
    const bool kana = script == unicode::kScriptHiragana || script == unicode::kScriptKatakana;
    return kana || c == 0x30fc ? unicode::kScriptHan : script;
  }
};

class FixedLengthSplitter : public Splitter {
 public:
  explicit FixedLengthSplitter(size_t length) : length_(length) {}
  Status FindAll(std::string_view text, std::vector<Span>& matches) const override {
    size_t in_piece = length_;
    for (uint32_t i = 0; i < text.size();) {
      const auto size = static_cast<uint32_t>(utf8::Length(static_cast<uint8_t>(text[i])));
      if (in_piece == length_) {
        matches.push_back({i, i});
        in_piece = 0;
      }
      ++in_piece;
      i += size;
      matches.back().end = i;
    }
    return OkStatus();
  }

 private:
  size_t length_;
};

// Puts `prefix` before the pieces that need it; `to_text` appends the piece's new spelling.
template <typename Needs, typename ToText>
void Rewrite(PreTokenized& p, std::string_view prefix, Needs needs_prefix, ToText to_text) {
  std::string text;
  text.reserve(p.text.size() + prefix.size() * p.pieces.size());
  std::vector<Span> pieces;
  pieces.reserve(p.pieces.size());
  for (size_t i = 0; i < p.pieces.size(); ++i) {
    const auto begin = static_cast<uint32_t>(text.size());
    if (needs_prefix(i)) text += prefix;
    to_text(p.Piece(i), text);
    pieces.push_back({begin, static_cast<uint32_t>(text.size())});
  }
  p.Replace(std::move(text), std::move(pieces));
}

class ByteLevelStep : public PreTokenizer {
 public:
  ByteLevelStep(bool add_prefix_space, std::unique_ptr<PreTokenizer> cut, bool map_characters)
      : add_prefix_space_(add_prefix_space),
        cut_(std::move(cut)),
        map_characters_(map_characters) {}

  Status Apply(PreTokenized& p) const override {
    const auto needs = [&](size_t i) { return p.Piece(i).front() != ' '; };
    bool any = false;
    for (size_t i = 0; add_prefix_space_ && !any && i < p.pieces.size(); ++i) any = needs(i);
    if (any) Rewrite(p, " ", needs, [](std::string_view s, std::string& out) { out += s; });
    if (cut_ != nullptr) TRIREME_RETURN_IF_ERROR(cut_->Apply(p));
    if (map_characters_)
      Rewrite(
          p, "", [](size_t) { return false; }, AppendByteLevel);
    return OkStatus();
  }

 private:
  bool add_prefix_space_;
  std::unique_ptr<PreTokenizer> cut_;
  bool map_characters_;
};

class MetaspaceStep : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kNever, kFirst };
  MetaspaceStep(std::string mark, Prepend prepend, bool split)
      : mark_(std::move(mark)), prepend_(prepend) {
    if (split)
      cut_ =
          std::make_unique<SplitStep>(MakeLiteralSplitter(mark_), Behavior::kMergedWithNext, false);
  }

  Status Apply(PreTokenized& p) const override {
    const auto needs = [&](size_t i) {
      const std::string_view piece = p.Piece(i);
      if (piece.starts_with(' ') || piece.starts_with(mark_)) return false;
      return prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && i == 0 && p.at_start);
    };
    Rewrite(p, mark_, needs, [&](std::string_view piece, std::string& out) {
      for (const char c : piece)
        if (c == ' ')
          out += mark_;
        else
          out += c;
    });
    return cut_ == nullptr ? OkStatus() : cut_->Apply(p);
  }

 private:
  std::string mark_;
  Prepend prepend_;
  std::unique_ptr<PreTokenizer> cut_;
};

class WordMarkCutter : public PreTokenizer {
 public:
  Status Apply(PreTokenized& p) const override {
    constexpr std::string_view kMark = "\xe2\x96\x81";
    std::vector<Span> out;
    out.reserve(p.text.size() / 4 + p.pieces.size());
    for (const Span& piece : p.pieces) {
      const std::string_view text = p.text.substr(0, piece.end);
      uint32_t begin = piece.begin;
      size_t at = text.find(kMark, begin);
      while (at != text.npos) {
        if (at > begin) out.push_back({begin, static_cast<uint32_t>(at)});
        begin = static_cast<uint32_t>(at);
        // A run of marks stays together.
        size_t end = at + kMark.size();
        while (text.substr(end).starts_with(kMark)) end += kMark.size();
        at = text.find(kMark, end);
      }
      if (begin < piece.end) out.push_back({begin, piece.end});
    }
    p.pieces = std::move(out);
    return OkStatus();
  }
};

class SequenceStep : public PreTokenizer {
 public:
  explicit SequenceStep(std::vector<std::unique_ptr<PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  Status Apply(PreTokenized& p) const override {
    for (const auto& step : steps_) TRIREME_RETURN_IF_ERROR(step->Apply(p));
    return OkStatus();
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

using MadeStep = StatusOr<std::unique_ptr<PreTokenizer>>;

MadeStep MakeSplit(const json& section) {
  const json& pattern = Member(section, "pattern");
  std::unique_ptr<Splitter> splitter;
  if (const std::string* literal = StringMember(pattern, "String")) {
    splitter = MakeLiteralSplitter(*literal);
  } else if (const std::string* regex = StringMember(pattern, "Regex")) {
    TRIREME_ASSIGN_OR_RETURN(splitter, MakeRegexSplitter(*regex));
  } else {
    return InvalidArgument("pre_tokenizer: Split needs a pattern with String or Regex");
  }
  TRIREME_ASSIGN_OR_RETURN(const Behavior behavior,
                           ParseBehavior(StringOr(section, "behavior", "Removed")));
  return MadeStep(
      std::make_unique<SplitStep>(std::move(splitter), behavior, BoolOr(section, "invert", false)));
}

MadeStep MakeByteLevel(const json& section, bool map_characters) {
  std::unique_ptr<PreTokenizer> cut;
  if (BoolOr(section, "use_regex", true)) {
    TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Splitter> splitter,
                             MakeRegexSplitter(kByteLevelPattern));
    cut = std::make_unique<SplitStep>(std::move(splitter), Behavior::kIsolated, false);
  }
  return MadeStep(std::make_unique<ByteLevelStep>(BoolOr(section, "add_prefix_space", true),
                                                  std::move(cut), map_characters));
}

MadeStep MakeMetaspace(const json& section) {
  using Prepend = MetaspaceStep::Prepend;
  const std::string mark = StringOr(section, "replacement", "\xe2\x96\x81");
  if (mark.empty()) return InvalidArgument("pre_tokenizer: Metaspace has an empty replacement");
  const bool add = BoolOr(section, "add_prefix_space", true);
  const std::string scheme = StringOr(section, "prepend_scheme", add ? "always" : "never");
  Prepend prepend = Prepend::kAlways;
  if (scheme == "never")
    prepend = Prepend::kNever;
  else if (scheme == "first")
    prepend = Prepend::kFirst;
  else if (scheme != "always")
    return InvalidArgument("pre_tokenizer: prepend_scheme '{}' is not known", scheme);
  return MadeStep(std::make_unique<MetaspaceStep>(mark, prepend, BoolOr(section, "split", true)));
}

MadeStep MakeSequence(const json& section, bool bytes_follow) {
  const json& members = Member(section, "pretokenizers");
  if (!members.is_array())
    return InvalidArgument("pre_tokenizer: Sequence needs the list pretokenizers");
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  for (size_t i = 0; i < members.size(); ++i) {
    TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<PreTokenizer> step,
                             MakePreTokenizer(members[i], bytes_follow && i + 1 == members.size()));
    steps.push_back(std::move(step));
  }
  return MadeStep(std::make_unique<SequenceStep>(std::move(steps)));
}

MadeStep MakeBert() {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  steps.push_back(CharStep(unicode::IsWhiteSpace, Behavior::kRemoved));
  steps.push_back(CharStep(unicode::IsPunctuationOrAsciiSymbol, Behavior::kIsolated));
  return MadeStep(std::make_unique<SequenceStep>(std::move(steps)));
}

bool IsNumeric(uint32_t c) { return unicode::IsNumber(unicode::CategoryOf(c)); }

MadeStep MakeCharDelimiter(const json& section) {
  const std::string delimiter = StringOr(section, "delimiter", "");
  if (delimiter.empty())
    return InvalidArgument("pre_tokenizer: CharDelimiterSplit needs a delimiter");
  return MadeStep(
      std::make_unique<SplitStep>(MakeLiteralSplitter(delimiter), Behavior::kRemoved, false));
}

}  // namespace

StatusOr<std::unique_ptr<PreTokenizer>> MakePreTokenizer(const json& section, bool bytes_follow) {
  const std::string type = StringOr(section, "type", "");
  if (type == "Sequence") return MakeSequence(section, bytes_follow);
  if (type == "ByteLevel") return MakeByteLevel(section, !bytes_follow);
  if (type == "Split") return MakeSplit(section);
  if (type == "Metaspace") return MakeMetaspace(section);
  if (type == "BertPreTokenizer") return MakeBert();
  if (type == "WhitespaceSplit") return CharStep(unicode::IsWhiteSpace, Behavior::kRemoved);
  if (type == "CharDelimiterSplit") return MakeCharDelimiter(section);
  if (type == "Whitespace")
    return MadeStep(
        std::make_unique<SplitStep>(std::make_unique<WordRunSplitter>(), Behavior::kRemoved, true));
  if (type == "Digits")
    return CharStep(IsNumeric, BoolOr(section, "individual_digits", false) ? Behavior::kIsolated
                                                                           : Behavior::kContiguous);
  if (type == "Punctuation") {
    TRIREME_ASSIGN_OR_RETURN(const Behavior behavior,
                             ParseBehavior(StringOr(section, "behavior", "Isolated")));
    return CharStep(unicode::IsPunctuationOrAsciiSymbol, behavior);
  }
  if (type == "UnicodeScripts")
    return MadeStep(
        std::make_unique<SplitStep>(std::make_unique<ScriptSplitter>(), Behavior::kRemoved, true));
  if (type == "FixedLength") {
    const int64_t length = IntegerOr(section, "length", 0);
    if (length <= 0) return InvalidArgument("pre_tokenizer: FixedLength needs a positive length");
    return MadeStep(std::make_unique<SplitStep>(
        std::make_unique<FixedLengthSplitter>(static_cast<size_t>(length)), Behavior::kRemoved,
        true));
  }
  return Unimplemented("pre_tokenizer type '{}' is not supported", type);
}

bool EndsWithByteLevel(const json& section) {
  const std::string type = StringOr(section, "type", "");
  if (type == "ByteLevel") return true;
  const json& members = Member(section, "pretokenizers");
  if (type != "Sequence" || !members.is_array() || members.empty()) return false;
  // A ByteLevel step before the last maps characters that later steps then see.
  for (size_t i = 0; i + 1 < members.size(); ++i)
    if (members[i].dump().find("\"ByteLevel\"") != std::string::npos) return false;
  return EndsWithByteLevel(members.back());
}

std::unique_ptr<PreTokenizer> MakeWordMarkCutter() { return std::make_unique<WordMarkCutter>(); }

}  // namespace trireme
