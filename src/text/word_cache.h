// SPDX-License-Identifier: Apache-2.0
// The ids of words a thread met last, for words and results that fit a fixed entry. One cache per
// thread, used by one model at a time: changing the model empties it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace trireme {

class WordCache {
 public:
  static constexpr size_t kMaxBytes = 16;
  static constexpr size_t kMaxIds = 3;

  struct Key {
    uint64_t low, high;  // the word's bytes, then zeros
    uint8_t size;        // not 0
  };
  struct alignas(32) Entry {
    uint64_t low = 0, high = 0;
    int32_t ids[kMaxIds] = {};
    uint8_t size = 0;  // 0: empty
    uint8_t count = 0;

    bool Holds(const Key& key) const {
      return low == key.low && high == key.high && size == key.size;
    }
    // Leaves the entry alone when the ids do not fit.
    void Fill(const Key& key, std::span<const int32_t> result) {
      if (result.size() > kMaxIds) return;
      low = key.low;
      high = key.high;
      size = key.size;
      count = static_cast<uint8_t>(result.size());
      std::copy(result.begin(), result.end(), ids);
    }
  };

  // `readable`: bytes from the begin of the word to the end of the memory it lies in.
  static Key KeyOf(std::string_view word, size_t readable) {
    Key key{0, 0, static_cast<uint8_t>(word.size())};
    if (readable < kMaxBytes) {
      char bytes[kMaxBytes] = {};
      std::memcpy(bytes, word.data(), word.size());
      std::memcpy(&key.low, bytes, 8);
      std::memcpy(&key.high, bytes + 8, 8);
      return key;
    }
    std::memcpy(&key.low, word.data(), 8);
    std::memcpy(&key.high, word.data() + 8, 8);
    const auto keep = [](uint64_t value, size_t bytes) {
      return bytes >= 8 ? value : value & ((uint64_t{1} << (8 * bytes)) - 1);
    };
    key.low = keep(key.low, word.size());
    key.high = word.size() > 8 ? keep(key.high, word.size() - 8) : 0;
    return key;
  }

  Entry& At(const Key& key) {
    const uint64_t hash =
        (key.low ^ (key.high + key.size) * 0xd6e8feb86659fd93ull) * 0x9e3779b97f4a7c15ull;
    return entries_[hash >> (64 - kLogEntries)];
  }

  // The calling thread's cache, empty when another model used it last.
  static WordCache& OfThisThread(uint64_t model) {
    thread_local WordCache cache;
    if (cache.model_ != model) {
      cache.entries_ = std::make_unique<Entry[]>(size_t{1} << kLogEntries);
      cache.model_ = model;
    }
    return cache;
  }

 private:
  static constexpr int kLogEntries = 13;  // 256 KiB: stays in the second-level cache
  uint64_t model_ = 0;
  std::unique_ptr<Entry[]> entries_;
};

}  // namespace trireme
