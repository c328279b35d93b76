// SPDX-License-Identifier: Apache-2.0
// Backend `llm_bls`: the five-model layout's tensorrt_llm_bls. It asks preprocessing, the text model
// and postprocessing by their names, whatever they are executed by, and minds stop words in the text.
// It has no instances: any number of requests run at once.
#include <algorithm>

#include "base/mutex.h"
#include "base/status.h"
#include "server/backends/ensemble_run.h"
#include "server/backends/layout/bls_text.h"
#include "server/backends/layout/layout_tokenizer.h"
#include "server/backends/layout/layout_wiring.h"
#include "server/backends/llm/llm_face.h"
#include "server/core/model.h"

namespace trireme::server {
namespace {

constexpr LayoutParameter kParameters[] = {{"accumulate_tokens", true},
                                           {"tensorrt_llm_model_name", true},
                                           {"preprocessing_model_name", true},
                                           {"postprocessing_model_name", true},
                                           {"tensorrt_llm_draft_model_name", false},
                                           {"multimodal_encoders_name", false}};

// The three models wired up, as they were when they were found.
struct Pipeline {
  ModelConfig config;
  EnsembleGraph graph;
  std::vector<std::weak_ptr<Model>> models;

  bool IsCurrent() const {
    for (const auto& model : models) {
      if (model.expired()) return false;
    }
    return true;
  }
};

// One request: the responses of the pipeline become those of the call, one after another.
class BlsRun {
 public:
  BlsRun(std::shared_ptr<InferCall> call, std::shared_ptr<const Pipeline> pipeline, BlsText text,
         bool streaming, bool decoupled)
      : call_(std::move(call)),
        pipeline_(std::move(pipeline)),
        text_(std::move(text)),
        streaming_(streaming),
        decoupled_(decoupled) {}

  void OnResponse(InferCall& inner, InferResponse&& response) {
    if (!response.error.ok()) {
      // What was cancelled because its text had ended has not failed.
      return text_.AllStopped() ? End() : call_->Fail(std::move(response.error));
    }
    const bool is_final = response.is_final;
    if (!response.is_empty && !text_.AllStopped()) {
      if (const Status status = text_.Rewrite(response, streaming_); !status.ok()) {
        return call_->Fail(status);
      }
      Emit(std::move(response));
      // Nothing that comes now is wanted; the blocks are.
      if (text_.AllStopped() && !is_final) inner.Cancel();
    }
    if (!is_final) return;
    for (InferResponse& held : text_.Flush()) Emit(std::move(held));
    End();
  }

 private:
  // The one response of a call that is not decoupled is its last.
  void Emit(InferResponse response) {
    response.is_final = false;
    if (decoupled_) return call_->Respond(std::move(response));
    if (!kept_) kept_ = std::move(response);
  }

  void End() {
    if (!kept_) return call_->Finish();
    kept_->is_final = true;
    call_->Respond(std::move(*kept_));
  }

  const std::shared_ptr<InferCall> call_;
  const std::shared_ptr<const Pipeline> pipeline_;  // shared: what runs refers to it
  BlsText text_;
  const bool streaming_;
  const bool decoupled_;
  std::optional<InferResponse> kept_;
};

class BlsModel : public BackendModel {
 public:
  BlsModel(const BackendContext& context, LayoutModels models, bool accumulates)
      : config_(context.config),
        models_(std::move(models)),
        accumulates_(accumulates),
        caller_(context.caller) {}

  Style style() const override { return Style::kContinuous; }

  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) {
      if (const Status started = Start(call); !started.ok()) call->Fail(started);
    }
  }

  bool ready() const override {
    for (const std::string& name : {models_.preprocessing, models_.core, models_.postprocessing}) {
      const auto model = caller_.FindModel(name, -1);
      if (!model.ok() || !(*model)->ready()) return false;
    }
    return true;
  }

