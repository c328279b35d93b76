// SPDX-License-Identifier: Apache-2.0
// trireme serve: models behind HTTP. Replaces tritonserver.
#include <netdb.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <filesystem>

#include "base/log.h"
#include "base/status.h"
#include "cli.h"
#include "commands.h"
#include "device_flags.h"
#include "executor/validation.h"
#include "resolve_model.h"
#include "serve_triton_flags.h"
#include "server/server.h"
#include "trireme/generator.h"

namespace trireme::cli {
namespace {

constexpr std::string_view kName = "serve";

struct Flags {
  std::string model;
  std::string engine_dir;
  std::string tokenizer_dir;
  std::string chat_template;
  std::string model_name = "model";
  ResolveOptions resolve;
  server::ServerConfig server;
  ExecutorConfig executor;
  DeviceFlags device;
  bool ignore_generation_config = false;
  std::string batch_scheduler_policy = "guaranteed_no_evict";
  int exit_timeout_secs = 30;
  TritonFlags triton;
  std::string allow_metrics = "true";
  std::string allow_http = "true";
  std::string allow_grpc = "true";
  std::string grpc_keepalive_permit_without_calls = "false";
  std::string allow_client_shm = "false";
  std::string exit_on_error = "true";
  bool exits_on_error = true;
  std::string strict_readiness = "true";
  std::string model_control_mode = "none";
  bool disable_auto_complete = false;
  std::vector<std::string> backend_config;
  std::vector<std::string> cache_config;
};

void AddRepositoryFlags(CommandLine& line, Flags& f) {
  server::RepositoryOptions& repository = f.server.core.repository;
  line.AddList("--model_repository,--model_store,--model_repo", repository.paths,
               "folder of models, each with config.pbtxt and version folders; repeatable");
  line.Add("--model_control_mode", f.model_control_mode, "none, poll or explicit");
  line.Add("--repository_poll_secs", repository.poll_secs, "between two looks, in mode poll");
  line.AddList("--load_model", repository.load_models,
               "model to load at start, in mode explicit; * is all; repeatable");
  line.Add("--model_config_name", repository.config_name,
           "use configs/NAME.pbtxt of a model that has it");
  line.AddSwitch("--disable_auto_complete_config", f.disable_auto_complete,
                 "refuse models without a complete config.pbtxt");
  line.Add("--strict_readiness", f.strict_readiness,
           "true: ready when every model is; false: ready when the server is up");
  line.Add("--exit_on_error", f.exit_on_error, "true: end when a model cannot be loaded at start");
  line.AddList("--backend_config", f.backend_config, "BACKEND,KEY=VALUE; repeatable");
  line.AddList("--cache_config", f.cache_config,
               "local,size=BYTES: keep responses of models that have response_cache");
  line.Add("--response_cache_byte_size", repository.cache_bytes,
           "the same as --cache_config=local,size=BYTES", kNotNegative);
  line.Add("--allow_client_shm", f.allow_client_shm,
           "true: clients may register shared memory for their tensors");
  line.Add("--allow_http", f.allow_http, "true or false");
}

void AddGrpcFlags(CommandLine& line, Flags& f) {
  server::GrpcServerConfig& grpc = f.server.grpc;
  line.Add("--allow_grpc", f.allow_grpc, "true or false");
  line.Add("--grpc_address", grpc.address, "address of gRPC");
  line.Add("--grpc_port", grpc.port, "port of gRPC; 0: any free one", kPorts);
  line.Add("--grpc_keepalive_time", grpc.keepalive_time_ms, "milliseconds between pings");
  line.Add("--grpc_keepalive_timeout", grpc.keepalive_timeout_ms,
           "milliseconds to wait for a ping's answer");
  line.Add("--grpc_keepalive_permit_without_calls", f.grpc_keepalive_permit_without_calls,
           "true: pings without calls too");
  line.Add("--grpc_http2_max_pings_without_data", grpc.http2_max_pings_without_data,
           "pings in a row without data");
  line.Add("--grpc_http2_min_recv_ping_interval_without_data",
           grpc.http2_min_recv_ping_interval_without_data_ms,
           "milliseconds a client must leave between pings");
  line.Add("--grpc_http2_max_ping_strikes", grpc.http2_max_ping_strikes,
           "pings too many before a connection is closed");
}

void AddFlags(CommandLine& line, Flags& f) {
  line.AddPositional("model", f.model,
                     "engine directory, Hugging Face folder, checkpoint, or org/name of the local "
                     "Hugging Face cache");
  line.Add("--engine_dir", f.engine_dir, "the same as the positional model");
  AddRepositoryFlags(line, f);
  AddGrpcFlags(line, f);
  line.Add("--tokenizer_dir,--tokenizer", f.tokenizer_dir, "default: the engine's own");
  line.Add("--chat_template", f.chat_template, "file with a template, instead of the model's own");
  line.Add("--model_name", f.model_name,
           "name to serve under, besides ensemble, tensorrt_llm_bls and tensorrt_llm");
  line.Add("--device", f.resolve.device,
           "device of an engine built here: cpu, cuda, or auto (cuda where a GPU is found)");
  line.Add("--dtype", f.resolve.dtype, "of an engine built here: float32, float16, bfloat16, auto");
  line.Add("--weight_only_precision", f.resolve.weight_only_precision,
           "of an engine built here: int8 or int4");
  line.Add("--http_address,--host", f.server.http.address, "address to listen on");
  line.Add("--http_port,--port", f.server.http.port, "port of HTTP; 0: any free one", kPorts);
  line.Add("--http_thread_count", f.server.http.num_threads, "I/O threads", {1, 1024});
  line.Add("--http_max_input_size", f.server.http.max_body_bytes,
           "largest request in bytes, binary tensors not counted", kPositive);
  line.Add("--allow_metrics", f.allow_metrics, "true or false");
  line.Add("--metrics_address", f.server.metrics.address, "address of the metrics");
  line.Add("--metrics_port", f.server.metrics.port, "port of the metrics; 0: any free one", kPorts);
  line.Add("--id", f.server.core.id, "name in the server's metadata");
  line.Add("--exit_timeout_secs", f.exit_timeout_secs, "how long running requests may take to end",
           {0, 1e9});
  line.Add("--max_batch_size", f.executor.max_batch_size, "0: as built", kBatchSizes);
  line.Add("--max_num_tokens", f.executor.max_num_tokens, "0: as built", kTokenCounts);
  line.Add("--max_seq_len", f.executor.max_seq_len, "0: as built", kTokenCounts);
  line.Add("--max_queue_size", f.executor.max_queue_size, "waiting requests; 0: no limit",
           kNotNegative);
  line.Add("--num_threads", f.executor.num_threads, "compute threads; 0: one per processor",
           kThreads);
  line.AddSwitch("--verify_weights", f.executor.verify_weights,
                 "read all weights against their checksums before starting");
  line.Add("--kv_cache_free_gpu_mem_fraction,--kv_cache_free_gpu_memory_fraction",
           f.executor.kv_cache.free_memory_fraction,
           "share of free memory for the KV cache, between 0 and 1");
  line.Add("--max_tokens_in_paged_kv_cache", f.executor.kv_cache.max_tokens,
           "tokens in the KV cache; 0: from the fraction", kNotNegative);
  line.AddSwitch("--enable_kv_cache_reuse", f.executor.kv_cache.enable_block_reuse,
                 "keep the blocks of finished prompts for prompts with the same beginning");
  AddDeviceFlags(line, f.device);
  line.AddSwitch("--ignore_generation_config", f.ignore_generation_config,
                 "requests that leave sampling values open are greedy, whatever the model's "
                 "generation_config.json says");
  line.Add("--batch_scheduler_policy", f.batch_scheduler_policy,
           "guaranteed_no_evict, max_utilization or static_batch");
}

void AddOthers(CommandLine& line) {
  line.AddNoEffect("--enable_chunked_context", "prompts are always chunked when they must be");
  line.AddNoEffect("--strict_model_config", "a model folder needs no configuration");
  line.AddRefused("--tp_size", "several ranks do not run yet", {"1"});
  line.AddRefused("--pp_size", "several ranks do not run yet", {"1"});
  line.AddRefused("--max_beam_width", "beam search does not exist yet", {"1"});
}

Status FinishCacheFlags(Flags& f) {
  for (const std::string& setting : f.cache_config) {
    constexpr std::string_view kSize = "local,size=";
    uint64_t bytes = 0;
    const std::string_view value =
        std::string_view(setting).substr(std::min(kSize.size(), setting.size()));
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), bytes);
    if (setting.rfind(kSize, 0) != 0 || error != std::errc() ||
        end != value.data() + value.size()) {
      return InvalidArgument("--cache-config takes local,size=BYTES, not '{}'", setting);
    }
    f.server.core.repository.cache_bytes = bytes;
  }
  return OkStatus();
}

