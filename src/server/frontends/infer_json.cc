// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/infer_json.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "server/core/json_text.h"

namespace trireme::server {
namespace {

StatusOr<uint64_t> Unsigned(const Json& object, const char* key, uint64_t fallback) {
  const auto found = object.find(key);
  if (found == object.end()) return fallback;
  if (found->is_number_unsigned()) return found->get<uint64_t>();
  return InvalidArgument(
      "Unable to parse '{}': attempt to access JSON non-unsigned-integer as "
      "unsigned-integer",
      key);
}

StatusOr<bool> Bool(const Json& object, const char* key, bool fallback) {
  const auto found = object.find(key);
  if (found == object.end()) return fallback;
  if (found->is_boolean()) return found->get<bool>();
  return InvalidArgument("Unable to parse '{}': attempt to access JSON non-boolean as boolean",
                         key);
}

// A member that must be there; Triton answers INTERNAL when it is not.
StatusOr<std::string> RequiredString(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end())
    return InvalidArgument("Unable to parse '{}': JSON object member is missing", key);
  if (found->is_string()) return found->get<std::string>();
  return InvalidArgument("Unable to parse '{}': attempt to access JSON non-string as string", key);
}

const Json& EmptyObject() {
  static const auto* empty = new Json(Json::object());
  return *empty;
}

StatusOr<const Json*> ParametersOf(const Json& object) {
  const auto found = object.find("parameters");
  if (found == object.end()) return &EmptyObject();
  if (found->is_object()) return &*found;
  return InvalidArgument("Expected JSON object for keyword: 'parameters'");
}

Status AddParameter(InferRequest& request, const std::string& key, const Json& value) {
  if (key.starts_with("triton_")) {
    return InvalidArgument(
        "parameter keys starting with 'triton_' are reserved for Triton usage "
        "and should not be specified: '{}'",
        key);
  }
  if (value.is_string()) {
    request.parameters[key] = value.get<std::string>();
  } else if (value.is_boolean()) {
    request.parameters[key] = value.get<bool>();
  } else if (value.is_number_integer()) {
    request.parameters[key] = value.get<int64_t>();
  } else if (value.is_number()) {
    request.parameters[key] = value.get<double>();
  } else {
    return InvalidArgument(
        "parameter '{}' has invalid type. It should be either 'int', 'bool', "
        "'double' or 'string'",
        key);
  }
  return OkStatus();
}

Status ReadParameters(const Json& parameters, HttpInferRequest& to) {
  InferRequest& request = to.request;
  for (const auto& [key, value] : parameters.items()) {
    if (key == "sequence_id") {
      if (value.is_string()) {
        request.sequence_id = value.get<std::string>();
      } else {
        TRIREME_ASSIGN_OR_RETURN(request.sequence_id, Unsigned(parameters, "sequence_id", 0));
      }
    } else if (key == "sequence_start") {
      TRIREME_ASSIGN_OR_RETURN(request.sequence_start, Bool(parameters, "sequence_start", false));
    } else if (key == "sequence_end") {
      TRIREME_ASSIGN_OR_RETURN(request.sequence_end, Bool(parameters, "sequence_end", false));
    } else if (key == "priority") {
      TRIREME_ASSIGN_OR_RETURN(request.priority, Unsigned(parameters, "priority", 0));
    } else if (key == "timeout") {
      TRIREME_ASSIGN_OR_RETURN(request.timeout_us, Unsigned(parameters, "timeout", 0));
    } else if (key == "binary_data_output") {
      TRIREME_ASSIGN_OR_RETURN(to.binary_outputs, Bool(parameters, "binary_data_output", false));
    } else {
      TRIREME_RETURN_IF_ERROR(AddParameter(request, key, value));
    }
  }
  return OkStatus();
}

StatusOr<Dims> ReadShape(const Json& input) {
  const auto found = input.find("shape");
  if (found == input.end() || !found->is_array()) {
    return InvalidArgument("Unable to parse 'shape': attempt to access JSON non-array as array");
  }
  Dims shape;
  for (const Json& dim : *found) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > uint64_t{INT64_MAX}) {
      return InvalidArgument(
          "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as "
          "unsigned-integer");
    }
    shape.push_back(dim.get<int64_t>());
  }
  return shape;
}

// Takes the bytes of binary tensors from behind the JSON, in order.
class BinarySection {
 public:
  BinarySection(std::string_view bytes, std::shared_ptr<const void> owner)
      : left_(bytes), owner_(std::move(owner)) {}

  Status Take(uint64_t size, Tensor& tensor) {
    if (size > left_.size()) {
      return InvalidArgument(
          "unexpected size for input '{}', expecting {} additional bytes for "
          "model: only {} are left",
          tensor.name, size, left_.size());
    }
    tensor.data = left_.substr(0, size);
    tensor.owner = owner_;
    left_.remove_prefix(size);
    return OkStatus();
  }
  size_t left() const { return left_.size(); }

 private:
  std::string_view left_;
  std::shared_ptr<const void> owner_;
};

