// SPDX-License-Identifier: Apache-2.0
// (left id, right id) -> merge: filled by Add, made by Build, then immutable and thread-safe.
//
//   pair as one number  = left << id_bits | right
//   hash                = pair * odd, in as many bits, so that no two pairs share one
//                         | bucket | tag |
//   slot (64 bits)      | 0 | tag | rank | id |      bucket: four slots, filled from the first
//
// The bucket stands for the rest of the pair, so a slot needs no key; four of them share half a
// cache line, and which of them holds the pair is found without a branch. Pairs beyond the fourth
// of a bucket are kept apart.
#pragma once

#include <cstdint>
#include <unordered_map>
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
  // Ids of tokens, and ranks, lie below these.
  static constexpr int kMaxIdBits = 22;
  static constexpr uint32_t kMaxRank = 1u << 25;

  void Reserve(size_t pairs) { given_.reserve(pairs); }
  // The last value given to a pair stays.
  void Add(int32_t left, int32_t right, Merge merge) {
    given_.push_back({left, right, merge.rank, merge.id});
  }
  void Build();

  // Ids must be tokens: not negative, and none above those of the vocabulary.
  Merge Find(int32_t left, int32_t right) const {
    if (!InRange(left, right)) return Merge();
    const uint64_t hash = HashOf(left, right);
    const uint64_t* bucket = &slots_[(hash >> tag_bits_) * kBucket];
    const uint64_t tag = hash & tag_mask_;
    uint64_t found = kEmpty;
    for (size_t i = 0; i < kBucket; ++i) found = bucket[i] >> tag_shift_ == tag ? bucket[i] : found;
    if (found == kEmpty) {
      if (bucket[kBucket - 1] != kEmpty && Overflows(hash >> tag_bits_)) [[unlikely]]
        return FindApart(left, right);
      return Merge();
    }
    return {static_cast<uint32_t>(found >> id_bits_ & rank_mask_),
            static_cast<int32_t>(found & id_mask_)};
  }

  // Fetches what Find will look at.
  void Prefetch(int32_t left, int32_t right) const {
    __builtin_prefetch(&slots_[(HashOf(left, right) >> tag_bits_) * kBucket]);
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;
  static constexpr size_t kBucket = 4;
  struct Given {
    int32_t left, right;
    uint32_t rank;
    int32_t id;
  };

  // Symbols that are in no pair may have ids beyond the table's.
  bool InRange(int32_t left, int32_t right) const {
    return (static_cast<uint32_t>(left) | static_cast<uint32_t>(right)) >> id_bits_ == 0;
  }
  uint64_t KeyOf(int32_t left, int32_t right) const {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << id_bits_ |
           static_cast<uint32_t>(right);
  }
  uint64_t HashOf(int32_t left, int32_t right) const {
    return KeyOf(left, right) * 0x9e3779b97f4a7c15ull & pair_mask_;
  }
  bool Overflows(uint64_t bucket) const {
    return (overflows_[bucket / 64] >> bucket % 64 & 1) != 0;
  }
  void ChooseLayout();
  void Insert(const Given& pair);
  Merge FindApart(int32_t left, int32_t right) const;

  std::vector<Given> given_;  // until Build
  std::vector<uint64_t, LargeAllocator<uint64_t>> slots_ =
      std::vector<uint64_t, LargeAllocator<uint64_t>>(kBucket, kEmpty);
  std::vector<uint64_t> overflows_;  // a bit for each bucket with pairs in `apart_`
  std::unordered_map<uint64_t, Merge> apart_;
  int id_bits_ = 0, tag_bits_ = 0, tag_shift_ = 0;
  uint64_t pair_mask_ = 0, tag_mask_ = 0, rank_mask_ = 0, id_mask_ = 0;
};

}  // namespace trireme