Status FinishRepositoryFlags(Flags& f) {
  server::RepositoryOptions& repository = f.server.core.repository;
  const std::string& mode = f.model_control_mode;
  if (mode != "none" && mode != "poll" && mode != "explicit") {
    return InvalidArgument("--model-control-mode takes none, poll or explicit, not '{}'", mode);
  }
  repository.control_mode = mode == "poll"       ? server::ControlMode::kPoll
                            : mode == "explicit" ? server::ControlMode::kExplicit
                                                 : server::ControlMode::kNone;
  if (!repository.load_models.empty() && mode != "explicit") {
    return InvalidArgument("--load-model needs --model-control-mode=explicit");
  }
  if (repository.poll_secs < 1) return InvalidArgument("--repository-poll-secs must be positive");
  repository.auto_complete = !f.disable_auto_complete;
  TRIREME_ASSIGN_OR_RETURN(repository.strict_readiness,
                           ParseBool(f.strict_readiness, "strict-readiness"));
  TRIREME_ASSIGN_OR_RETURN(f.server.allow_client_shm,
                           ParseBool(f.allow_client_shm, "allow-client-shm"));
  TRIREME_ASSIGN_OR_RETURN(f.exits_on_error, ParseBool(f.exit_on_error, "exit-on-error"));
  TRIREME_ASSIGN_OR_RETURN(f.server.allow_http, ParseBool(f.allow_http, "allow-http"));
  TRIREME_ASSIGN_OR_RETURN(f.server.allow_grpc, ParseBool(f.allow_grpc, "allow-grpc"));
  TRIREME_ASSIGN_OR_RETURN(
      f.server.grpc.keepalive_permit_without_calls,
      ParseBool(f.grpc_keepalive_permit_without_calls, "grpc-keepalive-permit-without-calls"));
  for (const std::string& setting : f.backend_config) {
    const size_t comma = setting.find(',');
    const size_t equals = setting.find('=', comma == std::string::npos ? 0 : comma);
    if (comma == std::string::npos || equals == std::string::npos) {
      return InvalidArgument("--backend-config takes BACKEND,KEY=VALUE, not '{}'", setting);
    }
    repository
        .backend_settings[setting.substr(0, comma)][setting.substr(comma + 1, equals - comma - 1)] =
        setting.substr(equals + 1);
  }
  return OkStatus();
}

