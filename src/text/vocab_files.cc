// SPDX-License-Identifier: Apache-2.0
#include "text/vocab_files.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <numeric>

#include "text/base64.h"
#include "text/bpe.h"
#include "text/splitter.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"
#include "text/word_piece.h"

namespace trireme {
namespace {

using nlohmann::json;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool All(std::string_view text, bool (*is)(char)) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is);
}

// "it's", "don't": letters and an ending that other styles cut off.
bool HoldsContraction(std::string_view text) {
  const size_t at = text.find('\'');
  if (at == 0 || at == text.npos || !All(text.substr(0, at), IsLetter)) return false;
  const std::string_view ending = text.substr(at + 1);
  return ending == "s" || ending == "t" || ending == "re" || ending == "ve" || ending == "m" ||
         ending == "ll" || ending == "d";
}

// Next line without its end; false at the end of the text.
bool NextLine(std::string_view& text, std::string_view& line) {
  if (text.empty()) return false;
  const size_t end = text.find('\n');
  line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return true;
}

// Pre-tokenizer, normalizer and decoder of a byte-level vocabulary.
Status AddByteLevelParts(const CutStyle& style, bool add_prefix_space, TokenizerParts& parts) {
  if (style.nfc) {
    TRIREME_ASSIGN_OR_RETURN(parts.normalizer, MakeNormalizer({{"type", "NFC"}}));
  }
  // A space put before the text must come before the cut, which only the ByteLevel step does.
  json pre_tokenizer = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  if (!add_prefix_space) {
    pre_tokenizer = {
        {"type", "Split"}, {"pattern", {{"Regex", style.pattern}}}, {"behavior", "Isolated"}};
  }
  TRIREME_ASSIGN_OR_RETURN(parts.pre_tokenizer, MakePreTokenizer(pre_tokenizer, true));
  TRIREME_ASSIGN_OR_RETURN(parts.decoder, Decoder::Make({{"type", "ByteLevel"}}));
  return OkStatus();
}

void ShareBytes(const Vocab& vocab, TokenizerParts& parts) {
  parts.token_bytes = [&vocab](int32_t id, std::string_view& bytes) {
    if (!vocab.MatchesText(id)) return false;
    bytes = vocab.Text(id);
    return true;
  };
}

// Special tokens of tiktoken files that come without a list: chat markup and numbered extras
// for a file of its own kind, headers and reserved ones for a file called tokenizer.model.
std::vector<std::string> UnlistedSpecials(const Vocab& vocab, const TokenizerConfig& config) {
  std::vector<std::string> names;
  const bool headers =
      config.bos_token || GuessCutStyle(vocab).pattern.find("{1,3}") != std::string::npos;
  if (!headers) {
    names = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    for (int i = 0; i < 205; ++i) names.push_back(fmt::format("<|extra_{}|>", i));
    return names;
  }
  names = {"<|begin_of_text|>",
           "<|end_of_text|>",
           "<|reserved_special_token_0|>",
           "<|reserved_special_token_1|>",
           "<|finetune_right_pad_id|>",
           "<|reserved_special_token_2|>",
           "<|start_header_id|>",
           "<|end_header_id|>",
           "<|eom_id|>",
           "<|eot_id|>",
           "<|python_tag|>"};
  for (int i = 3; names.size() < 256; ++i)
    names.push_back(fmt::format("<|reserved_special_token_{}|>", i));
  return names;
}

}  // namespace

CutStyle GuessCutStyle(const Vocab& vocab) {
  size_t space_digits = 0, punctuation_letters = 0, contractions = 0, longest_number = 0;
  for (int32_t id = 0; id < vocab.id_limit(); ++id) {
    if (!vocab.MatchesText(id)) continue;
    const std::string_view text = vocab.Text(id);
    if (text.size() < 2) continue;
    if (All(text, IsDigit)) longest_number = std::max(longest_number, text.size());
    if (text[0] == ' ' && All(text.substr(1), IsDigit)) ++space_digits;
    if ((text[0] == '(' || text[0] == '.') && All(text.substr(1), IsLetter)) ++punctuation_letters;
    if (HoldsContraction(text)) ++contractions;
  }
  const size_t some = vocab.num_tokens() / 1000 + 1;
  if (space_digits >= some || punctuation_letters < some)
    return {std::string(kByteLevelPattern), false};
  const std::string number = longest_number <= 1 ? R"(\p{N})"
                             : longest_number <= 3
                                 ? fmt::format(R"(\p{{N}}{{1,{}}})", longest_number)
                                 : R"(\p{N}+)";
  if (contractions >= 20) {
    return {
        R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
        R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)" +
            number + R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
        false};
  }
  return {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + number +
              R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
          longest_number <= 1};
}

