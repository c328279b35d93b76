// SPDX-License-Identifier: Apache-2.0
// Backend `add_sub`: OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1, element by element. BYTES
// hold decimal integers. The `simple` model of the client examples.
#include <charconv>

#include "base/status.h"
#include "server/backends/backend.h"
#include "server/backends/tensor_values.h"

namespace trireme::server {
namespace {

StatusOr<std::vector<int64_t>> Integers(const Tensor& tensor) {
  TRIREME_ASSIGN_OR_RETURN(const auto elements, BytesElements(tensor.data));
  std::vector<int64_t> values;
  for (const std::string_view text : elements) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
      return InvalidArgument("input '{}' holds '{}', which is not an integer", tensor.name, text);
    }
    values.push_back(value);
  }
  return values;
}

// Wraps around as two's complement does.
template <typename T>
T Combine(T a, T b, bool subtract) {
  if constexpr (std::is_integral_v<T>) {
    using Wide = uint64_t;
    return static_cast<T>(subtract ? static_cast<Wide>(a) - static_cast<Wide>(b)
                                   : static_cast<Wide>(a) + static_cast<Wide>(b));
  } else {
    return subtract ? a - b : a + b;
  }
}

StatusOr<std::string> Compute(const Tensor& a, const Tensor& b, bool subtract) {
  std::string bytes;
  if (a.type == DataType::kBytes) {
    TRIREME_ASSIGN_OR_RETURN(const auto left, Integers(a));
    TRIREME_ASSIGN_OR_RETURN(const auto right, Integers(b));
    for (size_t i = 0; i < left.size(); ++i) {
      AppendBytesElement(bytes, std::to_string(Combine(left[i], right[i], subtract)));
    }
    return bytes;
  }
  VisitNumeric(a.type, [&](auto zero) {
    using T = decltype(zero);
    const std::vector<T> left = ValuesOf<T>(a);
    const std::vector<T> right = ValuesOf<T>(b);
    bytes.resize(a.data.size());
    for (size_t i = 0; i < left.size(); ++i) {
      const T value = Combine(left[i], right[i], subtract);
      std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
    }
  });
  return bytes;
}

StatusOr<InferResponse> Answer(const InferRequest& request) {
  const Tensor& a = *request.FindInput("INPUT0");
  const Tensor& b = *request.FindInput("INPUT1");
  if (a.shape != b.shape || a.type != b.type) {
    return InvalidArgument("INPUT0 {} and INPUT1 {} differ in shape or type", ShapeText(a.shape),
                           ShapeText(b.shape));
  }
  InferResponse response;
  for (const char* name : {"OUTPUT0", "OUTPUT1"}) {
    if (!request.Wants(name)) continue;
    TRIREME_ASSIGN_OR_RETURN(std::string bytes, Compute(a, b, name[6] == '1'));
    response.outputs.push_back(MakeTensor(name, a.type, a.shape, std::move(bytes)));
  }
  return response;
}

class AddSubModel : public BackendModel {
 public:
  Style style() const override { return Style::kImmediate; }
  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) {
      StatusOr<InferResponse> response = Answer(call->request());
      if (response.ok()) {
        call->Respond(std::move(*response));
      } else {
        call->Fail(response.status());
      }
    }
  }
};

class AddSubBackend : public Backend {
 public:
  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    const ModelConfig& config = context.config;
    const TensorConfig* input = config.FindInput("INPUT0");
    if (config.inputs.size() != 2 || config.outputs.size() != 2 || input == nullptr ||
        config.FindInput("INPUT1") == nullptr || config.FindOutput("OUTPUT0") == nullptr ||
        config.FindOutput("OUTPUT1") == nullptr) {
      return InvalidArgument("model '{}': backend add_sub has INPUT0, INPUT1, OUTPUT0 and OUTPUT1",
                             config.name);
    }
    for (const auto* list : {&config.inputs, &config.outputs}) {
      for (const TensorConfig& tensor : *list) {
        const bool known =
            tensor.type == DataType::kBytes || VisitNumeric(tensor.type, [](auto) {});
        if (!known || tensor.type != input->type || tensor.optional) {
          return InvalidArgument(
              "model '{}': tensors of backend add_sub have one numeric type or "
              "TYPE_STRING and are not optional, unlike '{}'",
              config.name, tensor.name);
        }
      }
    }
    return std::unique_ptr<BackendModel>(std::make_unique<AddSubModel>());
  }
};

}  // namespace

std::shared_ptr<const Backend> MakeAddSubBackend() { return std::make_shared<AddSubBackend>(); }

}  // namespace trireme::server
