// SPDX-License-Identifier: Apache-2.0
#include "graph/passes.h"
#include "graph/use_counts.h"

namespace trireme::graph {
namespace {

const LinearAttrs* PlainLinear(const NetworkOp& op) {
  if (op.kind != OpKind::kLinear) return nullptr;
  const LinearAttrs& attrs = std::get<LinearAttrs>(op.attrs);
  return attrs.gated || attrs.has_residual ? nullptr : &attrs;
}

void Merge(Network& network, bool with_bias) {
  const std::vector<int> makers = Makers(network);
  const std::vector<int> uses = UseCounts(network);
  std::vector<NetworkOp> ops = network.ops();
  for (NetworkOp& op : ops) {
    if (op.kind != OpKind::kGatedActivation) continue;
    const int first_maker = makers[op.inputs[0]];
    const int second_maker = makers[op.inputs[1]];
    if (first_maker == second_maker) continue;
    const NetworkOp& first = network.ops()[first_maker];
    const NetworkOp& second = network.ops()[second_maker];
    const LinearAttrs* first_attrs = PlainLinear(first);
    const LinearAttrs* second_attrs = PlainLinear(second);
    if (first_attrs == nullptr || second_attrs == nullptr) continue;
    if (first_attrs->has_bias && !with_bias) continue;
    if (first.inputs != second.inputs || first_attrs->has_bias != second_attrs->has_bias) continue;
    if (uses[op.inputs[0]] != 1 || uses[op.inputs[1]] != 1) continue;

    LinearAttrs merged = *first_attrs;
    merged.out_features = first_attrs->out_features + second_attrs->out_features;
    merged.gated = true;
    merged.gate_activation = std::get<ActivationAttrs>(op.attrs).kind;
    std::vector<int> weights = {first.weights[0], second.weights[0]};
    if (merged.has_bias) {
      weights.push_back(first.weights[1]);
      weights.push_back(second.weights[1]);
    }
    op = {OpKind::kLinear,    first.name + "+" + second.name,
          first.inputs,       op.outputs,
          std::move(weights), merged};
  }
  network.SetOps(std::move(ops));  // the two branches are dead now; RemoveDeadOps takes them
}

}  // namespace

void MergeGateUp(Network& network) { Merge(network, /*with_bias=*/true); }
void MergeUnbiasedGateUp(Network& network) { Merge(network, /*with_bias=*/false); }

}  // namespace trireme::graph