// Flags of the text model that is named on the command line.
constexpr const char* kModelFlags[] = {"--tokenizer_dir", "--chat_template", "--model_name",
                                       "--ignore_generation_config"};

Status CheckNoModelFlags(const CommandLine& line) {
  for (const char* flag : kModelFlags) {
    if (!line.Given(flag)) continue;
    return InvalidArgument(
        "{} belongs to a model named on the command line; models of a repository are set in their "
        "config.pbtxt",
        flag);
  }
  return OkStatus();
}

// gRPC takes names too; an IPv6 address may stand in brackets.
Status CheckHostName(std::string name) {
  if (name.starts_with('[') && name.ends_with(']')) name = name.substr(1, name.size() - 2);
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(name.c_str(), nullptr, nullptr, &found);
  if (error != 0) return InvalidArgument("'{}' is no address: {}", name, ::gai_strerror(error));
  ::freeaddrinfo(found);
  return OkStatus();
}

Status CheckRepositories(const Flags& f) {
  for (const std::string& path : f.server.core.repository.paths) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) continue;
    return NotFound("--model-repository '{}' is not a folder", path);
  }
  return OkStatus();
}

Status FinishFlags(Flags& f, const CommandLine& line) {
  if (f.model.empty()) f.model = f.engine_dir;
  const bool has_repository = !f.server.core.repository.paths.empty();
  if (f.model.empty() && !has_repository) {
    return InvalidArgument("name a model: trireme serve MODEL, or --model-repository FOLDER");
  }
  TRIREME_RETURN_IF_ERROR(FinishRepositoryFlags(f));
  TRIREME_RETURN_IF_ERROR(FinishCacheFlags(f));
  if (f.model.empty()) TRIREME_RETURN_IF_ERROR(CheckNoModelFlags(line));
  TRIREME_RETURN_IF_ERROR(server::CheckModelName(f.model_name).WithContext("--model-name"));
  f.server.model_names.front() = f.model_name;
  TRIREME_RETURN_IF_ERROR(
      server::CheckAddress(f.server.http.address).WithContext("--http-address"));
  TRIREME_RETURN_IF_ERROR(
      server::CheckAddress(f.server.metrics.address).WithContext("--metrics-address"));
  TRIREME_RETURN_IF_ERROR(CheckHostName(f.server.grpc.address).WithContext("--grpc-address"));
  TRIREME_RETURN_IF_ERROR(CheckOptions(f.resolve));
  TRIREME_ASSIGN_OR_RETURN(f.server.allow_metrics, ParseBool(f.allow_metrics, "allow-metrics"));
  TRIREME_RETURN_IF_ERROR(ApplyTritonFlags(f.triton));
  if (f.batch_scheduler_policy == "max_utilization") {
    f.executor.capacity_policy = CapacityPolicy::kMaxUtilization;
  } else if (f.batch_scheduler_policy == "static_batch") {
    f.executor.capacity_policy = CapacityPolicy::kStaticBatch;
  } else if (f.batch_scheduler_policy != "guaranteed_no_evict") {
    return InvalidArgument(
        "--batch_scheduler_policy takes guaranteed_no_evict, max_utilization or static_batch, not "
        "'{}'",
        f.batch_scheduler_policy);
  }
  TRIREME_RETURN_IF_ERROR(ApplyDeviceFlags(f.device, f.executor));
  return executor::ValidateConfig(f.executor);
}

