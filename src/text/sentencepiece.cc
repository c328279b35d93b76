// SPDX-License-Identifier: Apache-2.0
#include "text/sentencepiece.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "text/bpe.h"
#include "text/literal_matcher.h"
#include "text/unigram.h"
#include "text/utf8.h"

namespace trireme {
namespace {

constexpr std::string_view kMark = "\xe2\x96\x81";

// A reader of protocol buffers' wire format; fields come in any order, unknown ones are passed
// over.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}

  struct Field {
    uint64_t number = 0;
    uint64_t value = 0;      // varint or fixed
    std::string_view bytes;  // length-delimited
  };
  bool AtEnd() const { return at_ == bytes_.size(); }
  // False: damaged.
  bool Next(Field& field) {
    uint64_t tag = 0;
    if (!Varint(tag)) return false;
    field = {};
    field.number = tag >> 3;
    switch (tag & 7) {
      case 0: return Varint(field.value);
      case 1: return Fixed(8, field.value);
      case 5: return Fixed(4, field.value);
      case 2: {
        uint64_t size = 0;
        if (!Varint(size) || size > bytes_.size() - at_) return false;
        field.bytes = bytes_.substr(at_, size);
        at_ += size;
        return true;
      }
      default: return false;
    }
  }

 private:
  bool Varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool Fixed(size_t size, uint64_t& value) {
    if (size > bytes_.size() - at_) return false;
    std::memcpy(&value, bytes_.data() + at_, size);
    at_ += size;
    return true;
  }

  std::string_view bytes_;
  size_t at_ = 0;
};

enum class PieceType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};
enum class ModelType { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

struct Piece {
  std::string_view text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct ModelFile {
  std::vector<Piece> pieces;
  ModelType type = ModelType::kUnigram;
  bool byte_fallback = false;
  bool suffix_mark = false;  // white space goes behind a word
  int64_t bos_id = 1, eos_id = 2, pad_id = -1;
  std::string_view unk_surface = " \xe2\x81\x87 ";
  std::string_view chars_map;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

Status Damaged() { return InvalidArgument("not a SentencePiece model, or damaged"); }

// An int32 is written as the 64-bit varint of its sign extension.
int64_t SignedId(uint64_t value) { return static_cast<int32_t>(static_cast<uint32_t>(value)); }

Status ReadPiece(std::string_view bytes, Piece& piece) {
  WireReader reader(bytes);
  WireReader::Field field;
  while (!reader.AtEnd()) {
    if (!reader.Next(field)) return Damaged();
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) {
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, 4);
    }
    if (field.number == 3) {
      if (field.value < 1 || field.value > 6)
        return InvalidArgument("piece type {} is not known", field.value);
      piece.type = static_cast<PieceType>(field.value);
    }
  }
  if (!std::isfinite(piece.score))
    return InvalidArgument("piece '{}' has no finite score", piece.text);
  if (utf8::FindInvalid(piece.text) != std::string_view::npos)
    return InvalidArgument("a piece is not valid UTF-8");
  return OkStatus();
}

Status ReadTrainerSpec(std::string_view bytes, ModelFile& model) {
  WireReader reader(bytes);
  WireReader::Field field;
  while (!reader.AtEnd()) {
    if (!reader.Next(field)) return Damaged();
    switch (field.number) {
      case 3:
        if (field.value < 1 || field.value > 4)
          return InvalidArgument("model type {} is not known", field.value);
        model.type = static_cast<ModelType>(field.value);
        break;
      case 24: model.suffix_mark = field.value != 0; break;
      case 35: model.byte_fallback = field.value != 0; break;
      case 41: model.bos_id = SignedId(field.value); break;
      case 42: model.eos_id = SignedId(field.value); break;
      case 43: model.pad_id = SignedId(field.value); break;
      case 44: model.unk_surface = field.bytes; break;
      default: break;
    }
  }
  return OkStatus();
}

Status ReadNormalizerSpec(std::string_view bytes, ModelFile& model) {
  WireReader reader(bytes);
  WireReader::Field field;
  while (!reader.AtEnd()) {
    if (!reader.Next(field)) return Damaged();
    switch (field.number) {
      case 2: model.chars_map = field.bytes; break;
      case 3: model.add_dummy_prefix = field.value != 0; break;
      case 4: model.remove_extra_whitespaces = field.value != 0; break;
      case 5: model.escape_whitespaces = field.value != 0; break;
      default: break;
    }
  }
  return OkStatus();
}

StatusOr<ModelFile> ReadModelFile(std::string_view bytes) {
  ModelFile model;
  WireReader reader(bytes);
  WireReader::Field field;
  while (!reader.AtEnd()) {
    if (!reader.Next(field)) return Damaged();
    if (field.number == 1) {
      if (model.pieces.size() >= static_cast<size_t>(Vocab::kMaxId))
        return InvalidArgument("more than {} pieces", Vocab::kMaxId);
      TRIREME_RETURN_IF_ERROR(ReadPiece(field.bytes, model.pieces.emplace_back()));
    }
    if (field.number == 2) TRIREME_RETURN_IF_ERROR(ReadTrainerSpec(field.bytes, model));
    if (field.number == 3) TRIREME_RETURN_IF_ERROR(ReadNormalizerSpec(field.bytes, model));
  }
  if (model.pieces.empty()) return Damaged();
  return model;
}

// The character map, then white space: runs folded to one and ends stripped (if asked), a space
// put before (or behind) the text, spaces spelled as word marks.
class PieceNormalizer : public Normalizer {
 public:
  PieceNormalizer(const ModelFile& model, CharsMap map, LiteralMatcher kept, bool prefix_each_part)
      : map_(std::move(map)),
        kept_(std::move(kept)),
        space_(model.escape_whitespaces ? kMark : " "),
        fold_(model.remove_extra_whitespaces),
        prefix_(model.add_dummy_prefix && !model.suffix_mark),
        suffix_(model.add_dummy_prefix && model.suffix_mark),
        prefix_each_part_(prefix_each_part) {}

