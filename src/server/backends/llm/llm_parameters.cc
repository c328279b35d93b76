// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_parameters.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/log.h"
#include "base/status.h"

namespace trireme::server {
namespace {

using Apply = Status (*)(LlmParameters& to, const std::string& value);

struct Row {
  std::string_view key;
  Apply apply;
};

template <typename T>
Status Parse(const std::string& value, T& to) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), to);
  if (error == std::errc() && end == value.data() + value.size()) return OkStatus();
  return InvalidArgument("'{}' is not a number", value);
}

Status Parse(const std::string& value, bool& to) {
  TRIREME_ASSIGN_OR_RETURN(to, ParseFlag(value));
  return OkStatus();
}

Status ApplyBatching(LlmParameters& to, const std::string& value) {
  if (value == "inflight_fused_batching" || value == "inflight_batching") return OkStatus();
  if (value == "V1" || value == "v1") {
    to.executor.capacity_policy = CapacityPolicy::kStaticBatch;
    return OkStatus();
  }
  return InvalidArgument("takes inflight_fused_batching, inflight_batching or V1, not '{}'", value);
}

Status ApplyPolicy(LlmParameters& to, const std::string& value) {
  if (value == "max_utilization") {
    to.executor.capacity_policy = CapacityPolicy::kMaxUtilization;
  } else if (value == "guaranteed_no_evict") {
    to.executor.capacity_policy = CapacityPolicy::kGuaranteedNoEvict;
  } else if (value == "static_batch") {
    to.executor.capacity_policy = CapacityPolicy::kStaticBatch;
  } else {
    return InvalidArgument("takes guaranteed_no_evict, max_utilization or static_batch, not '{}'",
                           value);
  }
  return OkStatus();
}

Status ApplyDecodingMode(LlmParameters&, const std::string& value) {
  // What a request asks for decides.
  for (const char* mode : {"auto", "top_k", "top_p", "top_k_top_p"}) {
    if (value == mode) return OkStatus();
  }
  return Unimplemented("is '{}'; only top_k, top_p and top_k_top_p exist", value);
}

Status ApplyDevices(LlmParameters&, const std::string& value) {
  if (value == "0") return OkStatus();
  return Unimplemented("is '{}'; a model runs on the first GPU, so use 0 or leave it out", value);
}

#define TRIREME_LLM_SET(path) \
  [](LlmParameters& to, const std::string& value) { return Parse(value, to.path); }

// Refused unless it is the value at which the feature is off.
template <typename T, int kNumerator>
Status Only(LlmParameters&, const std::string& value) {
  T number{};
  TRIREME_RETURN_IF_ERROR(Parse(value, number));
  if (number == static_cast<T>(kNumerator)) return OkStatus();
  return Unimplemented("is '{}'; anything but {} belongs to a feature that does not exist yet",
                       value, kNumerator);
}

constexpr Row kParameters[] = {
    {"gpt_model_path",
     [](LlmParameters& to, const std::string& value) {
       to.engine = value;
       return OkStatus();
     }},
    {"engine_dir",
     [](LlmParameters& to, const std::string& value) {
       to.engine = value;
       return OkStatus();
     }},
    {"tokenizer_dir",
     [](LlmParameters& to, const std::string& value) {
       to.tokenizer_dir = value;
       return OkStatus();
     }},
    {"gpt_model_type", ApplyBatching},
    {"batching_strategy", ApplyBatching},
    {"batch_scheduler_policy", ApplyPolicy},
    {"decoding_mode", ApplyDecodingMode},
    {"gpu_device_ids", ApplyDevices},
    {"exclude_input_in_output", TRIREME_LLM_SET(exclude_input_in_output)},
    {"kv_cache_free_gpu_mem_fraction", TRIREME_LLM_SET(executor.kv_cache.free_memory_fraction)},
    {"max_tokens_in_paged_kv_cache", TRIREME_LLM_SET(executor.kv_cache.max_tokens)},
    {"max_attention_window_size", TRIREME_LLM_SET(executor.kv_cache.max_attention_window)},
    {"max_kv_cache_length", TRIREME_LLM_SET(executor.kv_cache.max_attention_window)},
    {"enable_kv_cache_reuse", TRIREME_LLM_SET(executor.kv_cache.enable_block_reuse)},
    {"enable_chunked_context", TRIREME_LLM_SET(executor.enable_chunked_context)},
    {"cuda_graph_mode", TRIREME_LLM_SET(executor.cuda_graphs)},
    {"iter_stats_max_iterations", TRIREME_LLM_SET(executor.iter_stats_max_iterations)},
    {"max_queue_size", TRIREME_LLM_SET(executor.max_queue_size)},
    {"max_beam_width", Only<int, 1>},
    {"num_nodes", Only<int, 1>},
    {"gpu_weights_percent", Only<double, 1>},
    {"normalize_log_probs", Only<bool, 1>},
    {"sink_token_length", Only<int, 0>},
    {"kv_cache_host_memory_bytes", Only<int64_t, 0>},
    {"speculative_decoding_fast_logits", Only<bool, 0>},
};
#undef TRIREME_LLM_SET

