// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back: Tokenizer (immutable after Load, thread-safe), DecodeStream and
// Detokenizer (one per output stream, one thread at a time).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/status.h"

namespace trireme {

// Token ids to text, one token at a time, at constant cost per token. The text appended over the
// life of a stream equals what Tokenizer::Decode returns for the same ids. Only whole code points
// are appended; bytes that can never become one turn into U+FFFD.
class DecodeStream {
 public:
  virtual ~DecodeStream();
  // Appends to `out` the text that `id` makes certain. An id out of range adds nothing.
  virtual void Append(int32_t id, std::string& out) = 0;
  // Appends what was held back. The stream must not be used afterwards.
  virtual void Finish(std::string& out) = 0;
};

// What the `truncation` and `padding` sections of a tokenizer.json ask for. Encode never applies
// them by itself: a served prompt is not cut silently. EncodeAsConfigured does.
struct EncodeLimits {
  struct Truncation {
    size_t max_length = 0;
    bool from_left = false;
  };
  struct Padding {
    size_t fixed_length = 0;  // 0: pad to the longest text of a batch
    size_t multiple_of = 0;   // 0: any length
    int32_t pad_id = 0;
    bool on_left = false;
  };
  std::optional<Truncation> truncation;
  std::optional<Padding> padding;
};

class Tokenizer {
 public:
  // Reads a model folder: tokenizer.json if there is one, else vocab.json with merges.txt, else a
  // SentencePiece tokenizer.model, else a tiktoken file; then tokenizer_config.json,
  // special_tokens_map.json, added_tokens.json and generation_config.json.
  static StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& dir);
  virtual ~Tokenizer();

  // `text` must be valid UTF-8. Special tokens written out in the text become their ids.
  virtual StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                                bool add_special_tokens) const = 0;
  virtual StatusOr<std::string> Decode(std::span<const int32_t> ids,
                                       bool skip_special_tokens) const = 0;

  virtual int vocab_size() const = 0;  // including added tokens: largest id + 1
  virtual std::optional<int32_t> bos_id() const = 0;
  virtual std::optional<int32_t> eos_id() const = 0;
  virtual std::optional<int32_t> pad_id() const = 0;
  virtual std::optional<int32_t> TokenToId(std::string_view token) const = 0;
  virtual std::string IdToToken(int32_t id) const = 0;  // "" when out of range
  virtual bool IsSpecial(int32_t id) const = 0;
  // The raw bytes the token stands for in the middle of a text; may be part of a code point.
  virtual std::string TokenBytes(int32_t id) const = 0;

  // All ids that end a generation: eos and those of generation_config.json.
  virtual std::vector<int32_t> end_ids() const;
  virtual EncodeLimits limits() const;
  // Encode, then the truncation and fixed padding that limits() names.
  virtual StatusOr<std::vector<int32_t>> EncodeAsConfigured(std::string_view text,
                                                            bool add_special_tokens) const;
  // A new stream; it borrows the tokenizer. The default joins TokenBytes.
  virtual std::unique_ptr<DecodeStream> NewDecodeStream(bool skip_special_tokens) const;
};

struct DetokenizerOptions {
  bool skip_special_tokens = true;
  // Text generation ends where one of these is first complete; empty strings are ignored.
  std::vector<std::string> stop_strings;
  bool include_stop_string = false;
};

// A DecodeStream with stop strings. Borrows the tokenizer.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, DetokenizerOptions options);
  ~Detokenizer();
  Detokenizer(Detokenizer&&) noexcept;
  Detokenizer& operator=(Detokenizer&&) noexcept;

  // Appends one token; returns the text that is now certain (may be empty). Text that may still
  // turn out to be the beginning of a stop string is held back. Once stopped, adds nothing.
  std::string Append(int32_t id);
  // Flushes what was held back.
  std::string Finish();
  // Whether a stop string ended the text, and which one.
  bool stopped() const;
  const std::string& stop_string() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trireme
