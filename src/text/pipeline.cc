// SPDX-License-Identifier: Apache-2.0
#include "text/pipeline.h"

#include <algorithm>

#include "base/status.h"
#include "text/utf8.h"

namespace trireme {
namespace {

// Steps may triple the size of a text and offsets have 32 bits.
constexpr size_t kMaxTextBytes = 1u << 29;

class Pipeline : public Tokenizer {
 public:
  explicit Pipeline(TokenizerParts parts) : parts_(std::move(parts)) {}

  Status Init();

  StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                        bool add_special_tokens) const override;
  StatusOr<std::vector<int32_t>> EncodeAsConfigured(std::string_view text,
                                                    bool add_special_tokens) const override;
  StatusOr<std::string> Decode(std::span<const int32_t> ids,
                               bool skip_special_tokens) const override;

  int vocab_size() const override { return id_limit_; }
  std::optional<int32_t> bos_id() const override { return parts_.bos_id; }
  std::optional<int32_t> eos_id() const override { return parts_.eos_id; }
  std::optional<int32_t> pad_id() const override { return parts_.pad_id; }
  std::optional<int32_t> TokenToId(std::string_view token) const override;
  std::string IdToToken(int32_t id) const override;
  bool IsSpecial(int32_t id) const override {
    return id >= 0 && id < id_limit_ && parts_.decoder->IsSpecial(id);
  }
  std::string TokenBytes(int32_t id) const override {
    return std::string(parts_.decoder->Middle(id).bytes);
  }
  std::vector<int32_t> end_ids() const override { return end_ids_; }
  EncodeLimits limits() const override { return parts_.limits; }
  std::unique_ptr<DecodeStream> NewDecodeStream(bool skip_special_tokens) const override {
    return NewTableStream(*parts_.decoder, skip_special_tokens);
  }

 private:
  Status EncodeText(std::string_view text, std::vector<int32_t>& ids) const;
  Status EncodeRaw(std::string_view text, bool at_start, std::vector<int32_t>& ids) const;
  Status EncodeNormalized(std::string_view text, bool at_start, std::vector<int32_t>& ids) const;
  std::string Spelling(int32_t id) const;

  TokenizerParts parts_;
  std::vector<int32_t> end_ids_;
  int32_t id_limit_ = 0;
};

Status Pipeline::Init() {
  TRIREME_RETURN_IF_ERROR(parts_.added.Finish(parts_.normalizer.get()));
  id_limit_ = parts_.model->id_limit();
  for (const AddedToken& token : parts_.added.tokens())
    id_limit_ = std::max(id_limit_, token.id + 1);
  if (parts_.eos_id) end_ids_.push_back(*parts_.eos_id);
  for (const int32_t id : parts_.end_ids)
    if (std::find(end_ids_.begin(), end_ids_.end(), id) == end_ids_.end()) end_ids_.push_back(id);
  std::sort(parts_.control_ids.begin(), parts_.control_ids.end());
  const TokenizerParts& parts = parts_;
  parts_.decoder->Compile({.id_limit = id_limit_,
                           .literal = [this](int32_t id) { return Spelling(id); },
                           .bytes =
                               [&parts](int32_t id, std::string_view& bytes) {
                                 return parts.token_bytes && parts.added.Find(id) == nullptr &&
                                        parts.token_bytes(id, bytes);
                               },
                           .is_special =
                               [&parts](int32_t id) {
                                 const AddedToken* token = parts.added.Find(id);
                                 return (token != nullptr && token->special) ||
                                        std::binary_search(parts.control_ids.begin(),
                                                           parts.control_ids.end(), id);
                               }});
  if (parts_.pre_tokenizer == nullptr && parts_.model->CutsBeforeWordMark())
    parts_.pre_tokenizer = MakeWordMarkCutter();
  return OkStatus();
}

StatusOr<std::vector<int32_t>> Pipeline::Encode(std::string_view text,
                                                bool add_special_tokens) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  if (add_special_tokens) ids = parts_.prefix_ids;
  TRIREME_RETURN_IF_ERROR(EncodeText(text, ids));
  if (add_special_tokens) ids.insert(ids.end(), parts_.suffix_ids.begin(), parts_.suffix_ids.end());
  return ids;
}

