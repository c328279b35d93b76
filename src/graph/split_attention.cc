// SPDX-License-Identifier: Apache-2.0
#include "graph/passes.h"

namespace trireme::graph {

void SplitAttention(Network& network) {
  std::vector<NetworkOp> ops;
  for (const NetworkOp& op : network.ops()) {
    if (op.kind != OpKind::kAttention) {
      ops.push_back(op);
      continue;
    }
    const AttentionSpec& spec = std::get<AttentionAttrs>(op.attrs).spec;
    const int q = network.AddValue(int64_t{spec.num_heads} * spec.head_dim, false);
    ops.push_back({OpKind::kRopeKvWrite, op.name, op.inputs, {q}, {}, op.attrs});
    ops.push_back({OpKind::kPagedAttention, op.name, {q}, op.outputs, {}, op.attrs});
  }
  network.SetOps(std::move(ops));
}

}  // namespace trireme::graph