StatusOr<TokenizerParts> ParseVocabAndMerges(std::string_view vocab_text, std::string_view merges,
                                             const TokenizerConfig& config) {
  for (const std::string_view text : {vocab_text, merges})
    if (const size_t bad = utf8::FindInvalid(text); bad != text.npos)
      return InvalidArgument("not valid UTF-8 at byte {}", bad);
  TokenizerParts parts;
  parts.layout = Layout::kVocabFiles;
  Vocab vocab(true);
  TRIREME_RETURN_IF_ERROR(ReadVocab(vocab_text, vocab));
  const CutStyle style = GuessCutStyle(vocab);
  auto bpe = std::make_unique<Bpe>(BpeOptions{}, std::move(vocab));
  bpe->ReserveMerges(merges.size() / 10);
  std::array<Bpe::Literals, Bpe::kMaxMerges> pending;
  size_t count = 0;
  std::string_view line;
  for (bool first = true; NextLine(merges, line); first = false) {
    if (line.empty() || (first && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos)
      return InvalidArgument("merges.txt: '{}' is not two tokens with a space between", line);
    pending[count++] = {line.substr(0, space), line.substr(space + 1)};
    if (count < pending.size()) continue;
    TRIREME_RETURN_IF_ERROR(bpe->AddMerges(pending));
    count = 0;
  }
  TRIREME_RETURN_IF_ERROR(bpe->AddMerges(std::span(pending).first(count)));
  TRIREME_RETURN_IF_ERROR(bpe->Finish());
  ShareBytes(bpe->vocab(), parts);
  parts.model = std::move(bpe);
  TRIREME_RETURN_IF_ERROR(AddByteLevelParts(style, config.add_prefix_space.value_or(false), parts));
  return parts;
}

bool LooksLikeTiktoken(std::string_view file) {
  std::string_view line;
  if (!NextLine(file, line)) return false;
  const size_t space = line.find(' ');
  std::string bytes;
  return space != line.npos && DecodeBase64(line.substr(0, space), bytes) &&
         All(line.substr(space + 1), IsDigit);
}

StatusOr<TokenizerParts> ParseTiktoken(std::string_view file, const TokenizerConfig& config) {
  TokenizerParts parts;
  parts.layout = Layout::kTiktoken;
  Vocab vocab(true);
  vocab.Reserve(file.size() / 14, file.size() / 2);
  std::string_view line;
  std::string bytes;
  for (size_t number = 1; NextLine(file, line); ++number) {
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    bytes.clear();
    int64_t rank = -1;
    if (space != line.npos)
      std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
    if (space == line.npos || rank < 0 || !DecodeBase64(line.substr(0, space), bytes) ||
        bytes.empty())
      return InvalidArgument("line {} is not a base64 token and its rank", number);
    TRIREME_RETURN_IF_ERROR(vocab.AddText(bytes, rank));
  }
  const CutStyle style = GuessCutStyle(vocab);
  std::vector<std::string> unlisted;
  if (config.added_tokens.empty()) unlisted = UnlistedSpecials(vocab, config);
  std::vector<uint32_t> ranks(static_cast<size_t>(vocab.id_limit()));
  std::iota(ranks.begin(), ranks.end(), 0);
  auto bpe = std::make_unique<Bpe>(BpeOptions{.ignore_merges = true}, std::move(vocab));
  bpe->ReserveMerges(ranks.size() * 2);
  bpe->AddMergesOfSplits(ranks);
  TRIREME_RETURN_IF_ERROR(bpe->Finish());
  ShareBytes(bpe->vocab(), parts);
  int32_t next = bpe->id_limit();
  for (const std::string& name : unlisted)
    parts.added.Add({.content = name, .id = next++, .special = true});
  // Where a text begins, if the layout has such a token, and where it ends.
  const AddedToken* begin = unlisted.empty() ? nullptr : parts.added.Find("<|begin_of_text|>");
  if (begin != nullptr) parts.bos_id = begin->id;
  for (const char* name : {"<|end_of_text|>", "<|endoftext|>"})
    if (const AddedToken* end = parts.added.Find(name)) parts.eos_id = end->id;
  parts.model = std::move(bpe);
  TRIREME_RETURN_IF_ERROR(AddByteLevelParts(style, false, parts));
  return parts;
}

StatusOr<TokenizerParts> ParseVocabText(std::string_view file, const TokenizerConfig& config) {
  if (const size_t bad = utf8::FindInvalid(file); bad != file.npos)
    return InvalidArgument("not valid UTF-8 at byte {}", bad);
  TokenizerParts parts;
  parts.layout = Layout::kVocabFiles;
  Vocab vocab(false);
  std::string_view line;
  for (int64_t id = 0; NextLine(file, line); ++id) TRIREME_RETURN_IF_ERROR(vocab.Add(line, id));
  parts.model = std::make_unique<WordPiece>(
      WordPieceOptions{.unk_token = config.unk_token.value_or("[UNK]")}, std::move(vocab));
  const json normalizer = {{"type", "BertNormalizer"},
                           {"lowercase", config.lower_case.value_or(true)}};
  TRIREME_ASSIGN_OR_RETURN(parts.normalizer, MakeNormalizer(normalizer));
  TRIREME_ASSIGN_OR_RETURN(parts.pre_tokenizer,
                           MakePreTokenizer({{"type", "BertPreTokenizer"}}, false));
  TRIREME_ASSIGN_OR_RETURN(parts.decoder, Decoder::Make({{"type", "WordPiece"}}));
  return parts;
}

}  // namespace trireme
