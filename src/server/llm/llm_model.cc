// SPDX-License-Identifier: Apache-2.0
#include "server/llm/llm_model.h"

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "server/error_reply.h"
#include "server/llm/generate_json.h"

namespace trireme::server {
namespace {

using Clock = std::chrono::steady_clock;

const std::vector<double> kLatencyBounds_s = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                              0.25,  0.5,    1,     2.5,  5,     10,   30};

double Microseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// Inputs and outputs as the ensemble of the reference layout declares them.
struct TensorInfo {
  const char* name;
  const char* datatype;
};
constexpr TensorInfo kInputs[] = {{"text_input", "BYTES"},
                                  {"max_tokens", "INT32"},
                                  {"bad_words", "BYTES"},
                                  {"stop_words", "BYTES"},
                                  {"exclude_input_in_output", "BOOL"},
                                  {"end_id", "INT32"},
                                  {"pad_id", "INT32"},
                                  {"top_k", "INT32"},
                                  {"top_p", "FP32"},
                                  {"min_p", "FP32"},
                                  {"temperature", "FP32"},
                                  {"length_penalty", "FP32"},
                                  {"repetition_penalty", "FP32"},
                                  {"min_tokens", "INT32"},
                                  {"presence_penalty", "FP32"},
                                  {"frequency_penalty", "FP32"},
                                  {"seed", "UINT64"},
                                  {"return_log_probs", "BOOL"},
                                  {"return_context_logits", "BOOL"},
                                  {"return_generation_logits", "BOOL"},
                                  {"beam_width", "INT32"},
                                  {"num_return_sequences", "INT32"},
                                  {"stream", "BOOL"},
                                  {"embedding_bias_words", "BYTES"},
                                  {"embedding_bias_weights", "FP32"}};
constexpr TensorInfo kOutputs[] = {{"text_output", "BYTES"},      {"cum_log_probs", "FP32"},
                                   {"output_log_probs", "FP32"},  {"context_logits", "FP32"},
                                   {"generation_logits", "FP32"}, {"sequence_index", "INT32"}};

}  // namespace

struct LlmModel::Metrics {
  Metrics(MetricsRegistry& registry, const std::string& model)
      : labels{{"model", model}, {"version", "1"}},
        success(registry.AddCounter("nv_inference_request_success",
                                    "Number of successful inference requests, all batch sizes",
                                    labels)),
        failure(registry.AddCounter("nv_inference_request_failure",
                                    "Number of failed inference requests, all batch sizes",
                                    labels)),
        count(registry.AddCounter("nv_inference_count", "Number of inferences performed", labels)),
        duration_us(registry.AddCounter("nv_inference_request_duration_us",
                                        "Cumulative inference request duration in microseconds",
                                        labels)),
        first_token_s(registry.AddHistogram("trireme_time_to_first_token_seconds",
                                            "Time from request to first token", labels,
                                            kLatencyBounds_s)),
        inter_token_s(registry.AddHistogram("trireme_inter_token_latency_seconds",
                                            "Time between two tokens of a stream", labels,
                                            kLatencyBounds_s)),
        output_tokens(registry.AddCounter("trireme_output_tokens", "Tokens generated", labels)),
        prompt_tokens(
            registry.AddCounter("trireme_prompt_tokens", "Tokens of accepted prompts", labels)) {}

  Labels labels;
  Counter& success;
  Counter& failure;
  Counter& count;
  Counter& duration_us;
  Histogram& first_token_s;
  Histogram& inter_token_s;
  Counter& output_tokens;
  Counter& prompt_tokens;
};

// One request on its way: what the executor's output thread needs to answer it.
class LlmModel::Call {
 public:
  Call(std::shared_ptr<HttpExchange> exchange, std::string model_name, GenerateCall parsed,
       bool events, Metrics& metrics)
      : exchange_(std::move(exchange)),
        model_name_(std::move(model_name)),
        parsed_(std::move(parsed)),
        events_(events),
        metrics_(metrics) {}

  const GenerateRequest& request() const { return parsed_.request; }
  HttpExchange& exchange() { return *exchange_; }

  // The executor's id is known only after the call has started; a client may go before that.
  void SetId(RequestId id, Generator& generator) {
    exchange_->OnDisconnect([id, &generator] { generator.Cancel(id); });
  }

  void OnOutput(GenerateOutput&& output) {
    Measure(output);
    if (!output.error.ok()) return Fail(output.error, output.is_final);
    if (events_) {
      Begin(200);
      exchange_->Write("data: " + Reply(output) + "\n\n");
      if (output.is_final) Finish(true);
      return;
    }
    outputs_.push_back(std::move(output));
    if (!outputs_.back().is_final) return;
    exchange_->Send(JsonResponse(MergedReply()));
    Count(true);
  }

  // Before or instead of outputs.
  void Reject(const Status& status) {
    exchange_->Send(ErrorResponse(status));
    Count(false);
  }

 private:
  std::string Reply(const GenerateOutput& output) const {
    return GenerateReply(output, parsed_, model_name_, "1");
  }

