// SPDX-License-Identifier: Apache-2.0
// Token <-> id table. Filled by Add..., made ready by Finish, then immutable and thread-safe.
//
// A byte-level vocabulary keeps the bytes its tokens stand for, not their spelling in the file
// ("literal"), so that text is looked up as it is. Literals with characters outside the
// byte-level alphabet can be asked for by FindLiteral but match no text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "text/large_allocator.h"

namespace trireme {

class Vocab {
 public:
  // Ids at or above this are refused: a wrong file must not cost gigabytes.
  static constexpr int64_t kMaxId = 1 << 22;

  explicit Vocab(bool byte_level) : byte_level_(byte_level) {}

  void Reserve(size_t tokens, size_t bytes);
  // A token given twice keeps its last id, an id given twice its last token, as in a JSON object.
  Status Add(std::string_view literal, int64_t id);
  // A token that stands for these bytes themselves, whatever the alphabet.
  Status AddText(std::string_view text, int64_t id);
  // A token that matches no text.
  Status AddLiteralOnly(std::string_view literal, int64_t id);

  // Called once, by the model that takes the vocabulary: nothing is found before.
  void Finish();

  // Id of the token that stands for `text`, or -1. `text` is text, not a literal.
  int32_t Find(std::string_view text) const;
  // The same for many texts, whose look-ups then wait for memory together.
  static constexpr size_t kMaxTexts = 64;
  void FindAll(std::span<const std::string_view> texts, int32_t* ids) const;
  int32_t FindLiteral(std::string_view literal) const;
  // What the token stands for; "" for an id below id_limit() that is not there.
  std::string_view Text(int32_t id) const {
    const Entry& entry = entries_[static_cast<size_t>(id)];
    return {arena_.data() + entry.offset, entry.size};
  }
  std::string Literal(int32_t id) const;
  bool Has(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < entries_.size() && entries_[id].present;
  }
  bool MatchesText(int32_t id) const { return Has(id) && !entries_[id].literal_only; }

  bool byte_level() const { return byte_level_; }
  // Largest id + 1, and the number of tokens.
  int32_t id_limit() const { return static_cast<int32_t>(entries_.size()); }
  size_t num_tokens() const { return num_tokens_; }
  size_t longest_text() const { return longest_text_; }

 private:
  struct Entry {
    uint32_t offset = 0;
    uint32_t size : 30 = 0;
    uint32_t literal_only : 1 = 0;
    uint32_t present : 1 = 0;
  };
  struct Slot {
    uint32_t tag = 0;
    int32_t id = -1;
  };

  using Slots = std::vector<Slot, LargeAllocator<Slot>>;

  // Makes what the arena holds from `offset` on the text of `id`.
  Status Place(size_t offset, int64_t id, bool literal_only);
  void Index(int32_t id, uint64_t hash);
  // The slot that holds the tag of `hash`, or the empty one that ends the search, from `at` on.
  size_t NextSlot(size_t at, uint64_t hash) const;
  int32_t FindFrom(size_t at, std::string_view text, uint64_t hash) const;

  bool byte_level_;
  std::string arena_;
  std::vector<Entry, LargeAllocator<Entry>> entries_;  // by id
  Slots slots_;                 // open addressing, power of two, at most three quarters full
  std::vector<int32_t> order_;  // ids as they were added, until Finish
  size_t num_tokens_ = 0;
  size_t longest_text_ = 0;
  std::unordered_map<std::string, int32_t> literal_only_;
};

inline Vocab Finished(Vocab vocab) {
  vocab.Finish();
  return vocab;
}

}  // namespace trireme
