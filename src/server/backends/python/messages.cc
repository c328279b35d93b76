// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/messages.h"

#include <cstring>

#include "base/status.h"
#include "server/backends/python/frame.h"

namespace trireme::server {
namespace {

using Kind = ProcessMessage::Kind;

constexpr std::pair<std::string_view, Kind> kKinds[] = {{"started", Kind::kStarted},
                                                        {"failed", Kind::kFailed},
                                                        {"completed", Kind::kCompleted},
                                                        {"buffer", Kind::kBuffer},
                                                        {"release", Kind::kRelease},
                                                        {"forget", Kind::kForget},
                                                        {"response", Kind::kResponse},
                                                        {"executed", Kind::kExecuted},
                                                        {"infer", Kind::kInfer},
                                                        {"infer_cancel", Kind::kInferCancel},
                                                        {"is_model_ready", Kind::kIsModelReady},
                                                        {"is_ready", Kind::kIsReady},
                                                        {"log", Kind::kLog},
                                                        {"finalized", Kind::kFinalized}};

// Reads members; the first that is missing or of another type is the error.
class Reader {
 public:
  explicit Reader(const Json& object) : object_(object) {}

  uint64_t Unsigned(const char* key) {
    const Json* value = Find(key);
    if (value != nullptr && value->is_number_unsigned()) return value->get<uint64_t>();
    return Fail(key), 0;
  }
  int64_t Integer(const char* key) {
    const Json* value = Find(key);
    if (value != nullptr && value->is_number_integer()) return value->get<int64_t>();
    return Fail(key), 0;
  }
  std::string Text(const char* key) {
    const Json* value = Find(key);
    if (value != nullptr && value->is_string()) return value->get<std::string>();
    return Fail(key), "";
  }
  bool Bool(const char* key) {
    const Json* value = Find(key);
    if (value != nullptr && value->is_boolean()) return value->get<bool>();
    return Fail(key), false;
  }
  const Json& Array(const char* key) {
    static const Json kEmpty = Json::array();
    const Json* value = Find(key);
    if (value != nullptr && value->is_array()) return *value;
    return Fail(key), kEmpty;
  }
  const Json* Find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }
  void Fail(const char* key) {
    if (bad_.empty()) bad_ = key;
  }
  const std::string& bad() const { return bad_; }

 private:
  const Json& object_;
  std::string bad_;
};

void ReadNumbers(Reader& reader, const char* key, std::vector<uint64_t>& to) {
  for (const Json& entry : reader.Array(key)) {
    if (!entry.is_number_unsigned()) return reader.Fail(key);
    to.push_back(entry.get<uint64_t>());
  }
}

bool ReadRow(const Json& entry, TensorRow& row) {
  if (!entry.is_array() || entry.size() != 5 || !entry[0].is_string() || !entry[1].is_string() ||
      !entry[2].is_array() || !entry[3].is_number_unsigned() || !entry[4].is_number_unsigned()) {
    return false;
  }
  row.name = entry[0].get<std::string>();
  row.type = ParseDataType(entry[1].get<std::string>());
  for (const Json& dim : entry[2]) {
    if (!dim.is_number_integer()) return false;
    row.shape.push_back(dim.get<int64_t>());
  }
  row.at = entry[3].get<uint64_t>();
  row.size = entry[4].get<uint64_t>();
  return row.type != DataType::kInvalid;
}

void ReadRows(Reader& reader, const char* key, ProcessMessage& message) {
  for (const Json& entry : reader.Array(key)) {
    if (!ReadRow(entry, message.rows.emplace_back())) return reader.Fail(key);
  }
  if (reader.Find("buffer") != nullptr) message.buffer = reader.Unsigned("buffer");
}

bool ReadParameter(const Json& value, ParameterValue& to) {
  if (value.is_boolean()) {
    to = value.get<bool>();
  } else if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) {
    to = value.get<uint64_t>();
  } else if (value.is_number_integer()) {
    to = value.get<int64_t>();
  } else if (value.is_number()) {
    to = value.get<double>();
  } else if (value.is_string()) {
    to = value.get<std::string>();
  } else {
    return false;
  }
  return true;
}

void ReadParameters(Reader& reader, Parameters& parameters) {
  const Json* object = reader.Find("parameters");
  if (object == nullptr) return;
  if (!object->is_object()) return reader.Fail("parameters");
  for (const auto& [key, value] : object->items()) {
    if (!ReadParameter(value, parameters[key])) return reader.Fail("parameters");
  }
}

void ReadResponse(Reader& reader, ProcessMessage& message) {
  message.number = reader.Unsigned("request");
  message.response.is_final = reader.Bool("final");
  message.response.is_empty = reader.Bool("empty");
  ReadParameters(reader, message.response.parameters);
  ReadRows(reader, "outputs", message);
  if (reader.Find("error") == nullptr) return;
  message.response.error = Status(StatusCodeOfError(reader.Integer("code")), reader.Text("error"));
}

void ReadRequest(Reader& reader, ProcessMessage& message) {
  InferRequest& request = message.request;
  message.number = reader.Unsigned("call");
  message.flag = reader.Bool("decoupled");
  request.model_name = reader.Text("model_name");
  const int64_t version = reader.Integer("model_version");
  request.model_version = version > 0 ? version : -1;
  request.id = reader.Text("id");
  const Json* sequence = reader.Find("correlation_id");
  if (sequence != nullptr && sequence->is_string()) {
    request.sequence_id = sequence->get<std::string>();
  } else {
    request.sequence_id = reader.Unsigned("correlation_id");
  }
  const uint64_t flags = reader.Unsigned("flags");
  request.sequence_start = (flags & 1) != 0;
  request.sequence_end = (flags & 2) != 0;
  request.timeout_us = reader.Unsigned("timeout");
  request.single_response = !message.flag;
  ReadParameters(reader, request.parameters);
  ReadRows(reader, "inputs", message);
  for (const Json& name : reader.Array("outputs")) {
    if (!name.is_string()) return reader.Fail("outputs");
    request.outputs.push_back(name.get<std::string>());
  }
}