struct Sources {
  BinarySection& binary;
  const SharedMemory& shared_memory;
  int64_t max_json_bytes;
};

Status ReadFromRegion(const Json& parameters, const Sources& from, Tensor& tensor) {
  TRIREME_ASSIGN_OR_RETURN(const std::string region,
                           RequiredString(parameters, "shared_memory_region"));
  TRIREME_ASSIGN_OR_RETURN(const uint64_t offset, Unsigned(parameters, "shared_memory_offset", 0));
  TRIREME_ASSIGN_OR_RETURN(const uint64_t size, Unsigned(parameters, "shared_memory_byte_size", 0));
  if (parameters.contains("binary_data_size")) {
    return InvalidArgument("must not specify 'binary_data_size' for input '{}' in shared memory",
                           tensor.name);
  }
  TRIREME_ASSIGN_OR_RETURN(const SharedSpan span, from.shared_memory.Find(region, offset, size));
  tensor.data = {span.bytes.data(), span.bytes.size()};
  tensor.owner = span.owner;
  return OkStatus();
}

Status ReadFromJson(const Json& input, const Sources& from, Tensor& tensor) {
  const auto data = input.find("data");
  if (data == input.end()) {
    return InvalidArgument("Unable to parse 'data': JSON object member is missing for input '{}'",
                           tensor.name);
  }
  TRIREME_ASSIGN_OR_RETURN(const int64_t count, ElementCount(tensor.shape));
  const int64_t element_bytes = std::max<int64_t>(ElementBytes(tensor.type), 1);
  if (count > INT64_MAX / element_bytes) {
    return InvalidArgument("byte size overflow for input '{}'", tensor.name);
  }
  if (count * element_bytes > from.max_json_bytes) {
    return InvalidArgument("input '{}' of {} bytes exceeds the maximum allowed input size of {}",
                           tensor.name, count * element_bytes, from.max_json_bytes);
  }
  StatusOr<std::string> bytes = TensorBytes(*data, tensor.type, count);
  if (!bytes.ok()) {
    return bytes.status().WithContext("input '" + tensor.name + "': Unable to parse 'data'");
  }
  tensor = MakeTensor(tensor.name, tensor.type, tensor.shape, std::move(*bytes));
  return OkStatus();
}

Status ReadInput(const Json& input, const Sources& from, InferRequest& request) {
  if (!input.is_object()) return InvalidArgument("each of 'inputs' must be a JSON object");
  Tensor tensor;
  TRIREME_ASSIGN_OR_RETURN(tensor.name, RequiredString(input, "name"));
  TRIREME_ASSIGN_OR_RETURN(const std::string type, RequiredString(input, "datatype"));
  tensor.type = ParseDataType(type);
  if (tensor.type == DataType::kInvalid) {
    return InvalidArgument("invalid datatype '{}' for input '{}'", type, tensor.name);
  }
  TRIREME_ASSIGN_OR_RETURN(tensor.shape, ReadShape(input));
  if (request.FindInput(tensor.name) != nullptr) {
    return InvalidArgument("input '{}' already exists in request", tensor.name);
  }
  TRIREME_ASSIGN_OR_RETURN(const Json* parameters, ParametersOf(input));
  if (parameters->contains("shared_memory_region")) {
    TRIREME_RETURN_IF_ERROR(ReadFromRegion(*parameters, from, tensor));
  } else if (parameters->contains("binary_data_size")) {
    TRIREME_ASSIGN_OR_RETURN(const uint64_t size, Unsigned(*parameters, "binary_data_size", 0));
    TRIREME_RETURN_IF_ERROR(from.binary.Take(size, tensor));
  } else {
    TRIREME_RETURN_IF_ERROR(ReadFromJson(input, from, tensor));
  }
  request.inputs.push_back(std::move(tensor));
  return OkStatus();
}

Status ReadOutput(const Json& output, HttpInferRequest& to) {
  if (!output.is_object()) return InvalidArgument("each of 'outputs' must be a JSON object");
  TRIREME_ASSIGN_OR_RETURN(const std::string name, RequiredString(output, "name"));
  TRIREME_ASSIGN_OR_RETURN(const Json* parameters, ParametersOf(output));
  OutputOptions options;
  TRIREME_ASSIGN_OR_RETURN(options.classification, Unsigned(*parameters, "classification", 0));
  TRIREME_ASSIGN_OR_RETURN(options.binary, Bool(*parameters, "binary_data", false));
  if (parameters->contains("shared_memory_region")) {
    TRIREME_ASSIGN_OR_RETURN(options.region, RequiredString(*parameters, "shared_memory_region"));
    TRIREME_ASSIGN_OR_RETURN(options.region_offset,
                             Unsigned(*parameters, "shared_memory_offset", 0));
    TRIREME_ASSIGN_OR_RETURN(options.region_bytes,
                             Unsigned(*parameters, "shared_memory_byte_size", 0));
    if (options.classification > 0) {
      return InvalidArgument(
          "shared memory can't be set to hold results of classification for "
          "output '{}'",
          name);
    }
    if (options.binary) {
      return InvalidArgument("must not specify 'binary_data' for output '{}' in shared memory",
                             name);
    }
  }
  if (!to.outputs.emplace(name, options).second) {
    return InvalidArgument("output '{}' already exists in request", name);
  }
  to.request.outputs.push_back(name);
  return OkStatus();
}

