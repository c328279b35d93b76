// SPDX-License-Identifier: Apache-2.0
// (left id, right id) -> merge: open addressing, immutable once filled, then thread-safe.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "text/large_allocator.h"

namespace trireme {

struct Merge {
  uint32_t rank = UINT32_MAX;  // lower goes first; UINT32_MAX: no merge
  int32_t id = -1;
};

class PairTable {
 public:
  void Reserve(size_t pairs) { Rebuild(std::bit_ceil(pairs * 2 + 16)); }

  // The last value given to a pair stays.
  void Set(int32_t left, int32_t right, Merge merge) {
    if ((size_ + 1) * 2 > slots_.size()) Rebuild(slots_.empty() ? 64 : slots_.size() * 2);
    lefts_.Add(left);
    rights_.Add(right);
    Slot& slot = Locate(KeyOf(left, right));
    if (slot.key == kEmpty) ++size_;
    slot = {KeyOf(left, right), merge};
  }

  Merge Find(int32_t left, int32_t right) const {
    if (!lefts_.Has(left) || !rights_.Has(right)) return Merge();
    const uint64_t key = KeyOf(left, right);
    size_t at = Hash(key) >> shift_;
    while (true) {
      const Slot& slot = slots_[at];
      if (slot.key == key) return slot.merge;
      if (slot.key == kEmpty) return Merge();
      at = (at + 1) & (slots_.size() - 1);
    }
  }

  // Fetches what Find will look at.
  void Prefetch(int32_t left, int32_t right) const {
    if (lefts_.Has(left) && rights_.Has(right))
      __builtin_prefetch(&slots_[Hash(KeyOf(left, right)) >> shift_]);
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  using Slots = std::vector<Slot, LargeAllocator<Slot>>;

  // The ids that stand on one side of any pair: small enough for the nearest cache, and most
  // tokens of a finished word are in neither set.
  class IdSet {
   public:
    void Add(int32_t id) {
      const size_t word = static_cast<uint32_t>(id) >> 6;
      if (word >= bits_.size()) bits_.resize(word + word / 2 + 16);
      bits_[word] |= uint64_t{1} << (id & 63);
    }
    bool Has(int32_t id) const {
      const size_t word = static_cast<uint32_t>(id) >> 6;
      return word < bits_.size() && (bits_[word] >> (id & 63) & 1) != 0;
    }

   private:
    std::vector<uint64_t> bits_;
  };

  static uint64_t KeyOf(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  static uint64_t Hash(uint64_t key) {
    key ^= key >> 32;
    return key * 0x9e3779b97f4a7c15ull;
  }

  Slot& Locate(uint64_t key) {
    size_t at = Hash(key) >> shift_;
    while (slots_[at].key != key && slots_[at].key != kEmpty) at = (at + 1) & (slots_.size() - 1);
    return slots_[at];
  }

  void Rebuild(size_t slots) {
    Slots old(slots);
    old.swap(slots_);
    shift_ = 64 - std::countr_zero(slots);
    for (const Slot& slot : old)
      if (slot.key != kEmpty) Locate(slot.key) = slot;
  }

  Slots slots_ = Slots(2);
  IdSet lefts_, rights_;
  int shift_ = 63;
  size_t size_ = 0;
};

}  // namespace trireme