  // /generate answers once; several sequences come as the first one's reply with a list of texts.
  std::string MergedReply() const {
    if (outputs_.size() == 1) return Reply(outputs_.front());
    nlohmann::json reply = nlohmann::json::parse(Reply(outputs_.front()));
    nlohmann::json texts = nlohmann::json::array();
    for (const GenerateOutput& output : outputs_) texts.push_back(output.text);
    reply["text_output"] = texts;
    reply.erase("sequence_index");
    return reply.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  void Begin(int status) {
    if (begun_) return;
    begun_ = true;
    HttpResponse head;
    head.status = status;
    head.content_type = "text/event-stream; charset=utf-8";
    exchange_->BeginStream(std::move(head));
  }

  void Fail(const Status& error, bool is_final) {
    if (events_) {
      Begin(HttpStatusOf(error.code()));
      exchange_->Write("data: " + ErrorJson(error.message()) + "\n\n");
      if (is_final) Finish(false);
    } else if (is_final) {
      Reject(error);
    }
  }

  void Finish(bool success) {
    exchange_->End();
    Count(success);
  }

  void Count(bool success) {
    (success ? metrics_.success : metrics_.failure).Add(1);
    if (success) metrics_.count.Add(1);
    metrics_.duration_us.Add(Microseconds(Clock::now() - begin_));
  }

  void Measure(const GenerateOutput& output) {
    if (output.tokens.empty()) return;
    const Clock::time_point now = Clock::now();
    metrics_.output_tokens.Add(static_cast<double>(output.tokens.size()));
    if (!seen_token_) {
      metrics_.prompt_tokens.Add(output.num_prompt_tokens);
      metrics_.first_token_s.Observe(std::chrono::duration<double>(now - begin_).count());
    } else {
      metrics_.inter_token_s.Observe(std::chrono::duration<double>(now - last_token_).count() /
                                     static_cast<double>(output.tokens.size()));
    }
    seen_token_ = true;
    last_token_ = now;
  }

  std::shared_ptr<HttpExchange> exchange_;
  const std::string model_name_;
  const GenerateCall parsed_;
  const bool events_;
  Metrics& metrics_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point last_token_;
  bool seen_token_ = false;
  bool begun_ = false;
  std::vector<GenerateOutput> outputs_;
};

LlmModel::LlmModel(std::string name, std::unique_ptr<Generator> generator,
                   MetricsRegistry& registry)
    : name_(std::move(name)),
      metrics_(std::make_unique<Metrics>(registry, name_)),
      generator_(std::move(generator)) {
  Executor& executor = generator_->executor();
  const auto kv_gauge = [&](const std::string& type, auto field) {
    Labels labels = metrics_->labels;
    labels["kv_cache_block_type"] = type;
    registry.AddGauge(
        "nv_trt_llm_kv_cache_block_metrics", "KV cache block metrics", labels,
        [&executor, field] { return static_cast<double>(executor.KvCache().*field); });
  };
  kv_gauge("max", &KvCacheStats::max_num_blocks);
  kv_gauge("free", &KvCacheStats::free_num_blocks);
  kv_gauge("used", &KvCacheStats::used_num_blocks);
  kv_gauge("tokens_per", &KvCacheStats::tokens_per_block);
  const auto request_gauge = [&](const std::string& type, auto read) {
    Labels labels = metrics_->labels;
    labels["request_type"] = type;
    registry.AddGauge("nv_trt_llm_request_metrics", "Request metrics", labels,
                      [&executor, read] { return static_cast<double>(read(executor.Totals())); });
  };
  request_gauge("active",
                [](const ExecutorTotals& t) { return t.requests_accepted - t.requests_completed; });
  request_gauge("paused_total", [](const ExecutorTotals& t) { return t.pauses; });
}

LlmModel::~LlmModel() = default;

bool LlmModel::ready() const { return generator_->executor().IsHealthy(); }

std::string LlmModel::MetadataJson(const std::string& name) const {
  nlohmann::ordered_json metadata = {
      {"name", name}, {"versions", {"1"}}, {"platform", "trireme_llm"}};
  const auto list = [&](const char* key, std::span<const TensorInfo> tensors) {
    metadata[key] = nlohmann::ordered_json::array();
    for (const TensorInfo& tensor : tensors) {
      metadata[key].push_back(
          {{"name", tensor.name}, {"datatype", tensor.datatype}, {"shape", {-1, -1}}});
    }
  };
  list("inputs", kInputs);
  list("outputs", kOutputs);
  return metadata.dump();
}

void LlmModel::Start(std::shared_ptr<Call> call) {
  const StatusOr<RequestId> id = generator_->Generate(
      call->request(), [call](GenerateOutput&& output) { call->OnOutput(std::move(output)); });
  if (!id.ok()) return call->Reject(id.status());
  call->SetId(*id, *generator_);
}

void LlmModel::Generate(const std::shared_ptr<HttpExchange>& exchange, const std::string& name) {
  StatusOr<GenerateCall> parsed = ParseGenerateCall(exchange->request().body);
  if (!parsed.ok()) {
    metrics_->failure.Add(1);
    return exchange->Send(ErrorResponse(parsed.status()));
  }
  parsed->request.streaming = false;  // one answer, whole
  Start(std::make_shared<Call>(exchange, name, std::move(*parsed), false, *metrics_));
}

void LlmModel::GenerateStream(const std::shared_ptr<HttpExchange>& exchange,
                              const std::string& name) {
  StatusOr<GenerateCall> parsed = ParseGenerateCall(exchange->request().body);
  if (!parsed.ok()) {
    metrics_->failure.Add(1);
    return exchange->Send(ErrorResponse(parsed.status()));
  }
  // Each event of a stream holds new text only.
  if (parsed->request.streaming) parsed->request.output.exclude_input_from_output = true;
  Start(std::make_shared<Call>(exchange, name, std::move(*parsed), true, *metrics_));
}

void LlmModel::Shutdown(std::chrono::milliseconds drain) { generator_->executor().Shutdown(drain); }

}  // namespace trireme::server
