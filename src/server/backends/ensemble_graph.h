// SPDX-License-Identifier: Apache-2.0
// The steps of an ensemble as a graph by tensor names. Immutable.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/backends/backend.h"

namespace trireme::server {

class EnsembleGraph {
 public:
  // INVALID_ARGUMENT names what does not fit: a model without such a tensor, two types that meet, a
  // tensor nobody makes or two steps make, a cycle. NOT_FOUND: a step's model is not loaded.
  static StatusOr<EnsembleGraph> Make(const ModelConfig& config, const ModelCaller& caller);

  const std::vector<EnsembleStep>& steps() const { return steps_; }
  // The step that makes the tensor; -1: an input of the ensemble.
  int ProducerOf(const std::string& tensor) const;
  // The steps that use what `step` makes, directly or not, without itself.
  const std::set<size_t>& Downstream(size_t step) const { return downstream_[step]; }
  // The steps without which these ensemble tensors do not come.
  std::set<size_t> NeededFor(const std::vector<std::string>& tensors) const;

 private:
  Status CheckStep(const ModelConfig& config, const EnsembleStep& step, const ModelCaller& caller,
                   std::map<std::string, DataType>& types) const;

  std::vector<EnsembleStep> steps_;
  std::map<std::string, size_t> producers_;
  std::vector<std::set<size_t>> downstream_;
};

}  // namespace trireme::server
