// SPDX-License-Identifier: Apache-2.0
#include "text/decoder.h"

#include <nlohmann/json.hpp>

#include <charconv>
#include <utility>

#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/regex.h"
#include "text/utf8.h"

namespace trireme {
namespace {

using nlohmann::json;

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

class ReplaceStep : public TokenStep {
 public:
  ReplaceStep(std::string from, std::unique_ptr<Regex> regex, std::string to)
      : from_(std::move(from)), regex_(std::move(regex)), to_(std::move(to)) {}
  void Apply(std::string& token, TokenPlace place) const override {
    if (regex_ == nullptr) return ReplaceAll(token, from_, to_);
    std::vector<Span> matches;
    // A token on which the expression runs into its limits stays as it is.
    if (!regex_->FindAll(token, matches).ok()) return;
    for (size_t i = matches.size(); i-- > 0;)
      token.replace(matches[i].begin, matches[i].end - matches[i].begin, to_);
  }

 private:
  std::string from_;
  std::unique_ptr<Regex> regex_;
  std::string to_;
};

// Strips up to `start` and `end` times the character at the two ends.
class StripStep : public TokenStep {
 public:
  StripStep(std::string character, size_t start, size_t end)
      : character_(std::move(character)), start_(start), end_(end) {}
  void Apply(std::string& token, TokenPlace place) const override {
    for (size_t i = 0; i < start_ && token.starts_with(character_); ++i)
      token.erase(0, character_.size());
    for (size_t i = 0; i < end_ && token.ends_with(character_); ++i)
      token.resize(token.size() - character_.size());
  }

 private:
  std::string character_;
  size_t start_, end_;
};

// Word marks become spaces; those of the first token vanish, unless none was ever put there.
class MetaspaceStep : public TokenStep {
 public:
  MetaspaceStep(std::string mark, bool drop_first)
      : mark_(std::move(mark)), drop_first_(drop_first) {}
  void Apply(std::string& token, TokenPlace place) const override {
    ReplaceAll(token, mark_, place.first && drop_first_ ? "" : " ");
  }

 private:
  std::string mark_;
  bool drop_first_;
};

void CleanUpEnglish(std::string& token) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) ReplaceAll(token, from, to);
}

class WordPieceStep : public TokenStep {
 public:
  WordPieceStep(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void Apply(std::string& token, TokenPlace place) const override {
    if (!place.first) {
      if (token.starts_with(prefix_))
        token.erase(0, prefix_.size());
      else
        token.insert(0, " ");
    }
    if (cleanup_) CleanUpEnglish(token);
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

// The end-of-word suffix becomes a space, but not at the end of the text.
class SuffixStep : public TokenStep {
 public:
  explicit SuffixStep(std::string suffix) : suffix_(std::move(suffix)) {}
  void Apply(std::string& token, TokenPlace place) const override {
    ReplaceAll(token, suffix_, place.last ? "" : " ");
  }

 private:
  std::string suffix_;
};

class CtcStep : public TokenStep {
 public:
  CtcStep(std::string pad, std::string delimiter, bool cleanup)
      : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}
  void Apply(std::string& token, TokenPlace place) const override {
    ReplaceAll(token, pad_, "");
    if (!cleanup_) return;
    CleanUpEnglish(token);
    ReplaceAll(token, delimiter_, " ");
  }

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
};

class JoinStep : public TokenStep {
 public:
  void Apply(std::string& token, TokenPlace place) const override {
    if (!place.first) token.insert(0, " ");
  }
};

// "<0x0A>" -> 10; -1 for anything else.
int ByteOfFallbackToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = -1;
  const auto result = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return result.ptr == token.data() + 5 ? value : -1;
}

}  // namespace

Status Decoder::AddReplace(const json& section) {
  const json& pattern = Member(section, "pattern");
  std::string from = StringOr(pattern, "String", "");
  std::string to = StringOr(section, "content", "");
  const std::string* expression = StringMember(pattern, "Regex");
  if (expression == nullptr && from.empty())
    return InvalidArgument("decoder: Replace needs a pattern with String or Regex");
  if (!fused_) {
    std::unique_ptr<Regex> regex;
    if (expression != nullptr) {
      TRIREME_ASSIGN_OR_RETURN(regex, Regex::Compile(*expression));
    }
    steps_.push_back(
        std::make_unique<ReplaceStep>(std::move(from), std::move(regex), std::move(to)));
    return OkStatus();
  }
  if (expression != nullptr)
    return Unimplemented("decoder: a regular expression over the whole text cannot be streamed");
  whole_steps_.push_back({.from = std::move(from), .to = std::move(to)});
  return OkStatus();
}

