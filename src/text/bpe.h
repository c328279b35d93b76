// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding over bytes or characters. Immutable, thread-safe.
//
// A word starts as one symbol per byte (byte-level vocabulary) or per character; then the
// adjacent pair with the lowest rank, the leftmost of equals, is merged until none is left. Words
// up to kShortWord bytes are scanned, several in turns, so that the table look-ups of one overlap
// the work on the others; longer ones take a heap: O(n log n).
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <unordered_set>

#include "text/literal_matcher.h"
#include "text/model.h"
#include "text/pair_table.h"
#include "text/vocab.h"
#include "text/word_cache.h"

namespace trireme {

struct BpeOptions {
  std::string unk_token;  // "": characters without a token vanish
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  bool fuse_unk = false;       // a run of unknown characters becomes one unknown token
  bool byte_fallback = false;  // unknown characters become their <0xNN> tokens, if all exist
  bool ignore_merges = false;  // a word that is a token is that token
};

class Bpe : public Model {
 public:
  // Merges are added in order of rank; then Finish.
  Bpe(BpeOptions options, Vocab vocab);
  void ReserveMerges(size_t merges) { pairs_.Reserve(merges); }
  // Literals as in the file, as many at once as there are. The results must be tokens.
  struct Literals {
    std::string_view left, right;
  };
  static constexpr size_t kMaxMerges = 32;
  Status AddMerges(std::span<const Literals> merges);
  // Any two tokens that together spell a third may merge, with the rank of the third; UINT32_MAX:
  // the token is no result of a merge.
  void AddMergesOfSplits(std::span<const uint32_t> rank_of_id);
  // Makes a token whole wherever its text occurs, the longest such token first; it never merges.
  void AddAtom(int32_t id);
  Status Finish();

  Status Encode(std::string_view text, std::span<const Span> words,
                std::vector<int32_t>& ids) const override;
  std::optional<int32_t> TokenToId(std::string_view token) const override;
  std::string IdToToken(int32_t id) const override { return vocab_.Literal(id); }
  int32_t id_limit() const override { return vocab_.id_limit(); }
  bool CutsBeforeWordMark() const override { return cuts_before_word_mark_; }
  const Vocab& vocab() const { return vocab_; }

 private:
  static constexpr size_t kShortWord = 64;
  // Whether the merges lead from a token's text back to the token, found out on first use.
  enum SelfState : uint8_t { kUnknown, kIsItself, kIsNot };

  // A short word while it is merged. Live symbols are a list linked by `next` and `previous`; a
  // dead one merges with nothing.
  struct Lane {
    // Of the pair of symbol i and the one behind it: rank << 6 | i, so that the least is the pair
    // to merge; kNoMerge up to a whole number of kScanned entries.
    alignas(64) std::array<int32_t, kShortWord> keys;
    std::array<int32_t, kShortWord> symbols;
    std::array<int32_t, kShortWord> merged;  // what that pair becomes
    std::array<uint8_t, kShortWord> next, previous;
    uint8_t size;
    // Left symbols of pairs that the last merge made and that are still to be looked up.
    std::array<uint8_t, 2> pending;
    uint8_t num_pending;
  };
  static constexpr int32_t kNoMerge = INT32_MAX;
  static constexpr size_t kScanned = 16;
  static void SetPair(Lane& lane, size_t at, Merge merge);
  struct Item;
  struct Block;

  void EncodeBlock(std::string_view text, std::span<const Span> words, WordCache& cache,
                   Block& block, std::vector<int32_t>& ids) const;
  void EncodeLong(std::string_view word, std::vector<int32_t>& ids) const;
  void StartLane(std::string_view word, Lane& lane) const;
  bool StepLane(Lane& lane) const;  // false: finished, the tokens are the first `size` symbols
  size_t SymbolsOf(std::string_view word, int32_t* symbols) const;
  void AppendCharacter(std::string_view character, bool first, bool last,
                       std::vector<int32_t>& symbols) const;
  size_t MergeLong(int32_t* symbols, size_t size) const;
  void AddPair(int32_t left, int32_t right, Merge merge);
  int32_t MergedId(std::string_view merged);
  bool EncodesToItself(int32_t id, std::string_view word) const;
  bool FindWordMarkCuts() const;

  BpeOptions options_;
  Vocab vocab_;
  PairTable pairs_;
  LiteralMatcher atoms_;
  std::unordered_set<int32_t> atom_ids_;
  uint32_t next_rank_ = 0;
  int32_t last_merged_ = 0;  // most files list merges in the order of their results
  int32_t unk_id_ = -1;
  bool affixes_ = false;
  bool cuts_before_word_mark_ = false;
  std::array<int32_t, 256> byte_ids_{};   // byte-level: the token of a byte; else of <0xNN>
  std::array<int32_t, 128> ascii_ids_{};  // character-level: the token of an ASCII character
  // Byte-level: the merge of two bytes at [left << 8 | right].
  std::vector<Merge> byte_pairs_;
  uint64_t serial_;  // of this model, for the caches of threads
  // A cache of answers that depend on immutable data only, so relaxed races are harmless.
  mutable std::unique_ptr<std::atomic<uint8_t>[]> self_;
};

}  // namespace trireme
