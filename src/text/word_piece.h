// SPDX-License-Identifier: Apache-2.0
// WordPiece (longest match first) and WordLevel (whole words). Immutable, thread-safe.
#pragma once

#include <memory>

#include "text/model.h"
#include "text/vocab.h"

namespace trireme {

struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  size_t max_input_chars_per_word = 100;  // longer words are unknown
};

class WordPiece : public Model {
 public:
  WordPiece(WordPieceOptions options, Vocab vocab);

  Status Encode(std::string_view text, std::span<const Span> words,
                std::vector<int32_t>& ids) const override;
  std::optional<int32_t> TokenToId(std::string_view token) const override;
  std::string IdToToken(int32_t id) const override { return vocab_.Literal(id); }
  int32_t id_limit() const override { return vocab_.id_limit(); }

 private:
  bool EncodeWord(std::string_view word, std::vector<int32_t>& ids) const;

  WordPieceOptions options_;
  Vocab vocab_;
  int32_t unk_id_;
};

class WordLevel : public Model {
 public:
  WordLevel(std::string unk_token, Vocab vocab);

  Status Encode(std::string_view text, std::span<const Span> words,
                std::vector<int32_t>& ids) const override;
  std::optional<int32_t> TokenToId(std::string_view token) const override;
  std::string IdToToken(int32_t id) const override { return vocab_.Literal(id); }
  int32_t id_limit() const override { return vocab_.id_limit(); }

 private:
  std::string unk_token_;
  Vocab vocab_;
  int32_t unk_id_;
};

}  // namespace trireme