Status Decoder::AddStrip(const json& section) {
  std::string character = StringOr(section, "content", " ");
  const int64_t start = IntegerOr(section, "start", 0), stop = IntegerOr(section, "stop", 0);
  constexpr int64_t kMost = 1 << 20;
  if (character.empty() || start < 0 || stop < 0 || start > kMost || stop > kMost)
    return InvalidArgument("decoder: Strip needs a character and counts from 0 to {}", kMost);
  const auto start_count = static_cast<size_t>(start), end_count = static_cast<size_t>(stop);
  if (fused_)
    whole_steps_.push_back(
        {.to = std::move(character), .strip_start = start_count, .strip_end = end_count});
  else
    steps_.push_back(std::make_unique<StripStep>(std::move(character), start_count, end_count));
  return OkStatus();
}

Status Decoder::AddStep(const json& section) {
  const std::string type = StringOr(section, "type", "");
  if (type == "Sequence") {
    const json& members = Member(section, "decoders");
    if (!members.is_array()) return InvalidArgument("decoder: Sequence needs the list decoders");
    for (const json& member : members) TRIREME_RETURN_IF_ERROR(AddStep(member));
    return OkStatus();
  }
  if (type == "Replace") return AddReplace(section);
  if (type == "Strip") return AddStrip(section);
  if (type == "Fuse") {
    fused_ = true;
    return OkStatus();
  }
  if (fused_) return Unimplemented("decoder type '{}' behind Fuse or ByteLevel", type);
  if (type == "ByteLevel") {
    byte_level_ = true;
    fused_ = true;
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
  } else if (type == "Metaspace") {
    const std::string mark = StringOr(section, "replacement", "\xe2\x96\x81");
    const bool add = BoolOr(section, "add_prefix_space", true);
    const bool drop = StringOr(section, "prepend_scheme", add ? "always" : "never") != "never";
    steps_.push_back(std::make_unique<MetaspaceStep>(mark, drop));
    first_differs_ = first_differs_ || drop;
  } else if (type == "WordPiece") {
    steps_.push_back(std::make_unique<WordPieceStep>(StringOr(section, "prefix", "##"),
                                                     BoolOr(section, "cleanup", true)));
    first_differs_ = true;
  } else if (type == "BPEDecoder") {
    steps_.push_back(std::make_unique<SuffixStep>(StringOr(section, "suffix", "</w>")));
    last_differs_ = true;
  } else if (type == "CTC") {
    steps_.push_back(std::make_unique<CtcStep>(StringOr(section, "pad_token", "<pad>"),
                                               StringOr(section, "word_delimiter_token", "|"),
                                               BoolOr(section, "cleanup", true)));
    drops_repeats_ = true;
  } else {
    return Unimplemented("decoder type '{}' is not supported", type);
  }
  return OkStatus();
}

StatusOr<std::unique_ptr<Decoder>> Decoder::Make(const json& section) {
  auto decoder = std::make_unique<Decoder>();
  if (section.is_null()) {
    decoder->steps_.push_back(std::make_unique<JoinStep>());
    decoder->first_differs_ = true;
  } else {
    TRIREME_RETURN_IF_ERROR(decoder->AddStep(section));
  }
  return decoder;
}

std::string Decoder::Render(const std::string& literal, TokenPlace place) const {
  std::string text = literal;
  for (const auto& step : steps_) step->Apply(text, place);
  return text;
}

std::string Decoder::At(int32_t id, TokenPlace place) const {
  return Render(source_.literal(id), place);
}

Decoder::Entry Decoder::CompileToken(int32_t id) {
  Entry entry;
  entry.offset = static_cast<uint32_t>(arena_.size());
  Kind kind = Kind::kText;
  std::string_view known;
  if (byte_level_ && steps_.empty() && source_.bytes(id, known)) {
    arena_.append(known);
    kind = Kind::kBytes;
  } else {
    const std::string literal = source_.literal(id);
    if (literal.empty()) return entry;
    std::string text = Render(literal, {});
    const int byte = byte_fallback_ ? ByteOfFallbackToken(text) : -1;
    if (byte >= 0) {
      arena_.push_back(static_cast<char>(byte));
      kind = Kind::kByte;
    } else if (!byte_level_) {
      arena_.append(text);
    } else {
      kind = Kind::kBytes;
      if (!DecodeByteLevel(text, arena_)) arena_.append(text);
    }
  }
  entry.size = static_cast<uint32_t>(arena_.size() - entry.offset);
  if (kind == Kind::kBytes &&
      utf8::FindInvalid(std::string_view(arena_).substr(entry.offset)) == std::string_view::npos)
    kind = Kind::kWhole;
  entry.kind = static_cast<uint32_t>(kind);
  entry.special = source_.is_special(id) ? 1 : 0;
  return entry;
}

void Decoder::Compile(TokenSource source) {
  source_ = std::move(source);
  entries_.resize(static_cast<size_t>(source_.id_limit));
  for (int32_t id = 0; id < source_.id_limit; ++id)
    entries_[static_cast<size_t>(id)] = CompileToken(id);
}

}  // namespace trireme
