// SPDX-License-Identifier: Apache-2.0
#include "text/vocab.h"

#include <algorithm>
#include <bit>

#include "text/byte_level.h"
#include "text/hash.h"

namespace trireme {

uint64_t Vocab::HashOf(std::string_view text) { return HashBytes(text); }

void Vocab::Reserve(size_t tokens, size_t bytes) {
  entries_.reserve(tokens);
  arena_.reserve(bytes);
  Grow(std::bit_ceil(std::max<size_t>(tokens + tokens / 3, 64)));
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
    Index(Text(checked_id), checked_id);
  }
  return OkStatus();
}

void Vocab::Index(std::string_view text, int32_t id) {
  if ((num_indexed_ + 1) * 4 > slots_.size() * 3) Grow(std::max<size_t>(64, slots_.size() * 2));
  const uint64_t hash = HashOf(text);
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    Slot& slot = slots_[at];
    if (slot.id >= 0 && !(slot.tag == hash >> 32 && Text(slot.id) == text)) continue;
    if (slot.id < 0) ++num_indexed_;
    slot = {static_cast<uint32_t>(hash >> 32), id};
    return;
  }
}

void Vocab::Grow(size_t slots) {
  if (slots <= slots_.size()) return;
  Slots old(slots);
  old.swap(slots_);
  const size_t mask = slots - 1;
  for (const Slot& slot : old) {
    if (slot.id < 0) continue;
    size_t at = HashOf(Text(slot.id)) & mask;
    while (slots_[at].id >= 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

int32_t Vocab::FindHashed(std::string_view text, uint64_t hash) const {
  if (slots_.empty()) return -1;
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot slot = slots_[at];
    if (slot.id < 0) return -1;
    // An id that was given to another token later no longer has this text.
    if (slot.tag == hash >> 32 && Text(slot.id) == text) return slot.id;
  }
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
