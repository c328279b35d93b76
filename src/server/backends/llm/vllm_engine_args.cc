// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/vllm_engine_args.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/status.h"
#include "server/backends/llm/llm_parameters.h"
#include "server/core/json_text.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

using Apply = Status (*)(VllmEngineArgs& to, const std::string& value);
struct Row {
  std::string_view key;
  Apply apply;  // null: changes nothing here
};

template <typename T>
Status Parse(const std::string& value, T& to) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), to);
  if (error == std::errc() && end == value.data() + value.size()) return OkStatus();
  return InvalidArgument("'{}' is not a number", value);
}

// Refused unless it says what is the case anyway.
template <typename... Values>
Status OneOf(const std::string& value, Values... harmless) {
  if (((value == harmless) || ...)) return OkStatus();
  return Unimplemented("'{}' belongs to a feature that does not exist yet", value);
}

Status One(VllmEngineArgs&, const std::string& value) { return OneOf(value, "1"); }
Status Off(VllmEngineArgs&, const std::string& value) {
  return OneOf(value, "false", "False", "0", "");
}
Status Automatic(VllmEngineArgs&, const std::string& value) { return OneOf(value, "auto"); }

#define TRIREME_VLLM_NUMBER(path) \
  [](VllmEngineArgs& to, const std::string& value) { return Parse(value, to.path); }
#define TRIREME_VLLM_TEXT(path) \
  [](VllmEngineArgs& to, const std::string& value) { return to.path = value, OkStatus(); }

constexpr Row kRows[] = {
    {"model", TRIREME_VLLM_TEXT(model)},
    {"tokenizer", TRIREME_VLLM_TEXT(tokenizer)},
    {"dtype",
     [](VllmEngineArgs& to, const std::string& value) {
       to.dtype = value == "half" ? "float16" : value == "float" ? "float32" : value;
       return OkStatus();
     }},
    {"max_model_len", TRIREME_VLLM_NUMBER(executor.max_seq_len)},
    {"max_num_seqs", TRIREME_VLLM_NUMBER(executor.max_batch_size)},
    {"max_num_batched_tokens", TRIREME_VLLM_NUMBER(executor.max_num_tokens)},
    {"gpu_memory_utilization", TRIREME_VLLM_NUMBER(executor.kv_cache.free_memory_fraction)},
    {"enable_prefix_caching",
     [](VllmEngineArgs& to, const std::string& value) {
       TRIREME_ASSIGN_OR_RETURN(to.executor.kv_cache.enable_block_reuse, ParseFlag(value));
       return OkStatus();
     }},
    {"enable_chunked_prefill",
     [](VllmEngineArgs& to, const std::string& value) {
       TRIREME_ASSIGN_OR_RETURN(to.executor.enable_chunked_context, ParseFlag(value));
       return OkStatus();
     }},
    {"enforce_eager",
     [](VllmEngineArgs& to, const std::string& value) {
       TRIREME_ASSIGN_OR_RETURN(const bool eager, ParseFlag(value));
       to.executor.cuda_graphs = !eager;
       return OkStatus();
     }},
    {"tensor_parallel_size", One},
    {"pipeline_parallel_size", One},
    {"enable_lora", Off},
    {"kv_cache_dtype", Automatic},
    {"tokenizer_mode", Automatic},
    {"load_format", Automatic},
    {"disable_log_requests", nullptr},
    {"disable_log_stats", nullptr},
    {"distributed_executor_backend", nullptr},
    {"served_model_name", nullptr},
    {"swap_space", nullptr},
    {"trust_remote_code", nullptr},
};
#undef TRIREME_VLLM_NUMBER
#undef TRIREME_VLLM_TEXT

}  // namespace

std::string FindVllmEngineArgs(const std::string& model_dir, const std::string& version_dir) {
  std::error_code ignored;
  for (const fs::path& path :
       {fs::path(version_dir) / "model.json", fs::path(version_dir) / "vllm_engine_args.json",
        fs::path(model_dir) / "vllm_engine_args.json"}) {
    if (fs::exists(path, ignored)) return path;
  }
  return "";
}

StatusOr<VllmEngineArgs> ReadVllmEngineArgs(const std::string& file,
                                            const ExecutorConfig& defaults) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(file, 1 << 20));
  const StatusOr<Json> object = ParseJsonObject(text);
  if (!object.ok()) return object.status().WithContext(file);
  VllmEngineArgs args;
  args.executor = defaults;
  for (const auto& [key, value] : object->items()) {
    if (value.is_null()) continue;
    const auto row = std::ranges::find(kRows, std::string_view(key), &Row::key);
    if (row == std::end(kRows)) {
      return Unimplemented("{}: engine argument '{}' does not exist yet; leave it out", file, key);
    }
    if (row->apply == nullptr) {
      LogInfo("engine_argument_without_effect file={} argument={}", file, key);
      continue;
    }
    const std::string plain = value.is_string() ? value.get<std::string>() : value.dump();
    if (const Status applied = row->apply(args, plain); !applied.ok()) {
      return applied.WithContext(fmt::format("{}: engine argument '{}'", file, key));
    }
  }
  if (args.model.empty()) return InvalidArgument("{}: engine argument 'model' is missing", file);
  return args;
}

}  // namespace trireme::server
