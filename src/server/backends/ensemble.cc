// SPDX-License-Identifier: Apache-2.0
// Backend `ensemble`: models wired by tensor names. It has no instances; steps run as soon as what
// they need is there, and tensors go from step to step as they are.
#include "base/status.h"
#include "server/backends/backend.h"
#include "server/backends/ensemble_run.h"
#include "server/core/model.h"

namespace trireme::server {
namespace {

class EnsembleModel : public BackendModel {
 public:
  EnsembleModel(const BackendContext& context, EnsembleGraph graph)
      : config_(context.config), graph_(std::move(graph)), caller_(context.caller) {}

  Style style() const override { return Style::kContinuous; }

  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) {
      std::make_shared<EnsembleRun>(config_, graph_, caller_, call)->Start();
    }
  }

  bool ready() const override {
    for (const EnsembleStep& step : graph_.steps()) {
      const auto model = caller_.FindModel(step.model_name, step.model_version);
      if (!model.ok() || !(*model)->ready()) return false;
    }
    return true;
  }

 private:
  const ModelConfig config_;
  const EnsembleGraph graph_;
  ModelCaller& caller_;
};

class EnsembleBackend : public Backend {
 public:
  // An ensemble is decoupled when one of its models is.
  Status Complete(const CompletionContext& context, ModelConfig& config) const override {
    for (const EnsembleStep& step : config.ensemble_steps) {
      const auto model = context.caller.FindModel(step.model_name, step.model_version);
      if (model.ok() && (*model)->config().decoupled) config.decoupled = true;
    }
    return OkStatus();
  }

  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    if (context.config.dynamic_batching) {
      return InvalidArgument("ensemble '{}' has dynamic_batching; its steps batch for themselves",
                             context.config.name);
    }
    TRIREME_ASSIGN_OR_RETURN(EnsembleGraph graph,
                             EnsembleGraph::Make(context.config, context.caller));
    return std::unique_ptr<BackendModel>(
        std::make_unique<EnsembleModel>(context, std::move(graph)));
  }
};

}  // namespace

std::shared_ptr<const Backend> MakeEnsembleBackend() { return std::make_shared<EnsembleBackend>(); }

}  // namespace trireme::server