StatusOr<std::vector<int32_t>> Pipeline::EncodeAsConfigured(std::string_view text,
                                                            bool add_special_tokens) const {
  std::vector<int32_t> ids;
  TRIREME_RETURN_IF_ERROR(EncodeText(text, ids));
  const auto& prefix = parts_.prefix_ids;
  const auto& suffix = parts_.suffix_ids;
  const size_t added = add_special_tokens ? prefix.size() + suffix.size() : 0;
  if (const auto& cut = parts_.limits.truncation) {
    if (cut->max_length < added)
      return FailedPrecondition("truncation to {} tokens leaves no room for {} special tokens",
                                cut->max_length, added);
    const size_t room = cut->max_length - added;
    if (ids.size() > room && cut->from_left)
      ids.erase(ids.begin(), ids.end() - static_cast<ptrdiff_t>(room));
    else if (ids.size() > room)
      ids.resize(room);
  }
  if (add_special_tokens) {
    ids.insert(ids.begin(), prefix.begin(), prefix.end());
    ids.insert(ids.end(), suffix.begin(), suffix.end());
  }
  if (const auto& pad = parts_.limits.padding) {
    size_t length = std::max(pad->fixed_length, ids.size());
    if (pad->multiple_of > 0)
      length = (length + pad->multiple_of - 1) / pad->multiple_of * pad->multiple_of;
    ids.insert(pad->on_left ? ids.begin() : ids.end(), length - ids.size(), pad->pad_id);
  }
  return ids;
}

Status Pipeline::EncodeText(std::string_view text, std::vector<int32_t>& ids) const {
  if (text.size() > kMaxTextBytes)
    return InvalidArgument("the text has {} bytes; at most {} can be encoded at once", text.size(),
                           kMaxTextBytes);
  if (const size_t bad = utf8::FindInvalid(text); bad != std::string_view::npos)
    return InvalidArgument("the text is not valid UTF-8 at byte {}", bad);
  std::vector<Segment> segments;
  parts_.added.CutRaw(text, segments);
  for (const Segment& segment : segments) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    const auto part = text.substr(segment.span.begin, segment.span.end - segment.span.begin);
    TRIREME_RETURN_IF_ERROR(EncodeRaw(part, segment.span.begin == 0, ids));
  }
  return OkStatus();
}

Status Pipeline::EncodeRaw(std::string_view text, bool at_start, std::vector<int32_t>& ids) const {
  std::string storage;
  if (parts_.normalizer != nullptr)
    TRIREME_RETURN_IF_ERROR(parts_.normalizer->Apply(text, storage, at_start));
  if (!parts_.added.has_normalized()) return EncodeNormalized(text, at_start, ids);
  std::vector<Segment> segments;
  parts_.added.CutNormalized(text, segments);
  for (const Segment& segment : segments) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    const auto part = text.substr(segment.span.begin, segment.span.end - segment.span.begin);
    TRIREME_RETURN_IF_ERROR(EncodeNormalized(part, at_start && segment.span.begin == 0, ids));
  }
  return OkStatus();
}

Status Pipeline::EncodeNormalized(std::string_view text, bool at_start,
                                  std::vector<int32_t>& ids) const {
  if (text.empty()) return OkStatus();
  PreTokenized p;
  p.text = text;
  p.pieces = {{0, static_cast<uint32_t>(text.size())}};
  p.at_start = at_start;
  if (parts_.pre_tokenizer != nullptr) TRIREME_RETURN_IF_ERROR(parts_.pre_tokenizer->Apply(p));
  return parts_.model->Encode(p.text, p.pieces, ids);
}

StatusOr<std::string> Pipeline::Decode(std::span<const int32_t> ids,
                                       bool skip_special_tokens) const {
  for (const int32_t id : ids)
    if (id < 0 || id >= id_limit_)
      return InvalidArgument("token id {} is outside the vocabulary of {} ids", id, id_limit_);
  return DecodeAll(*parts_.decoder, ids, skip_special_tokens);
}

std::optional<int32_t> Pipeline::TokenToId(std::string_view token) const {
  if (const AddedToken* added = parts_.added.Find(token)) return added->id;
  return parts_.model->TokenToId(token);
}

// A token that is found in normalized text took the word mark before it too, and gives it back.
std::string Pipeline::Spelling(int32_t id) const {
  const auto surface = parts_.surfaces.find(id);
  if (surface != parts_.surfaces.end()) return surface->second;
  const AddedToken* added = parts_.added.Find(id);
  const bool in_text = added != nullptr && parts_.layout == Layout::kTokenizerJson;
  return in_text && !added->in_text.empty() ? added->in_text : IdToToken(id);
}

std::string Pipeline::IdToToken(int32_t id) const {
  if (const AddedToken* added = parts_.added.Find(id)) return added->content;
  return parts_.model->IdToToken(id);
}

}  // namespace

StatusOr<std::unique_ptr<Tokenizer>> MakePipeline(TokenizerParts parts) {
  auto pipeline = std::make_unique<Pipeline>(std::move(parts));
  TRIREME_RETURN_IF_ERROR(pipeline->Init());
  return std::unique_ptr<Tokenizer>(std::move(pipeline));
}

}  // namespace trireme
