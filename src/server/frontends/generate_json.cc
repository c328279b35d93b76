// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/generate_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "server/core/json_text.h"

namespace trireme::server {
namespace {

// The model's shape for `count` elements: fixed dimensions divide it, the innermost -1 takes what is
// left, every other -1 becomes 1.
StatusOr<Dims> FillShape(Dims shape, int64_t count, const std::string& name) {
  const auto mismatch = [&] {
    return InvalidArgument("The schema can not convert input '{}' to tensor with proper shape",
                           name);
  };
  int64_t left = count;
  int64_t* innermost = nullptr;
  for (auto dim = shape.rbegin(); dim != shape.rend(); ++dim) {
    if (*dim == -1) {
      if (innermost == nullptr) {
        innermost = &*dim;
      } else {
        *dim = 1;
      }
      continue;
    }
    if (*dim == 0 || left % *dim != 0) return mismatch();
    left /= *dim;
  }
  if (innermost != nullptr) {
    *innermost = left;
  } else if (left != 1) {
    return mismatch();
  }
  return shape;
}

Status AddTensor(const std::string& key, const Json& value, const TensorConfig& declared,
                 const ModelConfig& config, InferRequest& request) {
  if (request.FindInput(key) != nullptr) {
    return InvalidArgument("input '{}' already exists in request", key);
  }
  const int64_t count = value.is_array() ? static_cast<int64_t>(value.size()) : 1;
  TRIREME_ASSIGN_OR_RETURN(Dims shape, FillShape(config.FullDims(declared), count, key));
  std::string bytes;
  const auto add = [&](const Json& element) -> Status {
    const Status status = AppendElement(bytes, element, declared.type);
    return status.ok() ? status : status.WithContext("Unable to parse '" + key + "'");
  };
  if (value.is_array()) {
    for (const Json& element : value) TRIREME_RETURN_IF_ERROR(add(element));
  } else {
    TRIREME_RETURN_IF_ERROR(add(value));
  }
  request.inputs.push_back(MakeTensor(key, declared.type, std::move(shape), std::move(bytes)));
  return OkStatus();
}

Status AddParameter(const std::string& key, const Json& value, InferRequest& request) {
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

Status ReadMembers(const Json& object, bool top_level, const ModelConfig& config,
                   InferRequest& request) {
  for (const auto& [key, value] : object.items()) {
    const TensorConfig* declared = config.FindInput(key);
    if (declared != nullptr) {
      TRIREME_RETURN_IF_ERROR(AddTensor(key, value, *declared, config, request));
    } else if (top_level && key == "id") {
      if (!value.is_string()) {
        return InvalidArgument("Unable to parse 'id': attempt to access JSON non-string as string");
      }
      request.id = value.get<std::string>();
    } else if (top_level && key == "parameters") {
      if (!value.is_object()) {
        return InvalidArgument("Expected JSON object for keyword: 'parameters'");
      }
      TRIREME_RETURN_IF_ERROR(ReadMembers(value, false, config, request));
    } else {
      TRIREME_RETURN_IF_ERROR(AddParameter(key, value, request));
    }
  }
  return OkStatus();
}

}  // namespace

StatusOr<InferRequest> ParseGenerateRequest(std::string_view body, const ModelConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const Json object, ParseJsonObject(body));
  InferRequest request;
  TRIREME_RETURN_IF_ERROR(ReadMembers(object, /*top_level=*/true, config, request));
  return request;
}

StatusOr<std::string> GenerateReply(const InferResponse& response, std::string_view id,
                                    std::string_view model_name, int64_t model_version) {
  struct Member {
    std::string_view key;
    const Tensor* tensor = nullptr;
    const ParameterValue* parameter = nullptr;
  };
  std::vector<Member> members = {{"model_name"}, {"model_version"}};
  if (!id.empty()) members.push_back({"id"});
  for (const Tensor& output : response.outputs) members.push_back({output.name, &output});
  for (const auto& [key, value] : response.parameters) members.push_back({key, nullptr, &value});
  std::sort(members.begin(), members.end(),
            [](const Member& a, const Member& b) { return a.key < b.key; });
  std::string json;
  for (const Member& member : members) {
    json += json.empty() ? '{' : ',';
    AppendJsonString(json, member.key);
    json += ':';
    if (member.tensor != nullptr) {
      TRIREME_ASSIGN_OR_RETURN(const int64_t count, ElementCount(member.tensor->shape));
      if (count != 1) json += '[';
      TRIREME_RETURN_IF_ERROR(AppendJsonElements(json, *member.tensor));
      if (count != 1) json += ']';
    } else if (member.parameter != nullptr) {
      AppendJsonParameter(json, *member.parameter);
    } else if (member.key == "id") {
      AppendJsonString(json, id);
    } else if (member.key == "model_name") {
      AppendJsonString(json, model_name);
    } else {
      AppendJsonString(json, std::to_string(model_version));
    }
  }
  return json + "}";
}

}  // namespace trireme::server
