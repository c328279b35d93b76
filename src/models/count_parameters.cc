// SPDX-License-Identifier: Apache-2.0
#include "models/count_parameters.h"

#include "base/status.h"
#include "formats/model_facts.h"
#include "trireme/model_family.h"

namespace trireme::models {

StatusOr<int64_t> CountParameters(const ModelConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const ModelFamily* family, FindFamilyByConfig(config));
  ModelConfig whole = config;
  whole.mapping = {};
  TRIREME_ASSIGN_OR_RETURN(const Network network, family->BuildNetwork(whole));
  int64_t total = 0;
  for (const NetworkWeight& weight : network.weights()) {
    if (weight.name == "lm_head.weight" && SharesEmbedding(config)) continue;
    int64_t count = 1;
    for (const int64_t size : weight.shape) count *= size;
    total += count;
  }
  return total;
}

}  // namespace trireme::models