void ReadMembers(Reader& reader, ProcessMessage& message) {
  switch (message.kind) {
    case Kind::kStarted: message.flag = reader.Bool("has_is_ready"); break;
    case Kind::kFailed: message.text = reader.Text("text"); break;
    case Kind::kCompleted: message.text = reader.Text("config"); break;
    case Kind::kBuffer:
      message.number = reader.Unsigned("number");
      message.size = reader.Unsigned("size");
      break;
    case Kind::kRelease:
    case Kind::kForget: ReadNumbers(reader, "buffers", message.buffers); break;
    case Kind::kResponse: ReadResponse(reader, message); break;
    case Kind::kExecuted: message.number = reader.Unsigned("batch"); break;
    case Kind::kInfer: ReadRequest(reader, message); break;
    case Kind::kInferCancel: message.number = reader.Unsigned("call"); break;
    case Kind::kIsModelReady:
      message.number = reader.Unsigned("call");
      message.request.model_name = reader.Text("model_name");
      message.text = reader.Text("model_version");
      break;
    case Kind::kIsReady:
      message.number = reader.Unsigned("call");
      message.flag = reader.Bool("ready");
      break;
    case Kind::kLog:
      message.level = reader.Text("level");
      message.text = reader.Text("text");
      break;
    case Kind::kFinalized: break;
  }
}

// By TritonError's numbers.
constexpr StatusCode kCodes[] = {StatusCode::kInternal,      StatusCode::kInternal,
                                 StatusCode::kNotFound,      StatusCode::kInvalidArgument,
                                 StatusCode::kUnavailable,   StatusCode::kUnimplemented,
                                 StatusCode::kAlreadyExists, StatusCode::kCancelled};

}  // namespace

StatusOr<ProcessMessage> ReadProcessMessage(std::string_view json) {
  const Json object = Json::parse(json, nullptr, false);
  if (!object.is_object()) return InvalidArgument("the model process sent what is no message");
  Reader reader(object);
  const std::string type = reader.Text("type");
  ProcessMessage message;
  bool known = false;
  for (const auto& [name, kind] : kKinds) {
    if (name != type) continue;
    message.kind = kind;
    known = true;
  }
  if (!known) return InvalidArgument("the model process sent a message of unknown type '{}'", type);
  ReadMembers(reader, message);
  if (reader.bad().empty()) return message;
  return InvalidArgument("the model process sent a message '{}' with a bad '{}'", type,
                         reader.bad());
}

StatusOr<std::vector<Tensor>> TensorsIn(std::vector<TensorRow> rows, std::string_view blob,
                                        const std::shared_ptr<const void>& owner) {
  std::vector<Tensor> tensors;
  for (TensorRow& row : rows) {
    if (row.at > blob.size() || row.size > blob.size() - row.at) {
      return InvalidArgument("tensor '{}' of the model process lies outside of its memory",
                             row.name);
    }
    tensors.push_back({std::move(row.name), row.type, std::move(row.shape),
                       blob.substr(row.at, row.size), owner});
    TRIREME_RETURN_IF_ERROR(CheckByteSize(tensors.back()));
  }
  return tensors;
}

Json OutgoingMessage::AddTensors(std::span<const Tensor> tensors) {
  Json rows = Json::array();
  for (const Tensor& tensor : tensors) {
    pieces_.push_back({blob_bytes_, tensor.data, tensor.owner});
    rows.push_back(Json::array({tensor.name, std::string(DataTypeName(tensor.type)),
                                Json(tensor.shape), blob_bytes_, tensor.data.size()}));
    const uint64_t end = blob_bytes_ + tensor.data.size();
    blob_bytes_ = (end + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
  }
  return rows;
}

void OutgoingMessage::CopyBlob(char* to) const {
  for (const Piece& piece : pieces_) {
    if (!piece.data.empty()) std::memcpy(to + piece.at, piece.data.data(), piece.data.size());
  }
}

Json ToJson(const Parameters& parameters) {
  Json object = Json::object();
  for (const auto& [key, value] : parameters) {
    std::visit([&object, &key = key](const auto& plain) { object[key] = plain; }, value);
  }
  return object;
}

Json RequestJson(const InferRequest& request, uint64_t number, const std::vector<std::string>& all,
                 OutgoingMessage& message) {
  const int flags = (request.sequence_start ? 1 : 0) | (request.sequence_end ? 2 : 0);
  Json json = {{"request", number},
               {"id", request.id},
               {"inputs", message.AddTensors(request.inputs)},
               {"outputs", request.outputs.empty() ? all : request.outputs},
               {"flags", flags},
               {"timeout", request.timeout_us},
               {"parameters", ToJson(request.parameters)}};
  std::visit([&json](const auto& id) { json["correlation_id"] = id; }, request.sequence_id);
  return json;
}

StatusCode StatusCodeOfError(int64_t code) {
  return code >= 0 && code < static_cast<int64_t>(std::size(kCodes)) ? kCodes[code]
                                                                     : StatusCode::kInternal;
}

int ErrorOfStatusCode(StatusCode code) {
  for (int i = 1; i < static_cast<int>(std::size(kCodes)); ++i) {
    if (kCodes[i] == code) return i;
  }
  return code == StatusCode::kFailedPrecondition ? 3 : 1;
}

}  // namespace trireme::server