  Status Apply(std::string_view& text, std::string& storage, bool at_start) const override {
    std::string out;
    out.reserve(text.size() + text.size() / 4 + 8);
    size_t at = 0;
    while (fold_ && at < text.size()) {
      const auto [piece, size] = NextPiece(text.substr(at));
      if (piece != " ") break;
      at += size;
    }
    const bool any = at < text.size();
    if (any && prefix_ && (prefix_each_part_ || at_start)) out += space_;
    bool after_space = fold_;
    while (at < text.size()) {
      auto [piece, size] = NextPiece(text.substr(at));
      at += size;
      while (after_space && piece.starts_with(' ')) piece.remove_prefix(1);
      if (piece.empty()) continue;
      for (const char c : piece)
        if (c == ' ')
          out += space_;
        else
          out += c;
      after_space = fold_ && piece.ends_with(' ');
    }
    while (fold_ && out.ends_with(space_)) out.resize(out.size() - space_.size());
    if (any && suffix_) out += space_;
    storage = std::move(out);
    text = storage;
    return OkStatus();
  }

 private:
  // The normal form of the beginning of `text` and how many bytes of it that stands for.
  std::pair<std::string_view, size_t> NextPiece(std::string_view text) const {
    size_t size = 0;
    if (kept_.LongestPrefix(text, size) >= 0) return {text.substr(0, size), size};
    if (const CharsMap::Found found = map_.Longest(text); found.size > 0)
      return {found.replacement, found.size};
    size = utf8::Length(static_cast<uint8_t>(text[0]));
    return {text.substr(0, size), size};
  }

  CharsMap map_;
  LiteralMatcher kept_;  // user-defined pieces stay as they are
  std::string space_;
  bool fold_, prefix_, suffix_, prefix_each_part_;
};

StatusOr<std::unique_ptr<Model>> MakePieceBpe(const ModelFile& file, Vocab vocab) {
  std::string unk;
  for (const Piece& piece : file.pieces)
    if (piece.type == PieceType::kUnknown) unk = piece.text;
  auto bpe = std::make_unique<Bpe>(
      BpeOptions{.unk_token = unk, .fuse_unk = true, .byte_fallback = file.byte_fallback},
      std::move(vocab));
  // Higher scores go first, equal ones together.
  std::vector<float> scores;
  for (const Piece& piece : file.pieces) scores.push_back(piece.score);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  std::vector<uint32_t> ranks;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const Piece& piece = file.pieces[id];
    if (piece.type == PieceType::kUserDefined && !piece.text.empty())
      bpe->AddAtom(static_cast<int32_t>(id));
    const bool merges = piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined;
    const auto at = std::lower_bound(scores.begin(), scores.end(), piece.score, std::greater<>());
    ranks.push_back(merges ? static_cast<uint32_t>(at - scores.begin()) : UINT32_MAX);
  }
  bpe->ReserveMerges(file.pieces.size() * 2);
  bpe->AddMergesOfSplits(ranks);
  TRIREME_RETURN_IF_ERROR(bpe->Finish());
  return std::unique_ptr<Model>(std::move(bpe));
}

