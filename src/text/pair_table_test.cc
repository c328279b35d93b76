// SPDX-License-Identifier: Apache-2.0
#include "text/pair_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace trireme {
namespace {

// Against a map, for few and many ids and pairs: every given pair, neighbours of it, and others.
TEST(PairTableTest, FindsWhatAMapFinds) {
  std::mt19937 random(3);
  for (const int id_bits : {1, 3, 8, 13, 18, 22}) {
    for (const size_t count : {0, 1, 40, 3000, 60'000}) {
      const uint32_t limit = 1u << id_bits;
      PairTable table;
      std::map<std::pair<int32_t, int32_t>, Merge> expected;
      for (size_t i = 0; i < count; ++i) {
        const auto id = [&] { return static_cast<int32_t>(random() % limit); };
        const std::pair<int32_t, int32_t> pair = {id(), id()};
        const Merge merge{static_cast<uint32_t>(i), id()};
        table.Add(pair.first, pair.second, merge);
        expected[pair] = merge;
      }
      table.Build();
      const auto check = [&](int32_t left, int32_t right) {
        const auto found = expected.find({left, right});
        const Merge want = found == expected.end() ? Merge() : found->second;
        const Merge got = table.Find(left, right);
        ASSERT_EQ(got.rank, want.rank) << left << " " << right << " of " << id_bits << " bits";
        ASSERT_EQ(got.id, want.id);
      };
      for (const auto& [pair, merge] : expected) {
        check(pair.first, pair.second);
        check(pair.second, pair.first);
        check(pair.first ^ 1, pair.second);
      }
      // A symbol that is in no pair may have any id.
      for (int i = 0; i < 2000; ++i)
        check(static_cast<int32_t>(random() % (1u << 23)), static_cast<int32_t>(random() % limit));
    }
  }
}

}  // namespace
}  // namespace trireme
