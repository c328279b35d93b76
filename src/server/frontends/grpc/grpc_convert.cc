// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/grpc/grpc_convert.h"

#include <charconv>

#include "base/status.h"

namespace trireme::server {
namespace {

using ParameterMap = google::protobuf::Map<std::string, inference::InferParameter>;

StatusOr<uint64_t> Unsigned(const inference::InferParameter& from, const std::string& key) {
  if (from.has_uint64_param()) return from.uint64_param();
  if (from.has_int64_param() && from.int64_param() >= 0) {
    return static_cast<uint64_t>(from.int64_param());
  }
  return InvalidArgument(
      "invalid value for parameter '{}': expected a non-negative int64_param or a "
      "uint64_param",
      key);
}

StatusOr<bool> Bool(const inference::InferParameter& from, const std::string& key) {
  if (from.has_bool_param()) return from.bool_param();
  return InvalidArgument("invalid value type for '{}' parameter, expected bool_param", key);
}

StatusOr<ParameterValue> Custom(const inference::InferParameter& from, const std::string& key) {
  if (key.starts_with("triton_")) {
    return InvalidArgument(
        "parameter keys starting with 'triton_' are reserved for Triton usage "
        "and should not be specified: '{}'",
        key);
  }
  switch (from.parameter_choice_case()) {
    case inference::InferParameter::kBoolParam: return ParameterValue(from.bool_param());
    case inference::InferParameter::kInt64Param: return ParameterValue(from.int64_param());
    case inference::InferParameter::kUint64Param: return ParameterValue(from.uint64_param());
    case inference::InferParameter::kStringParam: return ParameterValue(from.string_param());
    case inference::InferParameter::kDoubleParam: return ParameterValue(from.double_param());
    default: return InvalidArgument("invalid value type for '{}' parameter", key);
  }
}

Status ReadParameter(const std::string& key, const inference::InferParameter& value,
                     GrpcInferRequest& to) {
  InferRequest& request = to.request;
  if (key == "sequence_id" && value.has_string_param()) {
    request.sequence_id = value.string_param();
  } else if (key == "sequence_id") {
    TRIREME_ASSIGN_OR_RETURN(request.sequence_id, Unsigned(value, key));
  } else if (key == "sequence_start") {
    TRIREME_ASSIGN_OR_RETURN(request.sequence_start, Bool(value, key));
  } else if (key == "sequence_end") {
    TRIREME_ASSIGN_OR_RETURN(request.sequence_end, Bool(value, key));
  } else if (key == "priority") {
    TRIREME_ASSIGN_OR_RETURN(request.priority, Unsigned(value, key));
  } else if (key == "timeout") {
    TRIREME_ASSIGN_OR_RETURN(request.timeout_us, Unsigned(value, key));
  } else if (key == "triton_enable_empty_final_response") {
    TRIREME_ASSIGN_OR_RETURN(to.empty_final_response, Bool(value, key));
  } else {
    TRIREME_ASSIGN_OR_RETURN(request.parameters[key], Custom(value, key));
  }
  return OkStatus();
}

struct Region {
  std::string name;  // "": none
  uint64_t offset = 0;
  uint64_t byte_size = 0;
};

StatusOr<Region> ReadRegion(const ParameterMap& parameters) {
  Region region;
  const auto name = parameters.find("shared_memory_region");
  if (name == parameters.end()) return region;
  if (!name->second.has_string_param()) {
    return InvalidArgument(
        "invalid value type for 'shared_memory_region' parameter, expected "
        "string_param");
  }
  region.name = name->second.string_param();
  for (auto [key, field] : {std::pair("shared_memory_offset", &region.offset),
                            std::pair("shared_memory_byte_size", &region.byte_size)}) {
    const auto found = parameters.find(key);
    if (found == parameters.end()) continue;
    TRIREME_ASSIGN_OR_RETURN(*field, Unsigned(found->second, key));
  }
  return region;
}

template <typename To, typename List>
std::string Cast(const List& values) {
  std::string bytes;
  bytes.reserve(static_cast<size_t>(values.size()) * sizeof(To));
  for (const auto value : values) {
    const To cast = static_cast<To>(value);
    bytes.append(reinterpret_cast<const char*>(&cast), sizeof(cast));
  }
  return bytes;
}

StatusOr<std::string> ContentBytes(const inference::InferTensorContents& from,
                                   const Tensor& tensor) {
  switch (tensor.type) {
    case DataType::kBool: return Cast<uint8_t>(from.bool_contents());
    case DataType::kInt8: return Cast<int8_t>(from.int_contents());
    case DataType::kInt16: return Cast<int16_t>(from.int_contents());
    case DataType::kInt32: return Cast<int32_t>(from.int_contents());
    case DataType::kInt64: return Cast<int64_t>(from.int64_contents());
    case DataType::kUint8: return Cast<uint8_t>(from.uint_contents());
    case DataType::kUint16: return Cast<uint16_t>(from.uint_contents());
    case DataType::kUint32: return Cast<uint32_t>(from.uint_contents());
    case DataType::kUint64: return Cast<uint64_t>(from.uint64_contents());
    case DataType::kFp32: return Cast<float>(from.fp32_contents());
    case DataType::kFp64: return Cast<double>(from.fp64_contents());
    case DataType::kBytes: {
      std::string bytes;
      for (const std::string& element : from.bytes_contents()) AppendBytesElement(bytes, element);
      return bytes;
    }
    default:
      return InvalidArgument("input '{}' of type {} must be given in raw_input_contents",
                             tensor.name, DataTypeName(tensor.type));
  }
}

// Takes the raw contents in order, for the inputs that have no other source.
class RawContents {
 public:
  explicit RawContents(const inference::ModelInferRequest& from) : from_(from) {}

