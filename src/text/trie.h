// SPDX-License-Identifier: Apache-2.0
// A double-array trie from byte strings to non-negative values. Immutable once built, then
// thread-safe.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace trireme {

class Trie {
 public:
  // `keys` need not be sorted; empty keys are left out, of equal keys the last stays.
  void Build(std::vector<std::pair<std::string_view, int32_t>> keys);

  static constexpr uint32_t kRoot = 0;
  // Goes one byte down from `node`; false when no key continues so.
  bool Step(uint32_t& node, uint8_t byte) const {
    const uint32_t child = units_[node].base + byte;
    if (child >= units_.size() || units_[child].parent != node) return false;
    node = child;
    return true;
  }
  // The value of the key that ends at `node`, or -1.
  int32_t Value(uint32_t node) const { return units_[node].value; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Unit {
    uint32_t base = 0;
    uint32_t parent = kNone;  // kNone: the place is free
    int32_t value = -1;
  };
  using Keys = std::vector<std::pair<std::string_view, int32_t>>;

  uint32_t FindBase(const std::vector<uint8_t>& bytes);

  std::vector<Unit> units_ = std::vector<Unit>(1);
  uint32_t first_free_ = 1;
};

}  // namespace trireme