StatusOr<const Json*> ArrayOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  static const auto* empty = new Json(Json::array());
  if (found == object.end()) return empty;
  if (found->is_array()) return &*found;
  return InvalidArgument("Unable to parse '{}': attempt to access JSON non-array as array", key);
}

// The whole body is the model's one input.
StatusOr<HttpInferRequest> RawRequest(const InferBody& body, const ModelConfig& config) {
  if (config.inputs.size() != 1) {
    return InvalidArgument(
        "Raw request must only have 1 input (found 1) to be deduced but got {} "
        "inputs in '{}' model configuration",
        config.inputs.size(), config.name);
  }
  const TensorConfig& declared = config.inputs.front();
  HttpInferRequest to;
  to.binary_outputs = true;
  Tensor tensor{declared.name, declared.type, declared.dims, body.bytes, body.owner};
  if (config.max_batch_size > 0) tensor.shape.insert(tensor.shape.begin(), 1);
  if (declared.type == DataType::kBytes) {
    if (declared.dims != Dims{1} && declared.dims != Dims{-1}) {
      return InvalidArgument(
          "For BYTE datatype raw input '{}', the model must have input shape [1]", declared.name);
    }
    tensor.shape.back() = 1;
    std::string bytes;
    AppendBytesElement(bytes, body.bytes);
    to.request.inputs.push_back(
        MakeTensor(tensor.name, tensor.type, std::move(tensor.shape), std::move(bytes)));
    return to;
  }
  int64_t fixed_bytes = ElementBytes(declared.type);
  int64_t* variable = nullptr;
  for (int64_t& dim : tensor.shape) {
    if (dim != -1) {
      fixed_bytes *= dim;
    } else if (variable != nullptr) {
      return InvalidArgument(
          "The shape of the raw input '{}' can not be deduced because there are "
          "more than one variable-sized dimension",
          declared.name);
    } else {
      variable = &dim;
    }
  }
  if (variable != nullptr) *variable = static_cast<int64_t>(body.bytes.size()) / fixed_bytes;
  to.request.inputs.push_back(std::move(tensor));
  return to;
}

}  // namespace

StatusOr<int64_t> ParseJsonLength(const std::string& text, size_t body_bytes) {
  int64_t length = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (error != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument("Unable to parse Inference-Header-Content-Length, got: {}", text);
  }
  if (length < 0 || std::cmp_greater(length, body_bytes)) {
    return InvalidArgument("Invalid Inference-Header-Content-Length: {} for a body of {} bytes",
                           length, body_bytes);
  }
  return length;
}

StatusOr<HttpInferRequest> ParseInferRequest(const InferBody& body, const ModelConfig& config,
                                             const SharedMemory& shared_memory) {
  if (body.json_bytes == 0) {
    if (std::cmp_greater(body.bytes.size(), body.max_json_bytes)) {
      return InvalidArgument("request size {} exceeds the maximum allowed input size of {}",
                             body.bytes.size(), body.max_json_bytes);
    }
    return RawRequest(body, config);
  }
  const size_t json_bytes =
      body.json_bytes ? static_cast<size_t>(*body.json_bytes) : body.bytes.size();
  if (std::cmp_greater(json_bytes, body.max_json_bytes)) {
    return InvalidArgument("request JSON size {} exceeds the maximum allowed input size of {}",
                           json_bytes, body.max_json_bytes);
  }
  TRIREME_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(body.bytes.substr(0, json_bytes)));
  BinarySection binary(body.bytes.substr(json_bytes), body.owner);
  const Sources from{binary, shared_memory, body.max_json_bytes};

  HttpInferRequest to;
  if (json.contains("id")) {
    TRIREME_ASSIGN_OR_RETURN(to.request.id, RequiredString(json, "id"));
  }
  TRIREME_ASSIGN_OR_RETURN(const Json* parameters, ParametersOf(json));
  TRIREME_RETURN_IF_ERROR(ReadParameters(*parameters, to));
  if (!json.contains("inputs")) {
    return InvalidArgument("Unable to parse 'inputs': JSON object member is missing");
  }
  TRIREME_ASSIGN_OR_RETURN(const Json* inputs, ArrayOf(json, "inputs"));
  for (const Json& input : *inputs) TRIREME_RETURN_IF_ERROR(ReadInput(input, from, to.request));
  TRIREME_ASSIGN_OR_RETURN(const Json* outputs, ArrayOf(json, "outputs"));
  for (const Json& output : *outputs) TRIREME_RETURN_IF_ERROR(ReadOutput(output, to));
  if (binary.left() > 0) {
    return InvalidArgument("unexpected additional input data for model '{}': {} bytes", config.name,
                           binary.left());
  }
  return to;
}

}  // namespace trireme::server
