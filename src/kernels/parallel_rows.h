// SPDX-License-Identifier: Apache-2.0
// Splits the rows of a kernel over a context's threads. Engine thread only.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu_context.h"

namespace trireme::kernels {

// Calls fn(begin, end) for consecutive ranges that cover [0, num_rows). `row_cost` is the work of
// one row in elements: loops too short to pay for waking a thread stay on the caller.
template <typename Fn>
void ParallelRows(CpuContext& context, int64_t num_rows, int64_t row_cost, Fn&& fn) {
  constexpr int64_t kElementsPerTask = 16384;
  constexpr int64_t kTasksPerThread = 4;  // evens out threads that start late
  if (num_rows <= 0) return;
  const int64_t threads = context.pool ? context.pool->num_threads() : 1;
  const int64_t by_cost = num_rows * std::max<int64_t>(row_cost, 1) / kElementsPerTask;
  const int64_t tasks = std::min({num_rows, by_cost, threads * kTasksPerThread});
  if (threads == 1 || tasks <= 1) return fn(int64_t{0}, num_rows);
  context.pool->ParallelFor(tasks, [&](int64_t task, int /*worker*/) {
    fn(num_rows * task / tasks, num_rows * (task + 1) / tasks);
  });
}

}  // namespace trireme::kernels
