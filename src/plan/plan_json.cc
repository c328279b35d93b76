// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "plan/attrs_json.h"
#include "plan/json_reader.h"
#include "plan/plan.h"

namespace trireme::plan {
namespace {

using nlohmann::json;

json BufferToJson(const Buffer& buffer) {
  return {{"rows", buffer.rows == Rows::kTokens ? "tokens" : "logit_rows"},
          {"width", buffer.width},
          {"first", buffer.first},
          {"last", buffer.last},
          {"dtype", DTypeName(buffer.dtype)}};
}

json WeightToJson(const Weight& weight) {
  const std::vector<int64_t> shape(weight.shape.dims().begin(), weight.shape.dims().end());
  return {{"name", weight.name},
          {"layout", weight.layout},
          {"dtype", DTypeName(weight.dtype)},
          {"shape", shape},
          {"quant", static_cast<int>(weight.quant.kind)},
          {"group_size", weight.quant.group_size},
          {"num_bytes", weight.num_bytes},
          {"synthetic_std", weight.synthetic_std}};
}

json LaunchToJson(const Launch& launch) {
  json tactics = json::array();
  for (const TacticChoice& tactic : launch.tactics) {
    tactics.push_back({{"max_rows", tactic.max_rows},
                       {"layout", tactic.layout},
                       {"kernel", tactic.kernel},
                       {"numerics", tactic.numerics},
                       {"time_us", tactic.time_us}});
  }
  return {{"op", OpKindName(launch.kind)},      {"name", launch.name},
          {"attrs", AttrsToJson(launch.attrs)}, {"inputs", launch.inputs},
          {"outputs", launch.outputs},          {"weights", launch.weights},
          {"tactics", std::move(tactics)},      {"lane", launch.lane},
          {"waits_on", launch.waits_on}};
}

DType ReadDType(JsonReader& reader, std::string_view key) {
  std::string name;
  reader.Read(key, name);
  const StatusOr<DType> dtype = ParseDType(name);
  if (!dtype.ok()) reader.Fail(key);
  return dtype.value_or(DType::kFloat32);
}

Buffer ReadBuffer(JsonReader reader) {
  Buffer buffer;
  std::string rows;
  reader.Read("rows", rows);
  if (rows != "tokens" && rows != "logit_rows") reader.Fail("rows");
  buffer.rows = rows == "tokens" ? Rows::kTokens : Rows::kLogitRows;
  reader.Read("width", buffer.width);
  reader.Read("first", buffer.first);
  reader.Read("last", buffer.last);
  // Engines made before buffers had one hold float32.
  if (reader.Has("dtype")) buffer.dtype = ReadDType(reader, "dtype");
  return buffer;
}

Weight ReadWeight(JsonReader reader) {
  Weight weight;
  reader.Read("name", weight.name);
  reader.Read("layout", weight.layout);
  weight.dtype = ReadDType(reader, "dtype");
  std::vector<int64_t> shape;
  reader.Read("shape", shape);
  if (shape.size() > Shape::kMaxRank) {
    reader.Fail("shape");
  } else {
    weight.shape = Shape(std::span<const int64_t>(shape));
  }
  int quant = 0;
  reader.Read("quant", quant);
  if (quant < 0 || quant > static_cast<int>(WeightQuant::Kind::kFloat8)) reader.Fail("quant");
  weight.quant.kind = static_cast<WeightQuant::Kind>(quant);
  reader.Read("group_size", weight.quant.group_size);
  reader.Read("num_bytes", weight.num_bytes);
  reader.Read("synthetic_std", weight.synthetic_std);
  return weight;
}

TacticChoice ReadTactic(JsonReader reader) {
  TacticChoice tactic;
  reader.Read("max_rows", tactic.max_rows);
  reader.Read("layout", tactic.layout);
  reader.Read("kernel", tactic.kernel);
  reader.Read("numerics", tactic.numerics);
  reader.Read("time_us", tactic.time_us);
  return tactic;
}

StatusOr<Launch> ReadLaunch(const json& object) {
  Status status;
  JsonReader reader(object, "a launch", &status);
  Launch launch;
  std::string op;
  reader.Read("op", op);
  reader.Read("name", launch.name);
  reader.Read("inputs", launch.inputs);
  reader.Read("outputs", launch.outputs);
  reader.Read("weights", launch.weights);
  reader.Read("lane", launch.lane);
  reader.Read("waits_on", launch.waits_on);
  for (const json& tactic : reader.Array("tactics")) {
    launch.tactics.push_back(ReadTactic(JsonReader(tactic, "a tactic", &status)));
  }
  TRIREME_RETURN_IF_ERROR(status);
  TRIREME_ASSIGN_OR_RETURN(launch.kind, ParseOpKind(op));
  TRIREME_ASSIGN_OR_RETURN(launch.attrs,
                           AttrsFromJson(launch.kind, object.value("attrs", json::object())));
  return launch;
}

}  // namespace

std::string PlanToJson(const Plan& plan) {
  json object = {{"device", plan.device},
                 {"dtype", DTypeName(plan.dtype)},
                 {"kv_dtype", DTypeName(plan.kv_dtype)},
                 {"num_layers", plan.num_layers},
                 {"num_kv_heads", plan.num_kv_heads},
                 {"head_dim", plan.head_dim},
                 {"vocab_size", plan.vocab_size},
                 {"logits_buffer", plan.logits_buffer},
                 {"batch_invariant", plan.batch_invariant}};
  for (const Buffer& buffer : plan.buffers) object["buffers"].push_back(BufferToJson(buffer));
  for (const Weight& weight : plan.weights) object["weights"].push_back(WeightToJson(weight));
  for (const Launch& launch : plan.launches) object["launches"].push_back(LaunchToJson(launch));
  return object.dump();
}

StatusOr<Plan> PlanFromJson(std::string_view text) {
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) return InvalidArgument("plan: not JSON");
  Status status;
  JsonReader reader(object, "the plan", &status);
  Plan plan;
  reader.Read("device", plan.device);
  plan.dtype = ReadDType(reader, "dtype");
  plan.kv_dtype = ReadDType(reader, "kv_dtype");
  reader.Read("num_layers", plan.num_layers);
  reader.Read("num_kv_heads", plan.num_kv_heads);
  reader.Read("head_dim", plan.head_dim);
  reader.Read("vocab_size", plan.vocab_size);
  reader.Read("logits_buffer", plan.logits_buffer);
  if (reader.Has("batch_invariant")) reader.Read("batch_invariant", plan.batch_invariant);
  for (const json& buffer : reader.Array("buffers")) {
    plan.buffers.push_back(ReadBuffer(JsonReader(buffer, "a buffer", &status)));
  }
  for (const json& weight : reader.Array("weights")) {
    plan.weights.push_back(ReadWeight(JsonReader(weight, "a weight", &status)));
  }
  TRIREME_RETURN_IF_ERROR(status);
  for (const json& launch : reader.Array("launches")) {
    TRIREME_ASSIGN_OR_RETURN(Launch read, ReadLaunch(launch));
    plan.launches.push_back(std::move(read));
  }
  TRIREME_RETURN_IF_ERROR(status);
  TRIREME_RETURN_IF_ERROR(ValidatePlan(plan));
  return plan;
}

}  // namespace trireme::plan
