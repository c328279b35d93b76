// SPDX-License-Identifier: Apache-2.0
// The interface every kind of model is executed through. Backends are immutable; a BackendModel is
// thread-safe as its style says.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/core/inference.h"
#include "server/metrics/registry.h"
#include "server/repository/model_config.h"

namespace trireme {
class Generator;
}

namespace trireme::server {

class Model;

// How a model asks other models: what an ensemble's steps and a program's nested calls go through.
class ModelCaller {
 public:
  virtual ~ModelCaller() = default;
  virtual StatusOr<std::shared_ptr<Model>> FindModel(const std::string& name,
                                                     int64_t version) const = 0;
  // Validates and runs. On error nothing was started and `on_response` is not called.
  virtual StatusOr<std::shared_ptr<InferCall>> Infer(InferRequest request,
                                                     InferCall::ResponseFn on_response) = 0;
};

// One batch handed to a backend. The marks split its time for the statistics; a backend that sets
// none is all inference.
class Execution {
 public:
  Execution(std::span<const std::shared_ptr<InferCall>> calls, int instance)
      : calls_(calls), instance_(instance) {}

  std::span<const std::shared_ptr<InferCall>> calls() const { return calls_; }
  int instance() const { return instance_; }
  void InputsReady() { Mark(&InferCall::Times::input_ready); }
  void OutputsBegin() { Mark(&InferCall::Times::output_begin); }

 private:
  void Mark(int64_t InferCall::Times::*field) {
    const int64_t now = NowNs();
    for (const auto& call : calls_) call->times.*field = now;
  }
  const std::span<const std::shared_ptr<InferCall>> calls_;
  const int instance_;
};

class BackendModel {
 public:
  enum class Style {
    kBlocking,    // Execute may take long: one thread per instance calls it
    kImmediate,   // Execute returns at once: without batching, the caller's thread calls it
    kContinuous,  // batches by itself and answers later: always the caller's thread, no queue
  };
  virtual ~BackendModel() = default;
  virtual Style style() const = 0;

  // Answers each call, the last response final; the calls are validated. When it returns, the
  // instance is free again, and the calls may be answered later.
  virtual void Execute(Execution& execution) = 0;

  virtual bool ready() const { return true; }
  // Takes no new call and waits up to `drain_ms` for those it answers later.
  virtual void Drain(int64_t drain_ms) {}
  // The server's time is up: what still runs ends now, and its calls fail.
  virtual void Abort() {}
  // Of a text model, for the frontends that speak in texts; else null.
  virtual Generator* generator() { return nullptr; }
};

struct BackendContext {
  const ModelConfig& config;
  std::string model_dir;    // "" for a model that was not read from a repository
  std::string version_dir;  // ""
  int64_t version = 1;
  MetricsRegistry& metrics;
  ModelCaller& caller;
  const std::map<std::string, std::string>& settings;  // --backend-config of this backend
  // Another name of a model that is loaded: what both share is measured under the first name.
  bool is_alias = false;
};

// What a backend may look at to complete a configuration.
struct CompletionContext {
  const std::string& model_dir;    // "" for a model that was not read from a repository
  const std::string& version_dir;  // ""
  ModelCaller& caller;
  const std::map<std::string, std::string>& settings;  // --backend-config of this backend
  bool auto_complete = true;  // false: the user's own program must not be asked
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual InstanceGroup::Kind preferred_kind() const { return InstanceGroup::Kind::kCpu; }
  // Whether an instance may be told to use a GPU.
  virtual bool places_on_gpus() const { return false; }
  // Fills what the configuration leaves open and the backend can know.
  virtual Status Complete(const CompletionContext& context, ModelConfig& config) const {
    return OkStatus();
  }
  virtual StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const = 0;
};

// The backends by the names configurations use.
class BackendTable {
 public:
  BackendTable();  // with the built-in ones
  void Add(const std::string& name, std::shared_ptr<const Backend> backend);
  // UNIMPLEMENTED names the backend and the known ones.
  StatusOr<std::shared_ptr<const Backend>> Find(const std::string& name) const;

 private:
  // Shared: aliases name one backend, and a loading model keeps it.
  std::map<std::string, std::shared_ptr<const Backend>, std::less<>> backends_;
};

// The built-in ones; each is a file beside this one.
std::shared_ptr<const Backend> MakeIdentityBackend();
std::shared_ptr<const Backend> MakeAddSubBackend();
std::shared_ptr<const Backend> MakeSquareBackend();
std::shared_ptr<const Backend> MakeRepeatBackend();
std::shared_ptr<const Backend> MakeEnsembleBackend();
// Of the five-model layout.
std::shared_ptr<const Backend> MakePreprocessingBackend();
std::shared_ptr<const Backend> MakePostprocessingBackend();
std::shared_ptr<const Backend> MakeBlsBackend();

}  // namespace trireme::server
