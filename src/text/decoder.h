// SPDX-License-Identifier: Apache-2.0
// Ids back to text. A Decoder is the "decoder" section compiled into one table of bytes per
// token; it is immutable and thread-safe. A TableStream runs over it for one text.
//
// A chain of decoder steps falls into two parts: steps that see each token alone, which the table
// has already applied, and steps behind Fuse (or ByteLevel) that see the whole text, which the
// stream applies as the text grows.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "trireme/tokenizer.h"

namespace trireme {

// Where in the text a token stands.
struct TokenPlace {
  bool first = false;
  bool last = false;
};

// One step on one token's text.
class TokenStep {
 public:
  virtual ~TokenStep() = default;
  virtual void Apply(std::string& token, TokenPlace place) const = 0;
};

class Decoder {
 public:
  enum class Kind : uint8_t {
    kAbsent,  // no such id
    kText,    // whole code points
    kByte,    // one byte of a run that spells code points; invalid ones are replaced one by one
    kBytes,   // bytes that join those of any neighbour
    kWhole,   // the same, but whole code points, if no neighbour began one before
  };
  struct Rendition {
    std::string_view bytes;
    Kind kind;
  };

  // `section` may be null: then tokens are joined by spaces.
  static StatusOr<std::unique_ptr<Decoder>> Make(const nlohmann::json& section);

  struct TokenSource {
    int32_t id_limit = 0;
    // The spelling of an id, "" when there is none.
    std::function<std::string(int32_t)> literal;
    // For byte-level vocabularies: sets the bytes of an id and returns true, or returns false.
    std::function<bool(int32_t, std::string_view&)> bytes;
    std::function<bool(int32_t)> is_special;
  };
  // The marks that a text's first tokens may begin with: of tokens before any text, the first to
  // begin with a space loses it (kOne), or each does (kEach). Not for single bytes.
  enum class LeadingSpace : uint8_t { kKeep, kOne, kEach };
  void set_leading_space(LeadingSpace leading_space) { leading_space_ = leading_space; }
  LeadingSpace leading_space() const { return leading_space_; }
  // Fills the table.
  void Compile(TokenSource source);

  // What the token is in the middle of a text.
  Rendition Middle(int32_t id) const {
    if (id < 0 || static_cast<size_t>(id) >= entries_.size()) return {{}, Kind::kAbsent};
    const Entry& entry = entries_[static_cast<size_t>(id)];
    return {{arena_.data() + entry.offset, entry.size}, static_cast<Kind>(entry.kind)};
  }
  bool IsSpecial(int32_t id) const { return entries_[static_cast<size_t>(id)].special; }
  // What it is at another place; kText only.
  std::string At(int32_t id, TokenPlace place) const;

  bool first_differs() const { return first_differs_; }
  bool last_differs() const { return last_differs_; }
  bool drops_repeats() const { return drops_repeats_; }

  // The steps on the whole text.
  struct WholeStep {
    std::string from;  // literal to replace by `to`; or, when empty,
    std::string to;    // the character to strip
    size_t strip_start = 0, strip_end = 0;
  };
  const std::vector<WholeStep>& whole_steps() const { return whole_steps_; }

 private:
  struct Entry {
    uint32_t offset = 0;
    uint32_t size : 28 = 0;
    uint32_t kind : 3 = 0;
    uint32_t special : 1 = 0;
  };
  Status AddStep(const nlohmann::json& section);
  Status AddReplace(const nlohmann::json& section);
  Status AddStrip(const nlohmann::json& section);
  std::string Render(const std::string& literal, TokenPlace place) const;
  Entry CompileToken(int32_t id);

  std::vector<std::unique_ptr<TokenStep>> steps_;
  std::vector<WholeStep> whole_steps_;
  bool fused_ = false;
  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool first_differs_ = false;
  bool last_differs_ = false;
  bool drops_repeats_ = false;
  LeadingSpace leading_space_ = LeadingSpace::kKeep;
  std::string arena_;
  std::vector<Entry> entries_;
  TokenSource source_;
};

// All ids at once. Every id must be below the limit.
std::string DecodeAll(const Decoder& decoder, std::span<const int32_t> ids,
                      bool skip_special_tokens);

std::unique_ptr<DecodeStream> NewTableStream(const Decoder& decoder, bool skip_special_tokens);

}  // namespace trireme
