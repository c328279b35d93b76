// SPDX-License-Identifier: Apache-2.0
#include "graph/passes.h"

#include <array>

namespace trireme::graph {

std::span<const Pass> AllPasses() {
  static constexpr std::array<Pass, 4> kPasses = {{
      {"merge_gate_up", MergeGateUp},
      {"fuse_residual", FuseResidual},
      {"split_attention", SplitAttention},
      {"remove_dead_ops", RemoveDeadOps},
  }};
  return kPasses;
}

std::span<const Pass> CudaPasses() {
  static constexpr std::array<Pass, 5> kPasses = {{
      {"merge_gate_up", MergeUnbiasedGateUp},
      {"fuse_residual", FuseUnbiasedResidual},
      {"split_attention", SplitAttention},
      {"remove_dead_ops", RemoveDeadOps},
      {"fuse_norm", FuseNorm},  // last: a norm that only dead ops still read besides can go
  }};
  return kPasses;
}

std::span<const Pass> LoweringPasses() {
  static constexpr std::array<Pass, 1> kPasses = {{{"split_attention", SplitAttention}}};
  return kPasses;
}

}  // namespace trireme::graph
