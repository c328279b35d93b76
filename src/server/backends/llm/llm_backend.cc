// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_backend.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/log.h"
#include "base/status.h"
#include "server/backends/llm/kv_share.h"
#include "server/backends/llm/llm_call.h"
#include "server/backends/llm/llm_parameters.h"
#include "server/backends/llm/vllm_engine_args.h"
#include "server/core/model.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

// Most rows a request may have where the configuration leaves it open: they queue in the executor.
constexpr int kDefaultMaxBatchSize = 256;

// The calls of a model by their ids, for requests that stop another. Thread-safe.
class RunningCalls {
 public:
  void Add(const std::string& id, const std::shared_ptr<LlmCall>& call) EXCLUDES(mutex_) {
    if (id.empty()) return;
    MutexLock lock(mutex_);
    // Ids of ended calls leave when the table would grow.
    if (calls_.size() >= limit_) {
      std::erase_if(calls_, [](const auto& entry) { return entry.second.expired(); });
      limit_ = std::max<size_t>(64, 2 * calls_.size());
    }
    calls_[id] = call;
  }
  std::shared_ptr<LlmCall> Find(const std::string& id) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const auto found = calls_.find(id);
    return found == calls_.end() ? nullptr : found->second.lock();
  }

 private:
  Mutex mutex_;
  std::map<std::string, std::weak_ptr<LlmCall>> calls_ GUARDED_BY(mutex_);
  size_t limit_ GUARDED_BY(mutex_) = 64;
};

class LlmModel : public BackendModel {
 public:
  LlmModel(std::unique_ptr<LlmEngine> engine, std::unique_ptr<LlmFace> face, LlmFaceKind kind,
           const BackendContext& context)
      : engine_(std::move(engine)),
        face_(std::move(face)),
        gathers_(kind == LlmFaceKind::kLogits || !context.config.decoupled),
        config_(context.config),
        metrics_(context.metrics, ModelLabels(context.config, context.version)) {
    if (context.is_alias) return;
    AddLlmGauges(context.metrics, ModelLabels(context.config, context.version),
                 engine_->executor());
  }

  Style style() const override { return Style::kContinuous; }

  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) {
      const Status started = IsStop(*call) ? Stop(call) : Start(call);
      if (!started.ok()) call->Fail(started);
    }
  }

  bool ready() const override { return engine_->executor()->IsHealthy(); }
  void Drain(int64_t drain_ms) override {
    engine_->executor()->Shutdown(std::chrono::milliseconds(drain_ms));
  }
  Generator* generator() override { return engine_->generator(); }

 private:
  static bool IsStop(const InferCall& call) {
    const Tensor* stop = call.request().FindInput("stop");
    return stop != nullptr && !stop->data.empty() && stop->data.front() != 0;
  }

  // Ends the running request of the same id; the answer holds nothing.
  Status Stop(const std::shared_ptr<InferCall>& call) {
    if (call->request().id.empty()) {
      return InvalidArgument("a request with stop needs the id of the request to stop");
    }
    if (const auto running = running_.Find(call->request().id)) running->Stop();
    if (!call->request().single_response) return call->Finish(), OkStatus();
    call->Respond({});
    return OkStatus();
  }

  Status Start(const std::shared_ptr<InferCall>& call) {
    const InferRequest& request = call->request();
    LlmBatch batch;
    if (request.generation != nullptr) {
      batch.requests.push_back({.generate = *request.generation});
      return Run(std::make_shared<LlmCall>(call, std::move(batch), nullptr, engine_, metrics_),
                 request.id, /*as_text=*/true);
    }
    TRIREME_ASSIGN_OR_RETURN(const std::vector<InputRow> rows,
                             SplitRows(request, config_.max_batch_size > 0));
    for (const InputRow& row : rows) {
      TRIREME_ASSIGN_OR_RETURN(batch.requests.emplace_back(), face_->ToRequest(row, request));
      if (batch.requests.back().generate.streaming && !config_.decoupled) {
        return InvalidArgument(
            "Streaming is only supported in decoupled mode: model '{}' is not "
            "decoupled",
            config_.name);
      }
    }
    batch.gather = gathers_ || request.single_response;
    return Run(std::make_shared<LlmCall>(call, std::move(batch), face_.get(), engine_, metrics_),
               request.id, face_->makes_text());
  }

  Status Run(const std::shared_ptr<LlmCall>& call, const std::string& id, bool as_text) {
    running_.Add(id, call);
    call->Start(as_text);
    return OkStatus();
  }

  const std::shared_ptr<LlmEngine> engine_;  // shared: calls hold it weakly
  const std::unique_ptr<LlmFace> face_;
  const bool gathers_;
  const ModelConfig config_;
  LlmMetrics metrics_;
  RunningCalls running_;
};

// The engine in a folder: the folder itself, or the one bare engine file in it.
StatusOr<std::string> FindEngine(const std::string& folder, const std::string& file) {
  if (!file.empty()) return (fs::path(folder) / file).string();
  std::error_code error;
  if (fs::exists(fs::path(folder) / "rank0.engine", error)) return folder;
  std::vector<std::string> engines;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".engine") engines.push_back(entry.path().string());
  }
  if (engines.size() == 1) return engines.front();
  if (engines.empty()) return folder;  // whoever opens it says what is missing
  return InvalidArgument("'{}' holds {} engine files; name one with default_model_filename", folder,
                         engines.size());
}

