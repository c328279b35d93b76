// SPDX-License-Identifier: Apache-2.0
// Runs token samples through a CPU engine: what the linear layers read, and how well the engine
// predicts the text. One thread; the session brings its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "trireme/request.h"

namespace trireme::calibrate {

using TokenSample = std::vector<TokenId>;
using SampleProgressFn = std::function<void(int64_t done, int64_t total)>;

// The largest |input| of each linear layer, by the layer's name, over all samples. The engine must
// have been built without passes, so that its layers carry the checkpoint's names. A value that is
// no finite number is an error that names the layer.
StatusOr<std::map<std::string, float>> LargestInputs(const std::string& engine_dir,
                                                     std::span<const TokenSample> samples,
                                                     const SampleProgressFn& progress);

struct Perplexity {
  double value = 0.0;         // exp of the mean negative log likelihood
  std::vector<TokenId> best;  // the likeliest token at each scored place
  int64_t num_tokens = 0;     // scored: all but the first of each sample
};

StatusOr<Perplexity> MeasurePerplexity(const std::string& engine_dir,
                                       std::span<const TokenSample> samples,
                                       const SampleProgressFn& progress);

}  // namespace trireme::calibrate
