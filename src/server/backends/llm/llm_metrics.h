// SPDX-License-Identifier: Apache-2.0
// What text models report: latencies and tokens as they come, gauges of the executor. Thread-safe.
#pragma once

#include <memory>

#include "server/metrics/registry.h"
#include "server/repository/model_config.h"
#include "trireme/executor.h"

namespace trireme::server {

struct LlmMetrics {
  LlmMetrics(MetricsRegistry& registry, const Labels& labels);

  Histogram& first_token_s;
  Histogram& inter_token_s;
  Counter& output_tokens;
  Counter& prompt_tokens;
};

// Gauges may be read after the model is gone, so they hold the executor weakly.
void AddLlmGauges(MetricsRegistry& registry, const Labels& labels,
                  const std::weak_ptr<Executor>& executor);

}  // namespace trireme::server
