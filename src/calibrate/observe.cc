// SPDX-License-Identifier: Apache-2.0
#include "calibrate/observe.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "eval/sequence_runner.h"

namespace trireme::calibrate {
namespace {

using engine::LogitsWanted;

// Reads a whole sample; of the logits only the last row is computed, for the layer that makes them.
Status ReadSample(eval::SequenceRunner& runner, std::span<const TokenId> sample) {
  runner.Restart();
  while (!sample.empty()) {
    const size_t size = std::min<size_t>(sample.size(), eval::SequenceRunner::kPieceTokens);
    const bool is_last = size == sample.size();
    TRIREME_RETURN_IF_ERROR(
        runner.Read(sample.first(size), is_last ? LogitsWanted::kLast : LogitsWanted::kNone)
            .status());
    sample = sample.subspan(size);
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::map<std::string, float>> LargestInputs(const std::string& engine_dir,
                                                     std::span<const TokenSample> samples,
                                                     const eval::EvalProgressFn& progress) {
  std::map<std::string, float> largest;
  const auto observe = [&](std::string_view name, const float* x, int64_t stride, int64_t rows,
                           int64_t size) {
    float& of_layer = largest[std::string(name)];
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < size; ++i) {
        const float value = std::fabs(x[row * stride + i]);
        if (!(value <= of_layer)) of_layer = value;  // a NaN stays
      }
    }
  };
  eval::RunnerOptions options;
  options.max_seq_len = eval::LongestOf(samples);
  options.observe_linear = observe;
  TRIREME_ASSIGN_OR_RETURN(eval::SequenceRunner runner,
                           eval::SequenceRunner::Load(engine_dir, std::move(options)));
  for (size_t i = 0; i < samples.size(); ++i) {
    TRIREME_RETURN_IF_ERROR(ReadSample(runner, samples[i]));
    if (progress) progress(static_cast<int64_t>(i) + 1, static_cast<int64_t>(samples.size()));
  }
  for (const auto& [name, value] : largest) {
    if (std::isfinite(value)) continue;
    return InvalidArgument("the input of layer '{}' is not finite on the calibration text", name);
  }
  return largest;
}

}  // namespace trireme::calibrate
