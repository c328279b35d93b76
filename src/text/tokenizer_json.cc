// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <memory>

#include "text/bpe.h"
#include "text/json_fields.h"
#include "text/json_scan.h"
#include "text/unigram.h"
#include "text/utf8.h"
#include "text/word_piece.h"

namespace trireme {
namespace {

using nlohmann::json;

// A tokenizer.json as a document without the two members that make it big, and their texts.
struct Document {
  json root;
  std::string_view vocab;  // "" when absent
  std::string_view merges;
};

// Copies one object to `rest`, with `null` for each value that `take` claims. `take` sees the key
// and the cursor in front of the value, and either passes over it (true) or leaves it (false).
template <typename Take>
Status CopyObject(JsonCursor& cursor, std::string& rest, Take take) {
  TRIREME_RETURN_IF_ERROR(cursor.Expect('{'));
  rest += '{';
  std::string scratch;
  for (bool first = true; !cursor.Take('}'); first = false) {
    if (!first) {
      TRIREME_RETURN_IF_ERROR(cursor.Expect(','));
      rest += ',';
    }
    std::string_view key, value;
    const size_t key_begin = (cursor.Peek(), cursor.position());
    TRIREME_RETURN_IF_ERROR(cursor.String(scratch, key));
    rest += cursor.text().substr(key_begin, cursor.position() - key_begin);
    TRIREME_RETURN_IF_ERROR(cursor.Expect(':'));
    rest += ':';
    bool taken = false;
    TRIREME_RETURN_IF_ERROR(take(key, taken));
    if (taken) continue;
    TRIREME_RETURN_IF_ERROR(cursor.Skip(value));
    rest += value;
  }
  rest += '}';
  return OkStatus();
}

StatusOr<Document> ReadDocument(std::string_view text) {
  Document document;
  std::string rest;
  JsonCursor cursor(text);
  const auto take_model = [&](std::string_view key, bool& taken) -> Status {
    if (key != "vocab" && key != "merges") return OkStatus();
    taken = true;
    rest += "null";
    return cursor.Skip(key == "vocab" ? document.vocab : document.merges);
  };
  TRIREME_RETURN_IF_ERROR(
      CopyObject(cursor, rest, [&](std::string_view key, bool& taken) -> Status {
        if (key != "model" || cursor.Peek() != '{') return OkStatus();
        taken = true;
        return CopyObject(cursor, rest, take_model);
      }));
  document.root = json::parse(rest, nullptr, false);
  if (document.root.is_discarded()) return InvalidArgument("not valid JSON");
  return document;
}

// Merges are "left right" or ["left", "right"].
Status ReadMerges(std::string_view array, Bpe& bpe) {
  JsonCursor cursor(array);
  if (!cursor.Take('[')) return InvalidArgument("model: merges is not a list");
  std::array<std::string, 2 * Bpe::kMaxMerges> scratch;  // of literals with escapes
  std::array<Bpe::Literals, Bpe::kMaxMerges> merges;
  size_t count = 0;
  for (bool first = true; !cursor.Take(']'); first = false) {
    if (!first) TRIREME_RETURN_IF_ERROR(cursor.Expect(','));
    auto& [left, right] = merges[count];
    if (cursor.Take('[')) {
      TRIREME_RETURN_IF_ERROR(cursor.String(scratch[2 * count], left));
      TRIREME_RETURN_IF_ERROR(cursor.Expect(','));
      TRIREME_RETURN_IF_ERROR(cursor.String(scratch[2 * count + 1], right));
      TRIREME_RETURN_IF_ERROR(cursor.Expect(']'));
    } else {
      TRIREME_RETURN_IF_ERROR(cursor.String(scratch[2 * count], left));
      const size_t space = left.find(' ');
      if (space == left.npos || left.find(' ', space + 1) != left.npos)
        return InvalidArgument("model: merge '{}' is not two tokens with a space between", left);
      right = left.substr(space + 1);
      left = left.substr(0, space);
    }
    if (++count < merges.size()) continue;
    TRIREME_RETURN_IF_ERROR(bpe.AddMerges(merges));
    count = 0;
  }
  return bpe.AddMerges(std::span(merges).first(count));
}

StatusOr<std::unique_ptr<Model>> MakeBpe(const Document& document, bool byte_level,
                                         TokenizerParts& parts) {
  const json& model = document.root["model"];
  const json& dropout = Member(model, "dropout");
  if (dropout.is_number() && dropout.get<double>() != 0)
    return Unimplemented("model: dropout {} would make encoding random; set it to null",
                         dropout.get<double>());
  Vocab vocab(byte_level);
  TRIREME_RETURN_IF_ERROR(ReadVocab(document.vocab, vocab));
  auto bpe = std::make_unique<Bpe>(
      BpeOptions{.unk_token = StringOr(model, "unk_token", ""),
                 .continuing_subword_prefix = StringOr(model, "continuing_subword_prefix", ""),
                 .end_of_word_suffix = StringOr(model, "end_of_word_suffix", ""),
                 .fuse_unk = BoolOr(model, "fuse_unk", false),
                 .byte_fallback = BoolOr(model, "byte_fallback", false),
                 .ignore_merges = BoolOr(model, "ignore_merges", false)},
      std::move(vocab));
  bpe->ReserveMerges(document.merges.size() / 14);
  if (!document.merges.empty()) TRIREME_RETURN_IF_ERROR(ReadMerges(document.merges, *bpe));
  TRIREME_RETURN_IF_ERROR(bpe->Finish());
  if (byte_level) {
    parts.token_bytes = [vocab = &bpe->vocab()](int32_t id, std::string_view& bytes) {
      if (!vocab->MatchesText(id)) return false;
      bytes = vocab->Text(id);
      return true;
    };
  }
  return std::unique_ptr<Model>(std::move(bpe));
}

// The vocabulary is a list of [token, score].
StatusOr<std::unique_ptr<Model>> MakeUnigram(const Document& document) {
  const json& model = document.root["model"];
  JsonCursor cursor(document.vocab);
  if (!cursor.Take('[')) return InvalidArgument("model: vocab is not a list of tokens and scores");
  Vocab vocab(false);
  vocab.Reserve(document.vocab.size() / 32, document.vocab.size() / 3);
  std::vector<double> scores;
  std::string scratch;
  for (bool first = true; !cursor.Take(']'); first = false) {
    if (!first) TRIREME_RETURN_IF_ERROR(cursor.Expect(','));
    std::string_view token;
    double score = 0;
    TRIREME_RETURN_IF_ERROR(cursor.Expect('['));
    TRIREME_RETURN_IF_ERROR(cursor.String(scratch, token));
    TRIREME_RETURN_IF_ERROR(cursor.Expect(','));
    TRIREME_RETURN_IF_ERROR(cursor.Number(score));
    TRIREME_RETURN_IF_ERROR(cursor.Expect(']'));
    TRIREME_RETURN_IF_ERROR(vocab.Add(token, static_cast<int64_t>(scores.size())));
    scores.push_back(score);
  }
  const int64_t unk_id = IntegerOr(model, "unk_id", -1);
  if (unk_id >= static_cast<int64_t>(scores.size()))
    return InvalidArgument("model: unk_id {} is outside the vocabulary of {} tokens", unk_id,
                           scores.size());
  TRIREME_ASSIGN_OR_RETURN(
      std::unique_ptr<Unigram> unigram,
      Unigram::Make({.unk_id = static_cast<int32_t>(std::max<int64_t>(unk_id, -1)),
                     .byte_fallback = BoolOr(model, "byte_fallback", false)},
                    std::move(vocab), std::move(scores)));
  return std::unique_ptr<Model>(std::move(unigram));
}

StatusOr<std::unique_ptr<Model>> MakeWordModel(const Document& document, bool pieces) {
  const json& model = document.root["model"];
  Vocab vocab(false);
  TRIREME_RETURN_IF_ERROR(ReadVocab(document.vocab, vocab));
  if (!pieces)
    return std::unique_ptr<Model>(
        std::make_unique<WordLevel>(StringOr(model, "unk_token", "<unk>"), std::move(vocab)));
  const int64_t longest = IntegerOr(model, "max_input_chars_per_word", 100);
  if (longest < 0) return InvalidArgument("model: max_input_chars_per_word is negative");
  return std::unique_ptr<Model>(std::make_unique<WordPiece>(
      WordPieceOptions{
          .unk_token = StringOr(model, "unk_token", "[UNK]"),
          .continuing_subword_prefix = StringOr(model, "continuing_subword_prefix", "##"),
          .max_input_chars_per_word = static_cast<size_t>(longest)},
      std::move(vocab)));
}

// Files from before the type was written tell it by their members.
std::string TypeOfModel(const Document& document) {
  const json& model = Member(document.root, "model");
  if (const std::string* type = StringMember(model, "type")) return *type;
  if (!document.merges.empty()) return "BPE";
  if (document.vocab.starts_with('[')) return "Unigram";
  return model.is_object() && model.contains("max_input_chars_per_word") ? "WordPiece"
                                                                         : "WordLevel";
}

StatusOr<std::unique_ptr<Model>> MakeModel(const Document& document, bool byte_level,
                                           TokenizerParts& parts) {
  if (!Member(document.root, "model").is_object())
    return InvalidArgument("the member 'model' is missing");
  const std::string type = TypeOfModel(document);
  if (type == "BPE") return MakeBpe(document, byte_level, parts);
  if (type == "Unigram") return MakeUnigram(document);
  if (type == "WordPiece" || type == "WordLevel")
    return MakeWordModel(document, type == "WordPiece");
  return Unimplemented("model type '{}' is not supported", type);
}

Status ReadAddedTokens(const json& list, TokenizerParts& parts) {
  if (list.is_null()) return OkStatus();
  if (!list.is_array()) return InvalidArgument("added_tokens is not a list");
  for (const json& item : list) {
    AddedToken token;
    token.content = StringOr(item, "content", "");
    token.single_word = BoolOr(item, "single_word", false);
    token.lstrip = BoolOr(item, "lstrip", false);
    token.rstrip = BoolOr(item, "rstrip", false);
    token.special = BoolOr(item, "special", false);
    token.normalized = BoolOr(item, "normalized", !token.special);
    const int64_t id = IntegerOr(item, "id", -1);
    if (id < 0 || id >= Vocab::kMaxId)
      return InvalidArgument("added token '{}' has no id in [0, {})", token.content, Vocab::kMaxId);
    // The model's own id of a token goes before the one written here.
    token.id = parts.model->TokenToId(token.content).value_or(static_cast<int32_t>(id));
    parts.added.Add(std::move(token));
  }
  return OkStatus();
}

// Post-processors put ids round a text. `before` and `behind` collect those of nested ones, the
// outermost last.
Status AddTemplate(const json& section, TokenizerParts& parts) {
  const json& items = Member(section, "single");
  const json& specials = Member(section, "special_tokens");
  if (!items.is_array())
    return InvalidArgument("post_processor: TemplateProcessing without 'single'");
  std::vector<int32_t> before, behind;
  bool after_text = false;
  for (const json& item : items) {
    if (item.contains("Sequence")) {
      if (after_text || StringOr(Member(item, "Sequence"), "id", "A") != "A")
        return Unimplemented("post_processor: a template that does not hold the text once");
      after_text = true;
      continue;
    }
    const std::string name = StringOr(Member(item, "SpecialToken"), "id", "");
    const json& ids = Member(Member(specials, name.c_str()), "ids");
    if (!ids.is_array())
      return InvalidArgument("post_processor: special token '{}' of the template has no ids", name);
    for (const json& id : ids) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= Vocab::kMaxId)
        return InvalidArgument("post_processor: special token '{}' has a wrong id", name);
      (after_text ? behind : before).push_back(id.get<int32_t>());
    }
  }
  if (!after_text) return Unimplemented("post_processor: a template without the text");
  parts.prefix_ids.insert(parts.prefix_ids.begin(), before.begin(), before.end());
  parts.suffix_ids.insert(parts.suffix_ids.end(), behind.begin(), behind.end());
  return OkStatus();
}