// The text model named on the command line; null when there is only a repository.
StatusOr<std::unique_ptr<Generator>> MakeGenerator(const Flags& f) {
  if (f.model.empty()) return std::unique_ptr<Generator>();
  TRIREME_ASSIGN_OR_RETURN(const std::string engine,
                           ResolveEngine(f.model, f.resolve, PlacesFromEnvironment()));
  return Generator::Create(engine, f.executor,
                           {.tokenizer_dir = f.tokenizer_dir,
                            .chat_template_file = f.chat_template,
                            .use_generation_config = !f.ignore_generation_config});
}

// The models as tritonserver shows them when they are loaded, line by line.
std::vector<std::string> ModelTable(const std::vector<server::IndexEntry>& models) {
  std::vector<std::array<std::string, 3>> rows = {{"Model", "Version", "Status"}};
  for (const server::IndexEntry& model : models) {
    if (model.version == 0) continue;
    rows.push_back({model.name, std::to_string(model.version),
                    model.state + (model.reason.empty() ? "" : ": " + model.reason)});
  }
  std::array<size_t, 3> widths{};
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string line = "+";
  for (const size_t width : widths) line += std::string(width + 2, '-') + "+";
  std::vector<std::string> table = {line};
  for (size_t i = 0; i < rows.size(); ++i) {
    table.push_back(fmt::format("| {:{}} | {:{}} | {:{}} |", rows[i][0], widths[0], rows[i][1],
                                widths[1], rows[i][2], widths[2]));
    if (i == 0) table.push_back(line);
  }
  table.push_back(line);
  return table;
}

// What models of a repository that name a folder instead of an engine are made of.
server::LlmBackendOptions LlmOptions(const Flags& f) {
  return {
      .executor = f.executor,
      .resolve_engine = [resolve = f.resolve](const std::string& model, const std::string& dtype) {
        ResolveOptions options = resolve;
        if (dtype != "auto") options.dtype = dtype;
        return ResolveEngine(model, options, PlacesFromEnvironment());
      }};
}

Status Serve(Flags& f) {
  TRIREME_RETURN_IF_ERROR(CheckRepositories(f));
  // Blocked in every thread made from here on, so that sigwait below is the one to see them.
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);

  f.server.llm = LlmOptions(f);
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Generator> generator, MakeGenerator(f));
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<server::Server> server,
                           server::Server::Start(f.server, std::move(generator)));
  const Status loaded = server->WaitUntilLoaded();
  for (const std::string& row : ModelTable(server->core().repository().Index(false))) {
    LogInfo("{}", row);
  }
  if (!loaded.ok() && f.exits_on_error) {
    return Internal("error: creating server: Internal - failed to load all models: {}",
                    loaded.message());
  }
  int signal_number = 0;
  ::sigwait(&signals, &signal_number);
  LogInfo("Signal ({}) received.", signal_number);
  LogInfo("shutting_down signal={} drain_s={}", signal_number, f.exit_timeout_secs);
  server->Shutdown(std::chrono::seconds(f.exit_timeout_secs));
  LogInfo("stopped");
  return OkStatus();
}

}  // namespace

int RunServe(std::span<const std::string> arguments) {
  Flags flags;
  flags.server.metrics.port = 8002;
  CommandLine line(
      kName, "Serve a model over HTTP.",
      {"trireme serve engine", "trireme serve Qwen/Qwen2-0.5B-Instruct --dtype bfloat16",
       "curl -X POST localhost:8000/v2/models/ensemble/generate -d "
       "'{\"text_input\": \"Hello\", \"max_tokens\": 32}'"});
  AddFlags(line, flags);
  AddOthers(line);
  AddTritonFlags(line, flags.triton);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (const Status status = FinishFlags(flags, line); !status.ok()) return FailUsage(kName, status);
  const Status status = Serve(flags);
  return status.ok() ? kExitOk : Fail(kName, status);
}

}  // namespace trireme::cli
