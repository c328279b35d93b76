// SPDX-License-Identifier: Apache-2.0
// Backend `square`: IN = n gives n responses OUT = n. Decoupled; for tests.
#include "base/status.h"
#include "server/backends/backend.h"
#include "server/backends/pacer.h"
#include "server/backends/tensor_values.h"

namespace trireme::server {
namespace {

constexpr int32_t kMaxResponses = 1000000;

class SquareModel : public BackendModel {
 public:
  Style style() const override { return Style::kContinuous; }
  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) {
      const Tensor& input = *call->request().FindInput("IN");
      const std::vector<int32_t> values = ValuesOf<int32_t>(input);
      const int32_t count = values.empty() ? 0 : values.front();
      if (count < 0 || count > kMaxResponses) {
        call->Fail(InvalidArgument("IN must be from 0 to {}, not {}", kMaxResponses, count));
        continue;
      }
      InferResponse response;
      response.outputs.push_back(
          MakeTensorOf<int32_t>("OUT", DataType::kInt32, input.shape, std::span(&count, 1)));
      pacer_.Send(call, std::vector<Pacer::Timed>(static_cast<size_t>(count), {0, response}));
    }
  }

 private:
  Pacer pacer_;
};

class SquareBackend : public Backend {
 public:
  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    const ModelConfig& config = context.config;
    const TensorConfig* in = config.FindInput("IN");
    const TensorConfig* out = config.FindOutput("OUT");
    const auto fits = [](const TensorConfig* tensor) {
      return tensor != nullptr && tensor->type == DataType::kInt32 && tensor->dims == Dims{1};
    };
    if (config.inputs.size() != 1 || config.outputs.size() != 1 || !fits(in) || !fits(out) ||
        in->optional || config.max_batch_size > 1 || !config.decoupled) {
      return InvalidArgument(
          "model '{}': backend square has IN and OUT of TYPE_INT32 [1], no "
          "batching and the decoupled transaction policy",
          config.name);
    }
    for (const auto& [key, value] : config.parameters) {
      if (key.starts_with("CUSTOM_")) {
        return Unimplemented("model '{}': parameter '{}' does not exist here", config.name, key);
      }
    }
    return std::unique_ptr<BackendModel>(std::make_unique<SquareModel>());
  }
};

}  // namespace

std::shared_ptr<const Backend> MakeSquareBackend() { return std::make_shared<SquareBackend>(); }

}  // namespace trireme::server
