// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "graph/passes.h"

namespace trireme::graph {

void RemoveDeadOps(Network& network) {
  std::vector<bool> live(network.values().size(), false);
  if (network.logits() >= 0) live[network.logits()] = true;
  std::vector<NetworkOp> kept;
  for (auto op = network.ops().rbegin(); op != network.ops().rend(); ++op) {
    const bool writes_cache = op->kind == OpKind::kRopeKvWrite || op->kind == OpKind::kAttention;
    const bool read = std::any_of(op->outputs.begin(), op->outputs.end(),
                                  [&](int output) { return live[output]; });
    if (!writes_cache && !read) continue;
    for (int input : op->inputs) live[input] = true;
    kept.push_back(*op);
  }
  std::reverse(kept.begin(), kept.end());
  network.SetOps(std::move(kept));
}

}  // namespace trireme::graph