  Status Take(Tensor& tensor, const std::shared_ptr<const void>& owner) {
    if (next_ >= from_.raw_input_contents_size()) {
      return InvalidArgument(
          "expected tensor data for input '{}': it has no contents and there "
          "are only {} raw_input_contents",
          tensor.name, from_.raw_input_contents_size());
    }
    tensor.data = from_.raw_input_contents(next_++);
    tensor.owner = owner;
    return OkStatus();
  }
  bool AllTaken() const { return next_ == from_.raw_input_contents_size(); }

 private:
  const inference::ModelInferRequest& from_;
  int next_ = 0;
};

Status ReadInput(const inference::ModelInferRequest::InferInputTensor& input, RawContents& raw,
                 const std::shared_ptr<const void>& owner, const SharedMemory& shared_memory,
                 InferRequest& request) {
  Tensor tensor;
  tensor.name = input.name();
  tensor.type = ParseDataType(input.datatype());
  if (tensor.type == DataType::kInvalid) {
    return InvalidArgument("invalid datatype '{}' for input '{}'", input.datatype(), input.name());
  }
  tensor.shape.assign(input.shape().begin(), input.shape().end());
  if (request.FindInput(tensor.name) != nullptr) {
    return InvalidArgument("input '{}' already exists in request", tensor.name);
  }
  TRIREME_ASSIGN_OR_RETURN(const Region region, ReadRegion(input.parameters()));
  if (!region.name.empty()) {
    if (input.has_contents()) {
      return InvalidArgument(
          "unexpected 'content' provided when using shared memory for input "
          "tensor '{}'",
          tensor.name);
    }
    TRIREME_ASSIGN_OR_RETURN(const SharedSpan span,
                             shared_memory.Find(region.name, region.offset, region.byte_size));
    tensor.data = {span.bytes.data(), span.bytes.size()};
    tensor.owner = span.owner;
  } else if (input.has_contents()) {
    TRIREME_ASSIGN_OR_RETURN(std::string bytes, ContentBytes(input.contents(), tensor));
    tensor = MakeTensor(tensor.name, tensor.type, tensor.shape, std::move(bytes));
  } else {
    TRIREME_RETURN_IF_ERROR(raw.Take(tensor, owner));
  }
  request.inputs.push_back(std::move(tensor));
  return OkStatus();
}

Status ReadOutput(const inference::ModelInferRequest::InferRequestedOutputTensor& output,
                  GrpcInferRequest& to) {
  OutputOptions options;
  const auto classification = output.parameters().find("classification");
  if (classification != output.parameters().end()) {
    TRIREME_ASSIGN_OR_RETURN(options.classification,
                             Unsigned(classification->second, "classification"));
    if (options.classification == 0) {
      return InvalidArgument("invalid value for 'classification' parameter, expected >= 1");
    }
  }
  TRIREME_ASSIGN_OR_RETURN(Region region, ReadRegion(output.parameters()));
  if (!region.name.empty() && options.classification > 0) {
    return InvalidArgument("output can't set both 'shared_memory_region' and 'classification'");
  }
  options.region = std::move(region.name);
  options.region_offset = region.offset;
  options.region_bytes = region.byte_size;
  if (!to.outputs.emplace(output.name(), std::move(options)).second) {
    return InvalidArgument("output '{}' already exists in request", output.name());
  }
  to.request.outputs.push_back(output.name());
  return OkStatus();
}

void Fill(const ParameterValue& value, inference::InferParameter& to) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    to.set_string_param(*text);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    to.set_bool_param(*flag);
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    to.set_int64_param(*integer);
  } else if (const auto* natural = std::get_if<uint64_t>(&value)) {
    to.set_uint64_param(*natural);
  } else {
    to.set_double_param(std::get<double>(value));
  }
}

