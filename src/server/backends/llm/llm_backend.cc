// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_backend.h"

#include <chrono>

#include "base/status.h"
#include "server/backends/llm/llm_tensors.h"
#include "server/core/model.h"

namespace trireme::server {
namespace {

using Clock = std::chrono::steady_clock;

const std::vector<double> kLatencyBounds_s = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                              0.25,  0.5,    1,     2.5,  5,     10,   30};

struct TokenMetrics {
  TokenMetrics(MetricsRegistry& registry, const Labels& labels)
      : first_token_s(registry.AddHistogram("trireme_time_to_first_token_seconds",
                                            "Time from request to first token", labels,
                                            kLatencyBounds_s)),
        inter_token_s(registry.AddHistogram("trireme_inter_token_latency_seconds",
                                            "Time between two tokens of a stream", labels,
                                            kLatencyBounds_s)),
        output_tokens(registry.AddCounter("trireme_output_tokens", "Tokens generated", labels)),
        prompt_tokens(
            registry.AddCounter("trireme_prompt_tokens", "Tokens of accepted prompts", labels)) {}

  Histogram& first_token_s;
  Histogram& inter_token_s;
  Counter& output_tokens;
  Counter& prompt_tokens;
};

// One generation: turns outputs, which come one after another, into responses of a call.
class Generation {
 public:
  Generation(std::shared_ptr<InferCall> call, std::shared_ptr<const GenerateRequest> request,
             TokenMetrics& metrics)
      : call_(std::move(call)), request_(std::move(request)), metrics_(metrics) {}

  const GenerateRequest& request() const { return *request_; }

  void OnOutput(GenerateOutput&& output) {
    Measure(output);
    if (!output.error.ok()) {
      if (output.is_final) call_->Fail(std::move(output.error));
      return;
    }
    if (call_->request().generation != nullptr) {
      InferResponse response;
      response.is_final = output.is_final;
      response.generated = std::make_shared<GenerateOutput>(std::move(output));
      return call_->Respond(std::move(response));
    }
    if (!call_->request().single_response) {
      return call_->Respond(ToInferResponse({&output, 1}, *request_));
    }
    outputs_.push_back(std::move(output));
    if (outputs_.back().is_final) call_->Respond(ToInferResponse(outputs_, *request_));
  }

 private:
  void Measure(const GenerateOutput& output) {
    if (output.tokens.empty()) return;
    const Clock::time_point now = Clock::now();
    const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
    const auto count = static_cast<double>(output.tokens.size());
    metrics_.output_tokens.Add(count);
    if (!seen_token_) {
      metrics_.prompt_tokens.Add(output.num_prompt_tokens);
      metrics_.first_token_s.Observe(seconds(now - begin_));
    } else {
      metrics_.inter_token_s.Observe(seconds(now - last_token_) / count);
    }
    seen_token_ = true;
    last_token_ = now;
  }

  const std::shared_ptr<InferCall> call_;
  // Shared: the call may have brought it.
  const std::shared_ptr<const GenerateRequest> request_;
  TokenMetrics& metrics_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point last_token_;
  bool seen_token_ = false;
  std::vector<GenerateOutput> outputs_;
};

class LlmModel : public BackendModel {
 public:
  LlmModel(std::shared_ptr<Generator> generator, const BackendContext& context)
      : generator_(std::move(generator)),
        metrics_(context.metrics, ModelLabels(context.config, context.version)) {
    AddGauges(context);
  }