// The models of a repository that are still to be loaded get equal parts of what is free.
void ShareKvMemory(const BackendContext& context, ExecutorConfig& config) {
  const int num_models = NumTextModelsToLoad(context);
  if (num_models == 1) return;
  LogInfo("kv_cache_shared model={} part=1/{} fraction={}", context.config.name, num_models,
          config.kv_cache.free_memory_fraction);
  config.kv_cache.free_memory_fraction /= num_models;
}

class LlmBackend : public Backend {
 public:
  explicit LlmBackend(LlmBackendOptions options) : options_(std::move(options)) {}
  explicit LlmBackend(std::shared_ptr<Generator> generator) : generator_(std::move(generator)) {}

  InstanceGroup::Kind preferred_kind() const override { return InstanceGroup::Kind::kModel; }

  Status Complete(const CompletionContext& context, ModelConfig& config) const override {
    TRIREME_ASSIGN_OR_RETURN(const LlmFaceKind kind, ChooseLlmFace(config));
    if (config.inputs.empty() && config.outputs.empty()) {
      config.inputs = LlmInputs(kind);
      config.outputs = LlmOutputs(kind);
      if (kind != LlmFaceKind::kVllm) config.max_batch_size = kDefaultMaxBatchSize;
      config.decoupled = true;
    }
    // Requests are batched in flight; the queue's limit is the executor's.
    if (config.dynamic_batching) {
      const uint32_t limit = config.dynamic_batching->default_queue_policy.max_queue_size;
      config.parameters["max_queue_size"] = std::to_string(limit);
      config.dynamic_batching.reset();
    }
    return OkStatus();
  }

  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    const ModelConfig& config = context.config;
    TRIREME_ASSIGN_OR_RETURN(const LlmFaceKind kind, ChooseLlmFace(config));
    TRIREME_ASSIGN_OR_RETURN(LlmParameters parameters,
                             ReadLlmParameters(config, options_.executor));
    ShareKvMemory(context, parameters.executor);
    TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<LlmEngine> engine,
                             LoadEngine(context, kind, parameters));
    auto face = MakeLlmFace(kind, {.config = config,
                                   .vocab_size = engine->executor()->Info().model.vocab_size,
                                   .exclude_input_by_default = parameters.exclude_input_in_output,
                                   .end_ids = engine->end_ids()});
    return std::unique_ptr<BackendModel>(
        std::make_unique<LlmModel>(std::move(engine), std::move(face), kind, context));
  }

 private:
  StatusOr<std::unique_ptr<LlmEngine>> LoadEngine(const BackendContext& context, LlmFaceKind kind,
                                                  const LlmParameters& parameters) const {
    if (generator_ != nullptr) return std::make_unique<LlmEngine>(generator_);
    if (kind == LlmFaceKind::kVllm) return LoadFromEngineArgs(context);
    std::string path = parameters.engine;
    if (path.empty()) {
      TRIREME_ASSIGN_OR_RETURN(
          path, FindEngine(context.version_dir, context.config.default_model_filename));
    } else if (options_.resolve_engine) {
      TRIREME_ASSIGN_OR_RETURN(path, options_.resolve_engine(path, "auto"));
    }
    Generator::Options options;
    options.tokenizer_dir = parameters.tokenizer_dir;
    // A bare engine file has its tokenizer beside it, if at all.
    if (options.tokenizer_dir.empty() && path.ends_with(".engine")) {
      options.tokenizer_dir = fs::path(path).parent_path();
    }
    const bool needs_text = kind == LlmFaceKind::kText || kind == LlmFaceKind::kVllm;
    options.use_generation_config = needs_text;
    return LlmEngine::Load(path, needs_text, parameters.executor, options);
  }

  StatusOr<std::unique_ptr<LlmEngine>> LoadFromEngineArgs(const BackendContext& context) const {
    const std::string file = FindVllmEngineArgs(context.model_dir, context.version_dir);
    if (file.empty()) {
      return NotFound(
          "model '{}' has no engine arguments: neither {}/model.json nor "
          "{}/vllm_engine_args.json",
          context.config.name, context.version_dir, context.model_dir);
    }
    TRIREME_ASSIGN_OR_RETURN(VllmEngineArgs args, ReadVllmEngineArgs(file, options_.executor));
    if (options_.resolve_engine) {
      TRIREME_ASSIGN_OR_RETURN(args.model, options_.resolve_engine(args.model, args.dtype));
    }
    ShareKvMemory(context, args.executor);
    return LlmEngine::Load(args.model, /*needs_text=*/true, args.executor,
                           {.tokenizer_dir = args.tokenizer, .use_generation_config = true});
  }

  const LlmBackendOptions options_;
  const std::shared_ptr<Generator> generator_;  // null: made when a model is loaded
};

}  // namespace

std::shared_ptr<const Backend> MakeLlmBackend(const LlmBackendOptions& options) {
  return std::make_shared<LlmBackend>(options);
}

std::shared_ptr<const Backend> MakeLlmBackend(std::shared_ptr<Generator> generator) {
  return std::make_shared<LlmBackend>(std::move(generator));
}

}  // namespace trireme::server
