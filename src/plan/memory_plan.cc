// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "plan/plan.h"

namespace trireme::plan {
namespace {

constexpr int64_t kAlignment = 256;

int64_t BufferBytes(const Buffer& buffer, int64_t max_tokens, int64_t max_logit_rows) {
  const int64_t rows = buffer.rows == Rows::kTokens ? max_tokens : max_logit_rows;
  const int64_t bytes = DTypeBytes(buffer.dtype, rows * buffer.width);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool Overlap(const Buffer& a, const Buffer& b) { return a.first <= b.last && b.first <= a.last; }

}  // namespace

MemoryPlan PlanMemory(std::span<const Buffer> buffers, int64_t max_tokens, int64_t max_logit_rows) {
  const size_t count = buffers.size();
  std::vector<int64_t> sizes(count);
  for (size_t i = 0; i < count; ++i) {
    sizes[i] = BufferBytes(buffers[i], max_tokens, max_logit_rows);
  }
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });

  MemoryPlan plan;
  plan.offsets.assign(count, 0);
  std::vector<size_t> placed;
  for (size_t index : order) {
    std::vector<size_t> conflicts;
    for (size_t other : placed) {
      if (Overlap(buffers[index], buffers[other])) conflicts.push_back(other);
    }
    std::sort(conflicts.begin(), conflicts.end(),
              [&](size_t a, size_t b) { return plan.offsets[a] < plan.offsets[b]; });
    int64_t offset = 0;
    for (size_t other : conflicts) {
      if (offset + sizes[index] <= plan.offsets[other]) break;
      offset = std::max(offset, plan.offsets[other] + sizes[other]);
    }
    plan.offsets[index] = offset;
    plan.total_bytes = std::max(plan.total_bytes, offset + sizes[index]);
    placed.push_back(index);
  }
  return plan;
}

}  // namespace trireme::plan
