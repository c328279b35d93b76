// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "graph/passes.h"
#include "graph/use_counts.h"

namespace trireme::graph {
namespace {

void Fuse(Network& network, bool with_bias) {
  const std::vector<int> makers = Makers(network);
  const std::vector<int> uses = UseCounts(network);
  std::vector<NetworkOp> ops = network.ops();
  std::vector<bool> fused(ops.size(), false);
  for (NetworkOp& op : ops) {
    if (op.kind != OpKind::kAdd) continue;
    for (int side : {1, 0}) {
      const int linear_value = op.inputs[side];
      const int residual = op.inputs[1 - side];
      const int maker = makers[linear_value];
      if (maker < 0 || fused[maker] || uses[linear_value] != 1 || residual == linear_value)
        continue;
      const NetworkOp& linear = network.ops()[maker];
      if (linear.kind != OpKind::kLinear) continue;
      LinearAttrs attrs = std::get<LinearAttrs>(linear.attrs);
      if (attrs.gated || attrs.has_residual || (attrs.has_bias && !with_bias)) continue;
      attrs.has_residual = true;
      fused[maker] = true;
      std::vector<int> inputs = linear.inputs;
      inputs.push_back(residual);
      op = {OpKind::kLinear, linear.name, std::move(inputs), op.outputs, linear.weights, attrs};
      break;
    }
  }
  network.SetOps(std::move(ops));
}

}  // namespace

void FuseResidual(Network& network) { Fuse(network, /*with_bias=*/true); }
void FuseUnbiasedResidual(Network& network) { Fuse(network, /*with_bias=*/false); }

}  // namespace trireme::graph