  Style style() const override { return Style::kContinuous; }

  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) Start(call);
  }

  bool ready() const override { return generator_->executor().IsHealthy(); }
  void Drain(int64_t drain_ms) override {
    generator_->executor().Shutdown(std::chrono::milliseconds(drain_ms));
  }
  Generator* generator() override { return generator_.get(); }

 private:
  void Start(const std::shared_ptr<InferCall>& call) {
    std::shared_ptr<const GenerateRequest> request = call->request().generation;
    if (request == nullptr) {
      StatusOr<GenerateRequest> from_tensors = ToGenerateRequest(call->request());
      if (!from_tensors.ok()) return call->Fail(from_tensors.status());
      request = std::make_shared<const GenerateRequest>(std::move(*from_tensors));
    }
    auto generation = std::make_shared<Generation>(call, std::move(request), metrics_);
    const StatusOr<RequestId> id = generator_->Generate(
        generation->request(),
        [generation](GenerateOutput&& output) { generation->OnOutput(std::move(output)); });
    if (!id.ok()) return call->Fail(id.status());
    call->OnCancel([id = *id, weak = std::weak_ptr<Generator>(generator_)] {
      if (const auto generator = weak.lock()) generator->Cancel(id);
    });
  }

  // Gauges may be read after the model is gone, so they hold the generator weakly.
  void AddGauges(const BackendContext& context) {
    const std::weak_ptr<Generator> weak = generator_;
    const auto add = [&](const std::string& family, const std::string& help, const std::string& key,
                         const std::string& value, auto read) {
      Labels labels = ModelLabels(context.config, context.version);
      labels[key] = value;
      context.metrics.AddGauge(family, help, labels, [weak, read] {
        const auto generator = weak.lock();
        return generator ? static_cast<double>(read(generator->executor())) : 0.0;
      });
    };
    const auto kv = [&](const std::string& type, auto field) {
      add("nv_trt_llm_kv_cache_block_metrics", "KV cache block metrics", "kv_cache_block_type",
          type, [field](const Executor& executor) { return executor.KvCache().*field; });
    };
    kv("max", &KvCacheStats::max_num_blocks);
    kv("free", &KvCacheStats::free_num_blocks);
    kv("used", &KvCacheStats::used_num_blocks);
    kv("tokens_per", &KvCacheStats::tokens_per_block);
    const auto requests = [&](const std::string& type, auto read) {
      add("nv_trt_llm_request_metrics", "Request metrics", "request_type", type,
          [read](const Executor& executor) { return read(executor.Totals()); });
    };
    requests("active", [](const ExecutorTotals& totals) {
      return totals.requests_accepted - totals.requests_completed;
    });
    requests("paused_total", [](const ExecutorTotals& totals) { return totals.pauses; });
  }

  const std::shared_ptr<Generator> generator_;
  TokenMetrics metrics_;
};

class LlmBackend : public Backend {
 public:
  explicit LlmBackend(std::shared_ptr<Generator> generator) : generator_(std::move(generator)) {}

  InstanceGroup::Kind preferred_kind() const override { return InstanceGroup::Kind::kModel; }

  Status Complete(const CompletionContext& context, ModelConfig& config) const override {
    if (config.inputs.empty() && config.outputs.empty()) {
      config.inputs = LlmInputs();
      config.outputs = LlmOutputs();
      config.max_batch_size = 1;
      config.decoupled = true;
    }
    return OkStatus();
  }

  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    std::shared_ptr<Generator> generator = generator_;
    if (generator == nullptr) {
      TRIREME_ASSIGN_OR_RETURN(generator, LoadGenerator(context));
    }
    return std::unique_ptr<BackendModel>(std::make_unique<LlmModel>(std::move(generator), context));
  }

 private:
  static StatusOr<std::shared_ptr<Generator>> LoadGenerator(const BackendContext& context) {
    std::string engine = context.version_dir;
    Generator::Options options;
    options.use_generation_config = true;
    for (const auto& [key, value] : context.config.parameters) {
      if (key == "gpt_model_path" || key == "engine_dir") {
        engine = value;
      } else if (key == "tokenizer_dir") {
        options.tokenizer_dir = value;
      } else {
        return Unimplemented("model '{}': parameter '{}' does not exist yet", context.config.name,
                             key);
      }
    }
    TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Generator> generator,
                             Generator::Create(engine, {}, options));
    return std::shared_ptr<Generator>(std::move(generator));
  }

  const std::shared_ptr<Generator> generator_;  // null: made when a model is loaded
};

}  // namespace

std::shared_ptr<const Backend> MakeLlmBackend() { return std::make_shared<LlmBackend>(nullptr); }

std::shared_ptr<const Backend> MakeLlmBackend(std::shared_ptr<Generator> generator) {
  return std::make_shared<LlmBackend>(std::move(generator));
}

}  // namespace trireme::server
