// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/prepare_step.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/cuda/testing.h"
#include "kernels/kernels_testing.h"

namespace trireme::cuda {
namespace {

constexpr int kSlots = 16;
constexpr int kStride = 40;
constexpr int kBlockSize = 16;

struct HostStep {
  PackedStepHeader header;
  std::vector<PackedRow> rows;
  std::vector<int32_t> given;
  std::vector<PackedDelta> deltas;
  // What must come out.
  std::vector<int32_t> token_ids, positions, seqs, cu = {0}, context_lens, logit_rows;

  void AddRow(int slot, int context_len, std::vector<int32_t> tokens, int last_token,
              int num_logit_rows) {
    const int query_len = tokens.empty() ? 1 : static_cast<int>(tokens.size());
    rows.push_back({slot, context_len, header.num_tokens, header.num_logit_rows, num_logit_rows,
                    tokens.empty() ? -1 : static_cast<int32_t>(given.size())});
    given.insert(given.end(), tokens.begin(), tokens.end());
    for (int i = 0; i < query_len; ++i) {
      token_ids.push_back(tokens.empty() ? last_token : tokens[static_cast<size_t>(i)]);
      positions.push_back(context_len + i);
      seqs.push_back(header.num_rows);
      if (i >= query_len - num_logit_rows) logit_rows.push_back(header.num_tokens + i);
    }
    header.num_tokens += query_len;
    header.num_logit_rows += num_logit_rows;
    header.max_query_len = std::max(header.max_query_len, query_len);
    ++header.num_rows;
    cu.push_back(header.num_tokens);
    context_lens.push_back(context_len);
  }

  std::vector<int32_t> Pack() {
    header.num_given = static_cast<int32_t>(given.size());
    header.num_deltas = static_cast<int32_t>(deltas.size());
    std::vector<int32_t> words(
        static_cast<size_t>(PackedStepWords(header.num_rows, header.num_given, header.num_deltas)));
    auto* at = reinterpret_cast<char*>(words.data());
    const auto put = [&](const void* source, size_t bytes) {
      if (bytes > 0) std::memcpy(at, source, bytes);
      at += bytes;
    };
    put(&header, sizeof(header));
    put(rows.data(), rows.size() * sizeof(PackedRow));
    put(given.data(), given.size() * 4);
    put(deltas.data(), deltas.size() * sizeof(PackedDelta));
    EXPECT_EQ(at, reinterpret_cast<char*>(words.data() + words.size()));
    return words;
  }
};

void ExpectPadded(const std::vector<int32_t>& got, const std::vector<int32_t>& want, int pad,
                  const char* what) {
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i], i < want.size() ? want[i] : pad) << what << " " << i;
  }
}

void RunStep(HostStep step, const std::vector<int32_t>& last_tokens, int max_tokens, int max_seqs) {
  std::vector<int32_t> tables(kSlots * kStride);
  for (size_t i = 0; i < tables.size(); ++i) tables[i] = static_cast<int32_t>(1000 + i);
  DeviceArray<int32_t> packed(step.Pack()), last(last_tokens), slot_tables(tables);
  DeviceArray<StepCounts> counts(1);
  DeviceArray<int32_t> ids(static_cast<size_t>(max_tokens)), positions(ids.size()),
      seqs(ids.size()), cu(static_cast<size_t>(max_seqs) + 1), context(cu.size() - 1),
      row_tables(context.size() * kStride), logit_rows(ids.size());
  LaunchContext launch;
  ASSERT_EQ(PrepareStep({.packed = packed.data(),
                         .last_tokens = last.data(),
                         .slot_block_tables = slot_tables.data(),
                         .block_size = kBlockSize,
                         .counts = counts.data(),
                         .token_ids = ids.data(),
                         .positions = positions.data(),
                         .token_seqs = seqs.data(),
                         .cu_query_lens = cu.data(),
                         .context_lens = context.data(),
                         .block_tables = row_tables.data(),
                         .logit_rows = logit_rows.data(),
                         .block_table_stride = kStride,
                         .max_tokens = max_tokens,
                         .max_seqs = max_seqs,
                         .max_logit_rows = max_tokens},
                        launch),
            cudaSuccess);
  const StepCounts got = counts.Read()[0];
  EXPECT_EQ(got.num_tokens, step.header.num_tokens);
  EXPECT_EQ(got.num_seqs, step.header.num_rows);
  EXPECT_EQ(got.num_logit_rows, step.header.num_logit_rows);
  EXPECT_EQ(got.max_query_len, step.header.max_query_len);
  ExpectPadded(ids.Read(), step.token_ids, 0, "token id");
  ExpectPadded(positions.Read(), step.positions, 0, "position");
  ExpectPadded(seqs.Read(), step.seqs, -1, "sequence");
  ExpectPadded(cu.Read(), step.cu, step.header.num_tokens, "cu_query_lens");
  ExpectPadded(context.Read(), step.context_lens, 0, "context");
  ExpectPadded(logit_rows.Read(), step.logit_rows, 0, "logit row");
  for (const PackedDelta& d : step.deltas) {
    tables[static_cast<size_t>(d.slot * kStride + d.index)] = d.block;
  }
  EXPECT_EQ(slot_tables.Read(), tables);
  const auto by_row = row_tables.Read();
  for (size_t row = 0; row < context.size(); ++row) {
    int blocks = 0;
    if (row < step.rows.size()) {
      const int len = step.context_lens[row] + step.cu[row + 1] - step.cu[row];
      blocks = (len + kBlockSize - 1) / kBlockSize;
    }
    for (int i = 0; i < kStride; ++i) {
      const int want =
          i < blocks ? tables[static_cast<size_t>(step.rows[row].slot * kStride + i)] : -1;
      ASSERT_EQ(by_row[row * kStride + static_cast<size_t>(i)], want) << row << " " << i;
    }
  }
}

TEST(PrepareStepGpuTest, ExpandsRandomStepsOfEveryBucket) {
  kernels::TestRandom random(3);
  for (int round = 0; round < 40; ++round) {
    const int max_tokens = round % 2 == 0 ? 32 : 400;  // one block; a cluster
    HostStep step;
    std::vector<int32_t> last(kSlots);
    for (int32_t& token : last) token = random.Below(1000);
    const int num_rows = random.Below(kSlots + 1);
    for (int row = 0; row < num_rows; ++row) {
      const int slot = (row * 5 + round) % kSlots;  // 5 and 16 share no factor: distinct
      std::vector<int32_t> tokens;
      const int room = max_tokens - step.header.num_tokens - (num_rows - row);
      if (random.Below(3) > 0) {
        tokens.resize(static_cast<size_t>(std::min(room, random.Below(60)) + 1));
      }
      for (int32_t& token : tokens) token = random.Below(1000);
      const int query_len = std::max<int>(1, static_cast<int>(tokens.size()));
      const int logits = random.Below(3);
      step.AddRow(slot, random.Below(500), tokens, last[static_cast<size_t>(slot)],
                  logits == 0   ? 0
                  : logits == 1 ? 1
                                : query_len);
    }
    for (int i = 0; i < 20; ++i) {
      step.deltas.push_back(
          {i % kSlots, i < kSlots ? random.Below(20) : 20 + random.Below(20), random.Below(5000)});
    }
    RunStep(step, last, max_tokens, kSlots);
    if (testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace trireme::cuda
