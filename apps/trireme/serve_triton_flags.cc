// SPDX-License-Identifier: Apache-2.0
#include "serve_triton_flags.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "base/status.h"

namespace trireme::cli {
namespace {

struct Entry {
  const char* flag;
  const char* why;
};

constexpr Entry kNoEffect[] = {
    {"--model_load_thread_count", "models load one after another"},
    {"--enable_peer_access", "there is nothing to enable"},
    {"--backend_directory", "the backends are part of the program"},
    {"--cache_directory", "there is no cache to load from a folder"},
    {"--repoagent_directory", "there are no repository agents"},
    {"--pinned_memory_pool_byte_size", "there is no such pool"},
    {"--cuda_memory_pool_byte_size", "there is no such pool"},
    {"--cuda_virtual_address_size", "there is no such pool"},
    {"--min_supported_compute_capability", "an engine says what it was built for"},
    {"--buffer_manager_thread_count", "tensors are passed on, not copied"},
    {"--grpc_infer_thread_count", "gRPC chooses its threads"},
    {"--grpc_infer_allocation_pool_size", "gRPC keeps no pool"},
    {"--grpc_max_response_pool_size", "gRPC keeps no pool"},
    {"--log_format", "lines are always ISO 8601"},
    {"--allow_gpu_metrics", "the server reports its own work only"},
    {"--allow_cpu_metrics", "the server reports its own work only"},
    {"--metrics_interval_ms", "metrics are read when they are asked for"},
    {"--tritonserver", "this program is the server"},
    {"--tensorrt_llm_model_name", "one process serves every rank of every model"},
    {"--multi_model", "several models always share one process"},
    {"--disable_spawn_processes", "one process serves every rank"},
    {"--no_mpi", "one process serves every rank"},
    {"--oversubscribe", "one process serves every rank"},
    {"--multimodal_gpu0_cuda_mem_pool_bytes", "there is no such pool"},
};

struct Refused {
  const char* flag;
  const char* why;
  std::vector<std::string> harmless;
};

const std::vector<Refused>& RefusedFlags() {
  const std::vector<std::string> off = {"false", "off", "0"};
  static const auto* refused = new std::vector<Refused>{
      {"--world_size", "several ranks do not run yet", {"1"}},
      {"--trtllm_llmapi_launch", "the llmapi models do not exist yet", {}},
      {"--model_namespacing", "models of one name in two repositories do not exist yet", off},
      {"--model_load_retry_count", "a failed load is not tried again", {"0"}},
      {"--model_load_gpu_limit", "GPU memory is not limited by device yet", {}},
      {"--host_policy", "instances are not bound to processors yet", {}},
      {"--rate_limit", "the rate limiter does not exist yet", {"off"}},
      {"--rate_limit_resource", "the rate limiter does not exist yet", {}},
      {"--reuse_http_port", "ports are not shared", off},
      {"--reuse_grpc_port", "ports are not shared", off},
      {"--http_header_forward_pattern", "headers are not forwarded yet", {""}},
      {"--grpc_header_forward_pattern", "headers are not forwarded yet", {""}},
      {"--http_restricted_api", "restricted APIs do not exist yet", {}},
      {"--grpc_restricted_protocol", "restricted APIs do not exist yet", {}},
      {"--grpc_use_ssl", "TLS does not exist yet", off},
      {"--grpc_use_ssl_mutual", "TLS does not exist yet", off},
      {"--grpc_server_cert", "TLS does not exist yet", {}},
      {"--grpc_server_key", "TLS does not exist yet", {}},
      {"--grpc_root_cert", "TLS does not exist yet", {}},
      {"--grpc_infer_response_compression_level", "gRPC answers are not compressed yet", {"none"}},
      {"--grpc_max_connection_age", "connections have no end yet", {"0"}},
      {"--grpc_max_connection_age_grace", "connections have no end yet", {"0"}},
      {"--metrics_config", "summaries do not exist yet", {"counter_latencies=true"}},
      {"--trace_config", "request tracing does not exist yet", {"level=OFF"}},
      {"--trace_file", "request tracing does not exist yet", {}},
      {"--trace_level", "request tracing does not exist yet", {"OFF"}},
      {"--trace_rate", "request tracing does not exist yet", {}},
      {"--trace_count", "request tracing does not exist yet", {}},
      {"--trace_log_frequency", "request tracing does not exist yet", {"0"}},
      {"--allow_sagemaker", "SageMaker's routes do not exist yet", off},
      {"--allow_vertex_ai", "Vertex AI's routes do not exist yet", off},
  };
  return *refused;
}

}  // namespace

void AddTritonFlags(CommandLine& line, TritonFlags& flags) {
  line.Add("--log_info", flags.log_info, "true or false");
  line.Add("--log_warning", flags.log_warning, "true or false; false needs --log-info false");
  line.Add("--log_error", flags.log_error, "true or false; false needs --log-warning false");
  line.Add("--log_verbose", flags.log_verbose, "above 0: debug messages", kNotNegative);
  line.Add("--log_file", flags.log_file, "file that lines are added to, instead of stderr");
  for (const Entry& entry : kNoEffect) line.AddNoEffect(entry.flag, entry.why);
  for (const Refused& entry : RefusedFlags()) {
    line.AddRefused(entry.flag, entry.why, entry.harmless);
  }
}

Status ApplyTritonFlags(const TritonFlags& flags) {
  TRIREME_ASSIGN_OR_RETURN(const bool info, ParseBool(flags.log_info, "log-info"));
  TRIREME_ASSIGN_OR_RETURN(const bool warning, ParseBool(flags.log_warning, "log-warning"));
  TRIREME_ASSIGN_OR_RETURN(const bool error, ParseBool(flags.log_error, "log-error"));
  if (!error && (warning || info)) {
    return InvalidArgument("--log-error false needs --log-warning false: levels form a ladder");
  }
  if (!warning && info) {
    return InvalidArgument("--log-warning false needs --log-info false: levels form a ladder");
  }
  TRIREME_RETURN_IF_ERROR(SetLogLevel(flags.log_verbose > 0 ? "debug"
                                      : info                ? "info"
                                      : warning             ? "warning"
                                      : error               ? "error"
                                                            : "off"));
  if (flags.log_file.empty()) return OkStatus();
  const int fd = ::open(flags.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, "--log-file '" + flags.log_file + "' cannot be written");
  ::dup2(fd, STDERR_FILENO);
  ::close(fd);
  return OkStatus();
}

}  // namespace trireme::cli
