// SPDX-License-Identifier: Apache-2.0
// Backend `identity`: INPUTn comes back as OUTPUTn, the same bytes at the same address. For tests and
// for measuring what is around a model. Parameters: execute_delay_ms, instance_wise_delay_multiplier,
// creation_delay_sec.
#include <charconv>
#include <chrono>
#include <thread>

#include "base/status.h"
#include "server/backends/backend.h"

namespace trireme::server {
namespace {

class IdentityModel : public BackendModel {
 public:
  IdentityModel(const BackendContext& context, int64_t delay_ms, int64_t delay_multiplier)
      : inputs_(context.config.inputs),
        outputs_(context.config.outputs),
        delay_ms_(delay_ms),
        delay_multiplier_(delay_multiplier),
        input_bytes_(context.metrics.AddCounter(
            "input_byte_size_counter", "Cumulative input byte size of all requests received",
            {{"model", context.config.name}, {"version", std::to_string(context.version)}})) {}

  Style style() const override { return delay_ms_ > 0 ? Style::kBlocking : Style::kImmediate; }

  void Execute(Execution& execution) override {
    execution.InputsReady();
    if (delay_ms_ > 0) Delay(execution);
    execution.OutputsBegin();
    for (const auto& call : execution.calls()) {
      if (call->cancelled()) {
        call->Fail(Cancelled(""));
      } else {
        call->Respond(Answer(call->request()));
      }
    }
  }

 private:
  // Ends early when everything asked for was cancelled.
  void Delay(const Execution& execution) const {
    const int64_t factor = std::max<int64_t>(1, execution.instance() * delay_multiplier_);
    const int64_t end = NowNs() + delay_ms_ * factor * 1000000;
    while (NowNs() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      bool wanted = false;
      for (const auto& call : execution.calls()) wanted |= !call->cancelled();
      if (!wanted) return;
    }
  }

  InferResponse Answer(const InferRequest& request) const {
    InferResponse response;
    for (size_t i = 0; i < inputs_.size() && i < outputs_.size(); ++i) {
      const Tensor* input = request.FindInput(inputs_[i].name);
      if (input == nullptr || !request.Wants(outputs_[i].name)) continue;
      response.outputs.push_back(*input);
      response.outputs.back().name = outputs_[i].name;
      input_bytes_.Add(static_cast<double>(input->data.size()));
    }
    response.parameters = {{"param0", "an example string parameter"},
                           {"param1", int64_t{42}},
                           {"param2", false},
                           {"param3", 123.123}};
    return response;
  }

  const std::vector<TensorConfig> inputs_;
  const std::vector<TensorConfig> outputs_;
  const int64_t delay_ms_;
  const int64_t delay_multiplier_;
  Counter& input_bytes_;
};

StatusOr<int64_t> IntParameter(const ModelConfig& config, const std::string& key) {
  const auto found = config.parameters.find(key);
  if (found == config.parameters.end()) return 0;
  const std::string& text = found->second;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0 && value <= 1000000) {
    return value;
  }
  return InvalidArgument(
      "parameter '{}' of model '{}' must be an integer from 0 to 1000000, not "
      "'{}'",
      key, config.name, text);
}

class IdentityBackend : public Backend {
 public:
  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    const ModelConfig& config = context.config;
    if (config.inputs.size() != config.outputs.size()) {
      return InvalidArgument(
          "model '{}': expected number of inputs and outputs to be equal, got {} "
          "and {}",
          config.name, config.inputs.size(), config.outputs.size());
    }
    for (size_t i = 0; i < config.inputs.size(); ++i) {
      if (config.inputs[i].type != config.outputs[i].type) {
        return InvalidArgument("model '{}': input '{}' and output '{}' have different data types",
                               config.name, config.inputs[i].name, config.outputs[i].name);
      }
    }
    TRIREME_ASSIGN_OR_RETURN(const int64_t delay_ms, IntParameter(config, "execute_delay_ms"));
    TRIREME_ASSIGN_OR_RETURN(const int64_t multiplier,
                             IntParameter(config, "instance_wise_delay_multiplier"));
    TRIREME_ASSIGN_OR_RETURN(const int64_t creation_s, IntParameter(config, "creation_delay_sec"));
    std::this_thread::sleep_for(std::chrono::seconds(creation_s));
    return std::unique_ptr<BackendModel>(
        std::make_unique<IdentityModel>(context, delay_ms, multiplier));
  }
};

}  // namespace

std::shared_ptr<const Backend> MakeIdentityBackend() { return std::make_shared<IdentityBackend>(); }

}  // namespace trireme::server
