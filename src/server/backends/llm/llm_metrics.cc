// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_metrics.h"

namespace trireme::server {
namespace {

const std::vector<double> kLatencyBounds_s = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                              0.25,  0.5,    1,     2.5,  5,     10,   30};

}  // namespace

LlmMetrics::LlmMetrics(MetricsRegistry& registry, const Labels& labels)
    : first_token_s(registry.AddHistogram("trireme_time_to_first_token_seconds",
                                          "Time from request to first token", labels,
                                          kLatencyBounds_s)),
      inter_token_s(registry.AddHistogram("trireme_inter_token_latency_seconds",
                                          "Time between two tokens of a stream", labels,
                                          kLatencyBounds_s)),
      output_tokens(registry.AddCounter("trireme_output_tokens", "Tokens generated", labels)),
      prompt_tokens(
          registry.AddCounter("trireme_prompt_tokens", "Tokens of accepted prompts", labels)) {}

void AddLlmGauges(MetricsRegistry& registry, const Labels& labels,
                  const std::weak_ptr<Executor>& executor) {
  const auto add = [&](const std::string& family, const std::string& help, const std::string& key,
                       const std::string& value, auto read) {
    Labels with_kind = labels;
    with_kind[key] = value;
    registry.AddGauge(family, help, with_kind, [executor, read] {
      const auto alive = executor.lock();
      return alive ? static_cast<double>(read(*alive)) : 0.0;
    });
  };
  const auto kv = [&](const std::string& type, auto field) {
    add("nv_trt_llm_kv_cache_block_metrics", "KV cache block metrics", "kv_cache_block_type", type,
        [field](const Executor& alive) { return alive.KvCache().*field; });
  };
  kv("max", &KvCacheStats::max_num_blocks);
  kv("free", &KvCacheStats::free_num_blocks);
  kv("used", &KvCacheStats::used_num_blocks);
  kv("tokens_per", &KvCacheStats::tokens_per_block);
  const auto requests = [&](const std::string& type, auto read) {
    add("nv_trt_llm_request_metrics", "Request metrics", "request_type", type,
        [read](const Executor& alive) { return read(alive.Totals()); });
  };
  requests("active", [](const ExecutorTotals& totals) {
    return totals.requests_accepted - totals.requests_completed;
  });
  requests("paused_total", [](const ExecutorTotals& totals) { return totals.pauses; });
}

}  // namespace trireme::server