StatusOr<std::unique_ptr<Model>> MakePieceUnigram(const ModelFile& file, Vocab vocab) {
  UnigramOptions options{.byte_fallback = file.byte_fallback, .single_precision = true};
  std::vector<double> scores;
  float highest = 0, lowest = 0;
  bool any = false;
  for (const Piece& piece : file.pieces) {
    if (piece.type != PieceType::kNormal) continue;
    highest = any ? std::max(highest, piece.score) : piece.score;
    lowest = any ? std::min(lowest, piece.score) : piece.score;
    any = true;
  }
  options.lowest_score = lowest;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const Piece& piece = file.pieces[id];
    if (piece.type == PieceType::kUnknown) options.unk_id = static_cast<int32_t>(id);
    if (piece.type == PieceType::kNormal) {
      scores.push_back(piece.score);
    } else if (piece.type == PieceType::kUserDefined) {
      // Better than any cut of the same bytes into normal pieces.
      scores.push_back(static_cast<double>(piece.text.size()) * highest - 0.1);
    } else {
      scores.push_back(std::nan(""));
    }
  }
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Unigram> model,
                           Unigram::Make(options, std::move(vocab), std::move(scores)));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace

bool IsSentencePiece(std::string_view file) {
  WireReader reader(file);
  WireReader::Field field;
  Piece piece;
  return reader.Next(field) && field.number == 1 && !field.bytes.empty() &&
         ReadPiece(field.bytes, piece).ok();
}

StatusOr<TokenizerParts> ParseSentencePiece(std::string_view bytes, SentencePieceOptions options) {
  TRIREME_ASSIGN_OR_RETURN(const ModelFile file, ReadModelFile(bytes));
  TRIREME_ASSIGN_OR_RETURN(CharsMap map, CharsMap::Parse(file.chars_map));
  TokenizerParts parts;
  parts.layout = Layout::kSentencePiece;
  Vocab vocab(false);
  vocab.Reserve(file.pieces.size(), bytes.size());
  LiteralMatcher kept;
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    const Piece& piece = file.pieces[i];
    const auto id = static_cast<int64_t>(i);
    const bool matches = piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined;
    TRIREME_RETURN_IF_ERROR(matches ? vocab.Add(piece.text, id)
                                    : vocab.AddLiteralOnly(piece.text, id));
    if (piece.type == PieceType::kUserDefined) kept.Add(piece.text, static_cast<int32_t>(i));
    if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown)
      parts.control_ids.push_back(static_cast<int32_t>(i));
    if (piece.type == PieceType::kUnknown)
      parts.surfaces[static_cast<int32_t>(i)] = std::string(file.unk_surface);
  }
  kept.Finish();
  parts.normalizer = std::make_unique<PieceNormalizer>(file, std::move(map), std::move(kept),
                                                       options.prefix_each_part);
  switch (file.type) {
    case ModelType::kBpe: {
      TRIREME_ASSIGN_OR_RETURN(parts.model, MakePieceBpe(file, std::move(vocab)));
      break;
    }
    case ModelType::kUnigram: {
      TRIREME_ASSIGN_OR_RETURN(parts.model, MakePieceUnigram(file, std::move(vocab)));
      break;
    }
    default: return Unimplemented("SentencePiece models of words or characters are not supported");
  }
  const auto id_of = [&](int64_t id) {
    const bool in_range = id >= 0 && id < static_cast<int64_t>(file.pieces.size());
    return in_range ? std::optional<int32_t>(static_cast<int32_t>(id)) : std::nullopt;
  };
  parts.bos_id = id_of(file.bos_id);
  parts.eos_id = id_of(file.eos_id);
  parts.pad_id = id_of(file.pad_id);
  nlohmann::json steps = {{{"type", "Replace"}, {"pattern", {{"String", kMark}}}, {"content", " "}},
                          {{"type", "ByteFallback"}},
                          {{"type", "Fuse"}}};
  TRIREME_ASSIGN_OR_RETURN(parts.decoder,
                           Decoder::Make({{"type", "Sequence"}, {"decoders", steps}}));
  if (!file.suffix_mark && (file.add_dummy_prefix || file.remove_extra_whitespaces))
    parts.decoder->set_leading_space(file.remove_extra_whitespaces ? Decoder::LeadingSpace::kEach
                                                                   : Decoder::LeadingSpace::kOne);
  return parts;
}

}  // namespace trireme