 private:
  Status Start(const std::shared_ptr<InferCall>& call) {
    InferRequest request = call->request();
    const Tensor* stream = request.FindInput("stream");
    const bool streaming = stream != nullptr && !stream->data.empty() &&
                           stream->data.front() != 0 && !request.single_response;
    if (streaming && !config_.decoupled) {
      return InvalidArgument(
          "Streaming is only supported in decoupled mode: model '{}' is not decoupled",
          config_.name);
    }
    TRIREME_ASSIGN_OR_RETURN(const auto pipeline, FindPipeline());
    TRIREME_RETURN_IF_ERROR(CheckInputs(request, pipeline->graph));
    TRIREME_ASSIGN_OR_RETURN(BlsText text, BlsText::Make(request, config_.max_batch_size > 0,
                                                         accumulates_ && streaming));
    request.single_response |= !config_.decoupled;
    request.model_name = pipeline->config.name;
    std::erase_if(request.outputs, [&](const std::string& output) {
      return pipeline->config.FindOutput(output) == nullptr;
    });
    auto run =
        std::make_shared<BlsRun>(call, pipeline, std::move(text), streaming, config_.decoupled);
    const auto inner = std::make_shared<InferCall>(
        std::move(request), [run](InferCall& from, InferResponse&& response) {
          run->OnResponse(from, std::move(response));
        });
    call->OnCancel([weak = std::weak_ptr<InferCall>(inner)] {
      if (const auto running = weak.lock()) running->Cancel();
    });
    std::make_shared<EnsembleRun>(pipeline->config, pipeline->graph, caller_, inner)->Start();
    return OkStatus();
  }

  // An input that no model takes belongs to a feature that does not exist.
  static Status CheckInputs(const InferRequest& request, const EnsembleGraph& graph) {
    for (const Tensor& input : request.inputs) {
      const bool taken = std::ranges::any_of(graph.steps(), [&](const EnsembleStep& step) {
        return std::ranges::any_of(step.input_map,
                                   [&](const auto& entry) { return entry.second == input.name; });
      });
      if (taken || input.data.empty()) continue;
      return Unimplemented("'{}' belongs to a feature that does not exist yet", input.name);
    }
    return OkStatus();
  }

  // Made again when one of its models was replaced.
  StatusOr<std::shared_ptr<const Pipeline>> FindPipeline() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (pipeline_ != nullptr && pipeline_->IsCurrent()) return pipeline_;
    std::vector<std::weak_ptr<Model>> found;
    for (const std::string& name : {models_.preprocessing, models_.core, models_.postprocessing}) {
      const auto model = caller_.FindModel(name, -1);
      if (!model.ok()) {
        return Unavailable("model '{}' needs '{}': {}", config_.name, name,
                           model.status().message());
      }
      found.push_back(*model);
    }
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, LayoutEnsemble(config_, models_, caller_));
    TRIREME_ASSIGN_OR_RETURN(EnsembleGraph graph, EnsembleGraph::Make(config, caller_));
    pipeline_ = std::make_shared<const Pipeline>(
        Pipeline{std::move(config), std::move(graph), std::move(found)});
    return pipeline_;
  }

  const ModelConfig config_;
  const LayoutModels models_;
  const bool accumulates_;
  ModelCaller& caller_;
  Mutex mutex_;
  // Shared: with the requests that run through it.
  std::shared_ptr<const Pipeline> pipeline_ GUARDED_BY(mutex_);
};

class BlsBackend : public Backend {
 public:
  Status Complete(const CompletionContext& context, ModelConfig& config) const override {
    if (config.inputs.empty() && config.outputs.empty()) {
      config.inputs = LlmInputs(LlmFaceKind::kText);
      config.outputs = LlmOutputs(LlmFaceKind::kText);
    }
    config.dynamic_batching.reset();  // nothing waits here
    return OkStatus();
  }

  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    const ModelConfig& config = context.config;
    TRIREME_RETURN_IF_ERROR(CheckLayoutConfig(config, kParameters, {}, {}));
    for (const char* name : {"text_input", "max_tokens"}) {
      if (config.FindInput(name) == nullptr) {
        return InvalidArgument("model '{}' does not declare input '{}'", config.name, name);
      }
    }
    TRIREME_ASSIGN_OR_RETURN(const bool accumulates,
                             FlagParameter(config, "accumulate_tokens", false));
    LayoutModels models;
    const auto name = [&](const char* key, std::string& to) {
      const auto found = config.parameters.find(key);
      if (found != config.parameters.end() && !found->second.empty()) to = found->second;
    };
    name("tensorrt_llm_model_name", models.core);
    name("preprocessing_model_name", models.preprocessing);
    name("postprocessing_model_name", models.postprocessing);
    return std::unique_ptr<BackendModel>(
        std::make_unique<BlsModel>(context, std::move(models), accumulates));
  }
};

}  // namespace

std::shared_ptr<const Backend> MakeBlsBackend() { return std::make_shared<BlsBackend>(); }

}  // namespace trireme::server
