// SPDX-License-Identifier: Apache-2.0
// Rewrites of a Network, each small, named and in its own file. Pure functions of the network.
//
// A pass keeps the meaning: tests run random networks before and after on the reference kernels.
#pragma once

#include <span>
#include <string_view>

#include "trireme/network.h"

namespace trireme::graph {

struct Pass {
  std::string_view name;
  void (*run)(Network& network);
};

// act(x A^T) * (x B^T) becomes one gated linear layer over both weights.
void MergeGateUp(Network& network);
// Only where neither has a bias; for devices whose gated layers take none.
void MergeUnbiasedGateUp(Network& network);
// residual + linear(x) becomes a linear layer that adds the residual in its epilogue.
void FuseResidual(Network& network);
// Only where the layer has no bias; for devices that add one or the other.
void FuseUnbiasedResidual(Network& network);
// attention(qkv) becomes rope_kv_write(qkv) -> q, then paged_attention(q).
void SplitAttention(Network& network);
// Ops whose outputs nobody reads go.
void RemoveDeadOps(Network& network);
// linear(rms_norm(x)) becomes a linear layer that normalises its input; for devices whose kernels do.
void FuseNorm(Network& network);

// The passes in the order they run. SplitAttention is lowering: no kernel runs an unsplit one.
std::span<const Pass> AllPasses();
std::span<const Pass> CudaPasses();
std::span<const Pass> LoweringPasses();

}  // namespace trireme::graph
