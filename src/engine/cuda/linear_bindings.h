// SPDX-License-Identifier: Apache-2.0
// The kernels of a plan's linear launches, by row count. Bound once; engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "kernels/cuda/linear.h"
#include "plan/plan.h"

namespace trireme::engine {

class LinearBindings {
 public:
  // Takes the plan's tactics; one that this machine cannot bind gives way to the kernels' own first
  // guess, with a warning.
  static StatusOr<std::unique_ptr<LinearBindings>> Make(const plan::Plan& plan, int64_t max_tokens,
                                                        int64_t max_logit_rows);

  // The kernel of launch `index` for `num_rows`, at most the limit of its rows.
  cuda::LinearKernel& Kernel(int index, int num_rows) const;
  int64_t workspace_bytes() const { return workspace_bytes_; }

 private:
  struct ByRows {
    int64_t max_rows = 0;
    std::shared_ptr<cuda::LinearKernel> kernel;  // shared by the launches of one shape
  };

  std::unique_ptr<cuda::LinearLibrary> library_;
  std::vector<std::vector<ByRows>> launches_;  // by index in the plan; rising max_rows
  int64_t workspace_bytes_ = 0;
};

}  // namespace trireme::engine