// "cls" and "sep" are pairs of token and id.
Status AddClsSep(const json& section, TokenizerParts& parts) {
  for (const char* key : {"cls", "sep"}) {
    const json& pair = Member(section, key);
    if (!pair.is_array() || pair.size() != 2 || !pair[1].is_number_integer())
      return InvalidArgument("post_processor: '{}' is not a pair of token and id", key);
    (*key == 'c' ? parts.prefix_ids : parts.suffix_ids).push_back(pair[1].get<int32_t>());
  }
  return OkStatus();
}

Status AddPostProcessor(const json& section, TokenizerParts& parts) {
  if (section.is_null()) return OkStatus();
  const std::string type = StringOr(section, "type", "");
  if (type == "Sequence") {
    for (const json& member : Member(section, "processors"))
      TRIREME_RETURN_IF_ERROR(AddPostProcessor(member, parts));
    return OkStatus();
  }
  if (type == "ByteLevel") return OkStatus();  // changes offsets only
  if (type == "TemplateProcessing") return AddTemplate(section, parts);
  if (type == "BertProcessing" || type == "RobertaProcessing") return AddClsSep(section, parts);
  return Unimplemented("post_processor type '{}' is not supported", type);
}

Status ReadLimits(const json& root, EncodeLimits& limits) {
  if (const json& section = Member(root, "truncation"); section.is_object()) {
    const int64_t length = IntegerOr(section, "max_length", -1);
    if (length < 0) return InvalidArgument("truncation: max_length is missing");
    limits.truncation = {static_cast<size_t>(length),
                         StringOr(section, "direction", "Right") == "Left"};
  }
  if (const json& section = Member(root, "padding"); section.is_object()) {
    EncodeLimits::Padding padding;
    const int64_t fixed = IntegerOr(Member(section, "strategy"), "Fixed", 0);
    const int64_t multiple = IntegerOr(section, "pad_to_multiple_of", 0);
    constexpr int64_t kMost = 1 << 24;
    if (fixed < 0 || fixed > kMost || multiple < 0 || multiple > kMost)
      return InvalidArgument("padding: a length is outside [0, {}]", kMost);
    padding.fixed_length = static_cast<size_t>(fixed);
    padding.multiple_of = static_cast<size_t>(multiple);
    padding.pad_id = static_cast<int32_t>(IntegerOr(section, "pad_id", 0));
    padding.on_left = StringOr(section, "direction", "Right") == "Left";
    limits.padding = padding;
  }
  return OkStatus();
}

}  // namespace

