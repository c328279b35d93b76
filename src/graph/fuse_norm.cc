// SPDX-License-Identifier: Apache-2.0
#include "graph/passes.h"
#include "graph/use_counts.h"

namespace trireme::graph {

void FuseNorm(Network& network) {
  const std::vector<int> makers = Makers(network);
  const std::vector<int> uses = UseCounts(network);
  std::vector<NetworkOp> ops = network.ops();
  std::vector<bool> fused(ops.size(), false);
  for (NetworkOp& op : ops) {
    if (op.kind != OpKind::kLinear) continue;
    LinearAttrs& attrs = std::get<LinearAttrs>(op.attrs);
    const int maker = makers[op.inputs[0]];
    if (attrs.has_norm || maker < 0 || uses[op.inputs[0]] != 1) continue;
    const NetworkOp& norm = network.ops()[maker];
    if (norm.kind != OpKind::kRmsNorm) continue;
    attrs.has_norm = true;
    attrs.norm = std::get<NormAttrs>(norm.attrs);
    op.inputs[0] = norm.inputs[0];
    op.weights.push_back(norm.weights[0]);
    fused[maker] = true;
  }
  std::vector<NetworkOp> left;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (!fused[i]) left.push_back(std::move(ops[i]));
  }
  network.SetOps(std::move(left));
}

}  // namespace trireme::graph
