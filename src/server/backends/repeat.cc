// SPDX-License-Identifier: Apache-2.0
// Backend `repeat`: for each element of IN, after the DELAY (ms) beside it, a response with that
// element as OUT and its index as IDX. Decoupled; for tests and for measuring streams. WAIT is part
// of the interface and holds nothing up, because no instance is held while a call is answered.
#include "base/status.h"
#include "server/backends/backend.h"
#include "server/backends/pacer.h"
#include "server/backends/tensor_values.h"

namespace trireme::server {
namespace {

class RepeatModel : public BackendModel {
 public:
  explicit RepeatModel(bool batching) : batching_(batching) {}
  Style style() const override { return Style::kContinuous; }

  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) {
      const InferRequest& request = call->request();
      const std::vector<int32_t> values = ValuesOf<int32_t>(*request.FindInput("IN"));
      const std::vector<uint32_t> delays = ValuesOf<uint32_t>(*request.FindInput("DELAY"));
      if (values.size() != delays.size()) {
        call->Fail(InvalidArgument("expected IN and DELAY shape to match, got {} and {} elements",
                                   values.size(), delays.size()));
        continue;
      }
      std::vector<Pacer::Timed> responses;
      for (size_t i = 0; i < values.size(); ++i) {
        responses.push_back({int64_t{delays[i]} * 1000000, Answer(values[i], i, request)});
      }
      pacer_.Send(call, std::move(responses));
    }
  }

 private:
  InferResponse Answer(int32_t value, size_t index, const InferRequest& request) const {
    const Dims shape = batching_ ? Dims{1, 1} : Dims{1};
    const auto idx = static_cast<uint32_t>(index);
    InferResponse response;
    if (request.Wants("OUT")) {
      response.outputs.push_back(
          MakeTensorOf<int32_t>("OUT", DataType::kInt32, shape, std::span(&value, 1)));
    }
    if (request.Wants("IDX")) {
      response.outputs.push_back(
          MakeTensorOf<uint32_t>("IDX", DataType::kUint32, shape, std::span(&idx, 1)));
    }
    return response;
  }

  const bool batching_;
  Pacer pacer_;
};

class RepeatBackend : public Backend {
 public:
  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    const ModelConfig& config = context.config;
    const auto has = [](const TensorConfig* tensor, DataType type) {
      return tensor != nullptr && tensor->type == type && tensor->dims.size() == 1;
    };
    const TensorConfig* in = config.FindInput("IN");
    const TensorConfig* delay = config.FindInput("DELAY");
    if (!has(in, DataType::kInt32) || !has(delay, DataType::kUint32) || in->optional ||
        delay->optional || !has(config.FindOutput("OUT"), DataType::kInt32)) {
      return InvalidArgument(
          "model '{}': backend repeat has IN (TYPE_INT32), DELAY and WAIT "
          "(TYPE_UINT32), OUT (TYPE_INT32) and IDX (TYPE_UINT32)",
          config.name);
    }
    if (config.max_batch_size > 1) {
      return InvalidArgument(
          "model '{}': repeat backend only supports models with max_batch_size "
          "<= 1",
          config.name);
    }
    if (!config.decoupled) {
      return InvalidArgument("model '{}': repeat backend needs the decoupled transaction policy",
                             config.name);
    }
    return std::unique_ptr<BackendModel>(std::make_unique<RepeatModel>(config.max_batch_size > 0));
  }
};

}  // namespace

std::shared_ptr<const Backend> MakeRepeatBackend() { return std::make_shared<RepeatBackend>(); }

}  // namespace trireme::server