Status ReadVocab(std::string_view object, Vocab& vocab) {
  JsonCursor cursor(object);
  if (!cursor.Take('{')) return InvalidArgument("model: vocab is not an object of tokens and ids");
  vocab.Reserve(object.size() / 16, object.size() / 2);
  std::string scratch;
  for (bool first = true; !cursor.Take('}'); first = false) {
    if (!first) TRIREME_RETURN_IF_ERROR(cursor.Expect(','));
    std::string_view token;
    int64_t id = 0;
    TRIREME_RETURN_IF_ERROR(cursor.String(scratch, token));
    TRIREME_RETURN_IF_ERROR(cursor.Expect(':'));
    TRIREME_RETURN_IF_ERROR(cursor.Integer(id));
    TRIREME_RETURN_IF_ERROR(vocab.Add(token, id));
  }
  return OkStatus();
}

StatusOr<TokenizerParts> ParseTokenizerJson(std::string_view text) {
  if (const size_t bad = utf8::FindInvalid(text); bad != text.npos)
    return InvalidArgument("not valid UTF-8 at byte {}", bad);
  TRIREME_ASSIGN_OR_RETURN(const Document document, ReadDocument(text));
  const json& root = document.root;
  TokenizerParts parts;
  if (const json& section = Member(root, "normalizer"); !section.is_null()) {
    TRIREME_ASSIGN_OR_RETURN(parts.normalizer, MakeNormalizer(section));
  }
  const json& pre_tokenizer = Member(root, "pre_tokenizer");
  // Other models look up words as the pre-tokenizer spells them.
  const bool byte_level = TypeOfModel(document) == "BPE" && EndsWithByteLevel(pre_tokenizer);
  if (!pre_tokenizer.is_null()) {
    TRIREME_ASSIGN_OR_RETURN(parts.pre_tokenizer, MakePreTokenizer(pre_tokenizer, byte_level));
  }
  TRIREME_ASSIGN_OR_RETURN(parts.model, MakeModel(document, byte_level, parts));
  TRIREME_RETURN_IF_ERROR(ReadAddedTokens(Member(root, "added_tokens"), parts));
  TRIREME_RETURN_IF_ERROR(AddPostProcessor(Member(root, "post_processor"), parts));
  TRIREME_ASSIGN_OR_RETURN(parts.decoder, Decoder::Make(Member(root, "decoder")));
  TRIREME_RETURN_IF_ERROR(ReadLimits(root, parts.limits));
  return parts;
}

}  // namespace trireme