struct NoEffect {
  std::string_view key;
  std::string_view why;
};
constexpr NoEffect kNoEffect[] = {
    {"FORCE_CPU_ONLY_INPUT_TENSORS", "tensors of requests are in host memory"},
    {"enable_trt_overlap", "steps always overlap"},
    {"enable_context_fmha_fp32_acc", "attention always accumulates in float32"},
    {"multi_block_mode", "long contexts are always split"},
    {"cuda_graph_cache_size", "every bucket of a decode step has its graph"},
    {"kv_cache_onboard_blocks", "there is no second cache on the host"},
    {"cancellation_check_period_ms", "a cancelled request ends at once"},
    {"stats_check_period_ms", "statistics are read when they are asked for"},
    {"recv_poll_period_ms", "one process serves every rank"},
    {"request_stats_max_iterations", "statistics of requests are in their log lines"},
    {"max_num_sequences", "max_batch_size of the engine decides"},
    {"executor_worker_path", "one process serves every rank"},
    {"worker_path", "one process serves every rank"},
    {"participant_ids", "one process serves every rank"},
    {"tokenizer_type", "the tokenizer's files say what it is"},
    {"lora_cache_optimal_adapter_size", "there are no adapters at run time"},
    {"lora_cache_max_adapter_size", "there are no adapters at run time"},
    {"lora_cache_gpu_memory_fraction", "there are no adapters at run time"},
    {"lora_cache_host_memory_bytes", "there are no adapters at run time"},
};

}  // namespace

StatusOr<bool> ParseFlag(const std::string& value) {
  std::string lower = value;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* yes : {"true", "yes", "t", "1", "on"}) {
    if (lower == yes) return true;
  }
  for (const char* no : {"false", "no", "f", "0", "off"}) {
    if (lower == no) return false;
  }
  return InvalidArgument("takes true or false, not '{}'", value);
}

StatusOr<LlmParameters> ReadLlmParameters(const ModelConfig& config,
                                          const ExecutorConfig& defaults) {
  LlmParameters read;
  read.executor = defaults;
  for (const auto& [key, value] : config.parameters) {
    if (value.empty() || key == "native") continue;
    const auto row = std::ranges::find(kParameters, std::string_view(key), &Row::key);
    if (row != std::end(kParameters)) {
      const Status applied = row->apply(read, value);
      if (!applied.ok()) {
        return applied.WithContext(fmt::format("model '{}': parameter '{}'", config.name, key));
      }
      continue;
    }
    const auto harmless = std::ranges::find(kNoEffect, std::string_view(key), &NoEffect::key);
    if (harmless == std::end(kNoEffect)) {
      return Unimplemented("model '{}': parameter '{}' does not exist yet; leave it out",
                           config.name, key);
    }
    LogWarning("parameter_without_effect model={} parameter={} reason=\"{}\"", config.name, key,
               harmless->why);
  }
  return read;
}

}  // namespace trireme::server
