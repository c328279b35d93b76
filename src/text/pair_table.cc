// SPDX-License-Identifier: Apache-2.0
#include "text/pair_table.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace trireme {
namespace {

uint64_t MaskOf(int bits) { return (uint64_t{1} << bits) - 1; }

}  // namespace

void PairTable::ChooseLayout() {
  uint32_t largest_id = 0, largest_rank = 0;
  for (const Given& pair : given_) {
    largest_id = std::max({largest_id, static_cast<uint32_t>(pair.left),
                           static_cast<uint32_t>(pair.right), static_cast<uint32_t>(pair.id)});
    largest_rank = std::max(largest_rank, pair.rank);
  }
  id_bits_ = std::max<int>(std::bit_width(largest_id), 1);
  const int rank_bits = std::bit_width(largest_rank);
  TRIREME_CHECK_LE(id_bits_, kMaxIdBits);
  TRIREME_CHECK_LE(largest_rank, kMaxRank);
  // About one pair a bucket, so that few buckets are full; more buckets where a slot would not
  // hold what is left of the pair.
  int bucket_bits = std::bit_width(given_.size() * 5 / 8);
  bucket_bits = std::max(bucket_bits, 3 * id_bits_ + rank_bits - 63);
  bucket_bits = std::min(bucket_bits, 2 * id_bits_);
  tag_bits_ = 2 * id_bits_ - bucket_bits;
  tag_shift_ = rank_bits + id_bits_;
  pair_mask_ = MaskOf(2 * id_bits_);
  tag_mask_ = MaskOf(tag_bits_);
  rank_mask_ = MaskOf(rank_bits);
  id_mask_ = MaskOf(id_bits_);
  slots_.assign(kBucket << bucket_bits, kEmpty);
  overflows_.assign((size_t{1} << bucket_bits) / 64 + 1, 0);
}

void PairTable::Build() {
  ChooseLayout();
  constexpr size_t kAhead = 16;
  for (size_t i = 0; i < given_.size(); ++i) {
    if (i + kAhead < given_.size()) Prefetch(given_[i + kAhead].left, given_[i + kAhead].right);
    Insert(given_[i]);
  }
  given_ = {};
}

void PairTable::Insert(const Given& pair) {
  const uint64_t hash = HashOf(pair.left, pair.right);
  const uint64_t tag = hash & tag_mask_;
  uint64_t* bucket = &slots_[(hash >> tag_bits_) * kBucket];
  for (size_t i = 0; i < kBucket; ++i) {
    if (bucket[i] != kEmpty && bucket[i] >> tag_shift_ != tag) continue;
    bucket[i] = tag << tag_shift_ | static_cast<uint64_t>(pair.rank) << id_bits_ |
                static_cast<uint32_t>(pair.id);
    return;
  }
  overflows_[(hash >> tag_bits_) / 64] |= uint64_t{1} << (hash >> tag_bits_) % 64;
  apart_[KeyOf(pair.left, pair.right)] = {pair.rank, pair.id};
}

Merge PairTable::FindApart(int32_t left, int32_t right) const {
  const auto found = apart_.find(KeyOf(left, right));
  return found == apart_.end() ? Merge() : found->second;
}

}  // namespace trireme
