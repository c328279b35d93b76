// SPDX-License-Identifier: Apache-2.0
// Unigram model: the cut of a word with the highest sum of scores (Viterbi). Immutable,
// thread-safe. Linear in the text for a given vocabulary.
#pragma once

#include <memory>
#include <vector>

#include "text/model.h"
#include "text/trie.h"
#include "text/vocab.h"

namespace trireme {

struct UnigramOptions {
  int32_t unk_id = -1;
  bool byte_fallback = false;  // unknown text becomes <0xNN> tokens, if all exist
  bool fuse_unk = true;        // a run of unknown characters becomes one token
  // Sums in float, as SentencePiece does, or in double, as tokenizer.json readers do: ties and
  // near ties fall accordingly.
  bool single_precision = false;
  // How far the score of an unknown character lies below the lowest score.
  double unk_penalty = 10.0;
  std::optional<double> lowest_score;  // where it is not that of all tokens
};

class Unigram : public Model {
 public:
  // `scores` by id; a NaN score keeps a token out of the search.
  static StatusOr<std::unique_ptr<Unigram>> Make(UnigramOptions options, Vocab vocab,
                                                 std::vector<double> scores);

  Status Encode(std::string_view text, std::span<const Span> words,
                std::vector<int32_t>& ids) const override;
  std::optional<int32_t> TokenToId(std::string_view token) const override;
  std::string IdToToken(int32_t id) const override { return vocab_.Literal(id); }
  int32_t id_limit() const override { return vocab_.id_limit(); }

 private:
  Unigram(UnigramOptions options, Vocab vocab)
      : options_(options), vocab_(Finished(std::move(vocab))) {}
  template <typename Real>
  Status EncodeWord(std::string_view word, std::vector<int32_t>& ids) const;
  Status AppendUnknown(std::string_view text, std::vector<int32_t>& ids) const;

  UnigramOptions options_;
  Vocab vocab_;
  Trie trie_;
  std::vector<double> scores_;
  std::vector<int32_t> byte_ids_;  // 256, or none
  double unk_score_ = 0;
};

}  // namespace trireme
