// SPDX-License-Identifier: Apache-2.0
#include "text/vocab.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/check.h"
#include "text/byte_level.h"
#include "text/hash.h"

namespace trireme {

void Vocab::Reserve(size_t tokens, size_t bytes) {
  entries_.reserve(tokens);
  order_.reserve(tokens);
  arena_.reserve(bytes);
}

Status Vocab::Add(std::string_view literal, int64_t id) {
  const size_t offset = arena_.size();
  if (byte_level_ && DecodeByteLevel(literal, arena_)) return Place(offset, id, false);
  arena_.append(literal);
  return Place(offset, id, byte_level_);
}

Status Vocab::AddText(std::string_view text, int64_t id) {
  const size_t offset = arena_.size();
  arena_.append(text);
  return Place(offset, id, false);
}

Status Vocab::AddLiteralOnly(std::string_view literal, int64_t id) {
  const size_t offset = arena_.size();
  arena_.append(literal);
  return Place(offset, id, true);
}

Status Vocab::Place(size_t offset, int64_t id, bool literal_only) {
  if (id < 0 || id >= kMaxId)
    return InvalidArgument("token '{}' has the id {}; ids must lie in [0, {})",
                           std::string_view(arena_).substr(offset), id, kMaxId);
  if (arena_.size() >= 1u << 30)
    return ResourceExhausted("the vocabulary holds more than 1 GiB of text");
  const size_t size = arena_.size() - offset;
  if (static_cast<size_t>(id) >= entries_.size()) entries_.resize(static_cast<size_t>(id) + 1);
  Entry& entry = entries_[static_cast<size_t>(id)];
  if (!entry.present) ++num_tokens_;
  entry.present = 1;
  entry.offset = static_cast<uint32_t>(offset);
  entry.size = static_cast<uint32_t>(size);
  entry.literal_only = literal_only ? 1 : 0;
  const auto checked_id = static_cast<int32_t>(id);
  if (literal_only) {
    literal_only_[std::string(Text(checked_id))] = checked_id;
  } else {
    longest_text_ = std::max(longest_text_, size);
    order_.push_back(checked_id);
  }
  return OkStatus();
}

void Vocab::Finish() {
  slots_.assign(std::bit_ceil(std::max<size_t>(order_.size() + order_.size() / 3, 16)), Slot());
  constexpr size_t kAhead = 16;
  std::array<uint64_t, kAhead> hashes;
  for (size_t i = 0; i < order_.size() + kAhead; ++i) {
    if (i >= kAhead) Index(order_[i - kAhead], hashes[i % kAhead]);
    if (i >= order_.size()) continue;
    hashes[i % kAhead] = HashBytes(Text(order_[i]));
    __builtin_prefetch(&slots_[hashes[i % kAhead] & (slots_.size() - 1)]);
  }
  order_ = {};
}

void Vocab::Index(int32_t id, uint64_t hash) {
  size_t at = NextSlot(hash, hash);
  while (slots_[at].id >= 0 && Text(slots_[at].id) != Text(id)) at = NextSlot(at + 1, hash);
  slots_[at] = {static_cast<uint32_t>(hash >> 32), id};
}

size_t Vocab::NextSlot(size_t at, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  for (at &= mask;; at = (at + 1) & mask)
    if (slots_[at].id < 0 || slots_[at].tag == hash >> 32) return at;
}

int32_t Vocab::FindFrom(size_t at, std::string_view text, uint64_t hash) const {
  // An id that was given to another token later no longer has this text.
  while (slots_[at].id >= 0 && Text(slots_[at].id) != text) at = NextSlot(at + 1, hash);
  return slots_[at].id;
}

int32_t Vocab::Find(std::string_view text) const {
  if (slots_.empty()) return -1;
  const uint64_t hash = HashBytes(text);
  return FindFrom(NextSlot(hash, hash), text, hash);
}

void Vocab::FindAll(std::span<const std::string_view> texts, int32_t* ids) const {
  TRIREME_DCHECK(texts.size() <= kMaxTexts);
  std::array<uint64_t, kMaxTexts> hashes;
  std::array<size_t, kMaxTexts> slots;
  for (size_t i = 0; i < texts.size(); ++i) {
    hashes[i] = HashBytes(texts[i]);
    __builtin_prefetch(&slots_[hashes[i] & (slots_.size() - 1)]);
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    slots[i] = NextSlot(hashes[i], hashes[i]);
    ids[i] = slots_[slots[i]].id;
    if (ids[i] >= 0) __builtin_prefetch(&entries_[static_cast<size_t>(ids[i])]);
  }
  for (size_t i = 0; i < texts.size(); ++i)
    if (ids[i] >= 0) __builtin_prefetch(Text(ids[i]).data());
  for (size_t i = 0; i < texts.size(); ++i)
    if (ids[i] >= 0) ids[i] = FindFrom(slots[i], texts[i], hashes[i]);
}

int32_t Vocab::FindLiteral(std::string_view literal) const {
  std::string text;
  int32_t id = -1;
  if (!byte_level_)
    id = Find(literal);
  else if (DecodeByteLevel(literal, text))
    id = Find(text);
  if (id >= 0 || literal_only_.empty()) return id;
  const auto found = literal_only_.find(std::string(literal));
  return found == literal_only_.end() ? -1 : found->second;
}

std::string Vocab::Literal(int32_t id) const {
  if (!Has(id)) return "";
  const std::string_view text = Text(id);
  if (!byte_level_ || entries_[id].literal_only) return std::string(text);
  std::string literal;
  AppendByteLevel(text, literal);
  return literal;
}

}  // namespace trireme
