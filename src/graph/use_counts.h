// SPDX-License-Identifier: Apache-2.0
// Who makes and who reads each value of a network. Pure functions; stale after a rewrite.
#pragma once

#include <vector>

#include "trireme/network.h"

namespace trireme::graph {

// Index of the op that makes each value, or -1.
inline std::vector<int> Makers(const Network& network) {
  std::vector<int> makers(network.values().size(), -1);
  for (size_t i = 0; i < network.ops().size(); ++i) {
    for (int output : network.ops()[i].outputs) makers[output] = static_cast<int>(i);
  }
  return makers;
}

// Reads of each value; the logits count as one read.
inline std::vector<int> UseCounts(const Network& network) {
  std::vector<int> counts(network.values().size(), 0);
  for (const NetworkOp& op : network.ops()) {
    for (int input : op.inputs) ++counts[input];
  }
  if (network.logits() >= 0) ++counts[network.logits()];
  return counts;
}

}  // namespace trireme::graph