void Fill(const StatDuration& from, inference::StatisticDuration* to) {
  to->set_count(from.count);
  to->set_ns(from.ns);
}

}  // namespace

StatusOr<int64_t> ParseGrpcVersion(const std::string& version) {
  if (version.empty()) return -1;
  int64_t number = 0;
  const auto [end, error] =
      std::from_chars(version.data(), version.data() + version.size(), number);
  if (error == std::errc() && end == version.data() + version.size() && number > 0) return number;
  return InvalidArgument(
      "failed to get model version from specified version string '{}' (an "
      "integral value > 0 is expected)",
      version);
}

StatusOr<GrpcInferRequest> FromProto(const inference::ModelInferRequest& from,
                                     std::shared_ptr<const void> owner,
                                     const SharedMemory& shared_memory) {
  GrpcInferRequest to;
  to.request.id = from.id();
  to.request.model_name = from.model_name();
  TRIREME_ASSIGN_OR_RETURN(to.request.model_version, ParseGrpcVersion(from.model_version()));
  for (const auto& [key, value] : from.parameters()) {
    TRIREME_RETURN_IF_ERROR(ReadParameter(key, value, to));
  }
  RawContents raw(from);
  for (const auto& input : from.inputs()) {
    if (input.has_contents() && from.raw_input_contents_size() > 0) {
      return InvalidArgument(
          "contents field must not be specified when using raw_input_contents "
          "for '{}' for model '{}'",
          input.name(), from.model_name());
    }
    TRIREME_RETURN_IF_ERROR(ReadInput(input, raw, owner, shared_memory, to.request));
  }
  if (!raw.AllTaken()) {
    return InvalidArgument(
        "expected fewer raw_input_contents for model '{}': {} are given for {} "
        "inputs",
        from.model_name(), from.raw_input_contents_size(), from.inputs_size());
  }
  for (const auto& output : from.outputs()) TRIREME_RETURN_IF_ERROR(ReadOutput(output, to));
  return to;
}

void ToProto(const InferResponse& from, const GrpcReplyOptions& options,
             inference::ModelInferResponse& to) {
  to.set_model_name(options.request.model_name);
  to.set_model_version(std::to_string(options.model_version));
  to.set_id(options.request.id);
  for (const auto& [key, value] : from.parameters) Fill(value, (*to.mutable_parameters())[key]);
  for (const Tensor& output : from.outputs) {
    auto& added = *to.add_outputs();
    added.set_name(output.name);
    added.set_datatype(std::string(DataTypeName(output.type)));
    for (const int64_t dim : output.shape) added.add_shape(dim);
    const auto found = options.outputs.find(output.name);
    if (found != options.outputs.end() && !found->second.region.empty()) {
      auto& parameters = *added.mutable_parameters();
      parameters["shared_memory_region"].set_string_param(found->second.region);
      parameters["shared_memory_offset"].set_int64_param(
          static_cast<int64_t>(found->second.region_offset));
      parameters["shared_memory_byte_size"].set_int64_param(
          static_cast<int64_t>(found->second.region_bytes));
    }
    to.add_raw_output_contents(output.data.data(), output.data.size());
  }
}

void ToProto(const StatisticsSnapshot& from, inference::ModelStatistics& to) {
  to.set_last_inference(from.last_inference_ms);
  to.set_inference_count(from.inference_count);
  to.set_execution_count(from.execution_count);
  inference::InferStatistics& infer = *to.mutable_inference_stats();
  Fill(from.infer.success, infer.mutable_success());
  Fill(from.infer.fail, infer.mutable_fail());
  Fill(from.infer.queue, infer.mutable_queue());
  Fill(from.infer.compute_input, infer.mutable_compute_input());
  Fill(from.infer.compute_infer, infer.mutable_compute_infer());
  Fill(from.infer.compute_output, infer.mutable_compute_output());
  Fill(from.infer.cache_hit, infer.mutable_cache_hit());
  Fill(from.infer.cache_miss, infer.mutable_cache_miss());
  for (const auto& [index, stats] : from.responses) {
    auto& response = (*to.mutable_response_stats())[std::to_string(index)];
    Fill(stats.compute_infer, response.mutable_compute_infer());
    Fill(stats.compute_output, response.mutable_compute_output());
    Fill(stats.success, response.mutable_success());
    Fill(stats.fail, response.mutable_fail());
    Fill(stats.empty_response, response.mutable_empty_response());
    Fill(stats.cancel, response.mutable_cancel());
  }
  for (const auto& [size, stats] : from.batches) {
    auto& batch = *to.add_batch_stats();
    batch.set_batch_size(size);
    Fill(stats.compute_input, batch.mutable_compute_input());
    Fill(stats.compute_infer, batch.mutable_compute_infer());
    Fill(stats.compute_output, batch.mutable_compute_output());
  }
}

}  // namespace trireme::server
