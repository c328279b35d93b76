// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/python_backend.h"

#include <filesystem>

#include "base/status.h"
#include "server/backends/python/model_process.h"
#include "server/backends/python/python_settings.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

class PythonModel : public BackendModel {
 public:
  static StatusOr<std::unique_ptr<BackendModel>> Start(std::vector<ModelProgram> programs) {
    auto model = std::make_unique<PythonModel>();
    for (ModelProgram& program : programs) {
      model->processes_.push_back(std::make_unique<ModelProcess>(std::move(program)));
    }
    for (const auto& process : model->processes_) {
      TRIREME_RETURN_IF_ERROR(process->WaitUntilStarted());
    }
    return std::unique_ptr<BackendModel>(std::move(model));
  }

  ~PythonModel() override {
    for (const auto& process : processes_) process->End();  // all at once, then one by one
  }

  Style style() const override { return Style::kBlocking; }

  void Execute(Execution& execution) override {
    processes_[static_cast<size_t>(execution.instance())]->Execute(execution);
  }

  bool ready() const override {
    for (const auto& process : processes_) {
      if (!process->ready()) return false;
    }
    return true;
  }

  // What still runs when the server's time is up is ended by force.
  void Abort() override {
    for (const auto& process : processes_) process->Kill();
  }

 private:
  std::vector<std::unique_ptr<ModelProcess>> processes_;
};

std::string_view KindName(InstanceGroup::Kind kind) {
  switch (kind) {
    case InstanceGroup::Kind::kGpu: return "GPU";
    case InstanceGroup::Kind::kModel: return "MODEL";
    default: return "CPU";
  }
}

class PythonBackend : public Backend {
 public:
  // With a name: a backend whose model.py is ours, and whose models are files of another kind.
  explicit PythonBackend(std::string name) : name_(std::move(name)) {}

  bool places_on_gpus() const override { return true; }

  Status Complete(const CompletionContext& context, ModelConfig& config) const override {
    if (!context.auto_complete) return OkStatus();
    TRIREME_RETURN_IF_ERROR(StoreCompletion(config));
    TRIREME_ASSIGN_OR_RETURN(ModelProgram program,
                             MakeProgram(config, context.settings, context.model_dir,
                                         context.version_dir, context.caller));
    program.instance = config.name;
    program.start["mode"] = "complete";
    program.start["config"] = config.json;
    std::string json;
    TRIREME_ASSIGN_OR_RETURN(const auto life, ModelLife::Begin(program));
    TRIREME_RETURN_IF_ERROR(life->Run([&](const ProcessMessage& first) { json = first.text; }));
    TRIREME_ASSIGN_OR_RETURN(ModelConfig completed, ParseModelConfigJson(json));
    completed.labels = std::move(config.labels);
    config = std::move(completed);
    return OkStatus();
  }

  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    const ModelConfig& config = context.config;
    std::vector<ModelProgram> programs;
    for (const InstanceGroup& group : config.instance_groups) {
      if (group.passive) continue;
      const int sets = std::max<int>(1, static_cast<int>(group.gpus.size()));
      for (int i = 0; i < group.count * sets; ++i) {
        TRIREME_ASSIGN_OR_RETURN(ModelProgram program,
                                 MakeProgram(config, context.settings, context.model_dir,
                                             context.version_dir, context.caller));
        program.instance = fmt::format("{}_{}", group.name, i);
        const int device =
            group.gpus.empty() ? 0 : group.gpus[static_cast<size_t>(i / group.count)];
        program.start["mode"] = "serve";
        program.start["decoupled"] = config.decoupled;
        program.start["arguments"] = {{"model_config", config.json},
                                      {"model_instance_kind", std::string(KindName(group.kind))},
                                      {"model_instance_device_id", std::to_string(device)},
                                      {"model_instance_name", program.instance},
                                      {"model_repository", context.model_dir},
                                      {"model_version", std::to_string(context.version)},
                                      {"model_name", config.name}};
        programs.push_back(std::move(program));
      }
    }
    return PythonModel::Start(std::move(programs));
  }

 private:
  std::string ModelPath(const PythonSettings& python, const ModelConfig& config,
                        const std::string& version_dir) const {
    if (!name_.empty()) return python.modules + "/backends/" + name_ + "/model.py";
    const std::string& file = config.default_model_filename;
    return (fs::path(version_dir) / (file.empty() ? "model.py" : file)).string();
  }

  StatusOr<ModelProgram> MakeProgram(const ModelConfig& config,
                                     const std::map<std::string, std::string>& settings,
                                     const std::string& model_dir, const std::string& version_dir,
                                     ModelCaller& caller) const {
    TRIREME_ASSIGN_OR_RETURN(const PythonSettings python,
                             ReadPythonSettings(settings, config, model_dir));
    const std::string path = ModelPath(python, config, version_dir);
    ModelProgram program{.command = {python.interpreter, "-u", ProcessScript(python)},
                         .instance = "",
                         .start = {{"protocol", 1},
                                   {"model_dir", model_dir},
                                   {"version_dir", version_dir},
                                   {"model_path", path}},
                         .outputs = {},
                         .states = {},
                         .start_timeout_ms = python.start_timeout_ms,
                         .end_timeout_ms = python.end_timeout_ms,
                         .caller = caller};
    for (const TensorConfig& output : config.outputs) program.outputs.push_back(output.name);
    if (config.sequence_batching) {
      for (const SequenceBatching::State& state : config.sequence_batching->states) {
        program.states.push_back(state.output);
      }
    }
    std::error_code ignored;
    if (fs::exists(path, ignored)) return program;
    return NotFound("model '{}' has no {}", config.name, path);
  }

  const std::string name_;  // "": the models bring their own model.py
};

}  // namespace

std::shared_ptr<const Backend> MakePythonBackend() { return std::make_shared<PythonBackend>(""); }

std::shared_ptr<const Backend> MakeOnnxRuntimeBackend() {
  return std::make_shared<PythonBackend>("onnxruntime");
}

}  // namespace trireme::server
