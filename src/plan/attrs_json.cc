// SPDX-License-Identifier: Apache-2.0
#include "plan/attrs_json.h"

#include <nlohmann/json.hpp>

#include "plan/json_reader.h"

namespace trireme::plan {
namespace {

using nlohmann::json;

json ScalingToJson(const RotaryScaling& scaling) {
  return {{"type", scaling.type},
          {"factor", scaling.factor},
          {"low_freq_factor", scaling.low_freq_factor},
          {"high_freq_factor", scaling.high_freq_factor},
          {"original_max_position_embeddings", scaling.original_max_position_embeddings},
          {"attention_factor", scaling.attention_factor},
          {"beta_fast", scaling.beta_fast},
          {"beta_slow", scaling.beta_slow},
          {"mscale", scaling.mscale},
          {"mscale_all_dim", scaling.mscale_all_dim},
          {"truncate", scaling.truncate},
          {"short_factor", scaling.short_factor},
          {"long_factor", scaling.long_factor}};
}

RotaryScaling ReadScaling(JsonReader reader) {
  RotaryScaling scaling;
  reader.Read("type", scaling.type);
  reader.Read("factor", scaling.factor);
  reader.Read("low_freq_factor", scaling.low_freq_factor);
  reader.Read("high_freq_factor", scaling.high_freq_factor);
  reader.Read("original_max_position_embeddings", scaling.original_max_position_embeddings);
  reader.Read("attention_factor", scaling.attention_factor);
  reader.Read("beta_fast", scaling.beta_fast);
  reader.Read("beta_slow", scaling.beta_slow);
  reader.Read("mscale", scaling.mscale);
  reader.Read("mscale_all_dim", scaling.mscale_all_dim);
  reader.Read("truncate", scaling.truncate);
  reader.Read("short_factor", scaling.short_factor);
  reader.Read("long_factor", scaling.long_factor);
  return scaling;
}

struct ToJson {
  json operator()(const NoAttrs&) const { return json::object(); }
  json operator()(const EmbeddingAttrs& a) const {
    return {{"vocab_size", a.vocab_size}, {"scale", a.scale}};
  }
  json operator()(const NormAttrs& a) const {
    return {{"epsilon", a.epsilon}, {"gamma_offset", a.gamma_offset}};
  }
  json operator()(const HeadNormAttrs& a) const {
    return {{"epsilon", a.epsilon},
            {"first_head", a.first_head},
            {"num_heads", a.num_heads},
            {"head_dim", a.head_dim}};
  }
  json operator()(const LinearAttrs& a) const {
    return {{"in_features", a.in_features},
            {"out_features", a.out_features},
            {"has_bias", a.has_bias},
            {"gated", a.gated},
            {"gate_activation", ActivationName(a.gate_activation)},
            {"has_residual", a.has_residual},
            {"has_norm", a.has_norm},
            {"norm_epsilon", a.norm.epsilon},
            {"norm_gamma_offset", a.norm.gamma_offset}};
  }
  json operator()(const AttentionAttrs& a) const {
    const AttentionSpec& s = a.spec;
    return {{"layer", s.layer},
            {"num_heads", s.num_heads},
            {"num_kv_heads", s.num_kv_heads},
            {"head_dim", s.head_dim},
            {"scale", s.scale},
            {"window", s.window},
            {"soft_cap", s.soft_cap},
            {"alibi", s.alibi},
            {"rotary",
             {{"kind", static_cast<int>(s.rotary.kind)},
              {"dim", s.rotary.dim},
              {"base", s.rotary.base},
              {"max_position_embeddings", s.rotary.max_position_embeddings},
              {"scaling", ScalingToJson(s.rotary.scaling)}}}};
  }
  json operator()(const RouteAttrs& a) const {
    return {{"num_experts", a.num_experts}, {"top_k", a.top_k}, {"normalize", a.normalize}};
  }
  json operator()(const ExpertLinearAttrs& a) const {
    return {{"num_experts", a.num_experts}, {"top_k", a.top_k}, {"linear", (*this)(a.linear)}};
  }
  json operator()(const CombineAttrs& a) const { return {{"top_k", a.top_k}}; }
  json operator()(const ActivationAttrs& a) const { return {{"kind", ActivationName(a.kind)}}; }
  json operator()(const ScalarAttrs& a) const { return {{"value", a.value}}; }
};

AttentionAttrs ReadAttention(JsonReader reader) {
  AttentionSpec s;
  reader.Read("layer", s.layer);
  reader.Read("num_heads", s.num_heads);
  reader.Read("num_kv_heads", s.num_kv_heads);
  reader.Read("head_dim", s.head_dim);
  reader.Read("scale", s.scale);
  reader.Read("window", s.window);
  reader.Read("soft_cap", s.soft_cap);
  reader.Read("alibi", s.alibi);
  JsonReader rotary = reader.Object("rotary");
  int kind = 0;
  rotary.Read("kind", kind);
  if (kind < 0 || kind > static_cast<int>(RotaryKind::kGptj)) rotary.Fail("kind");
  s.rotary.kind = static_cast<RotaryKind>(kind);
  rotary.Read("dim", s.rotary.dim);
  rotary.Read("base", s.rotary.base);
  rotary.Read("max_position_embeddings", s.rotary.max_position_embeddings);
  s.rotary.scaling = ReadScaling(rotary.Object("scaling"));
  return {std::move(s)};
}

LinearAttrs ReadLinear(JsonReader reader) {
  LinearAttrs a;
  reader.Read("in_features", a.in_features);
  reader.Read("out_features", a.out_features);
  reader.Read("has_bias", a.has_bias);
  reader.Read("gated", a.gated);
  reader.Read("has_residual", a.has_residual);
  if (reader.Has("has_norm")) {  // engines made before layers had norms say nothing
    reader.Read("has_norm", a.has_norm);
    reader.Read("norm_epsilon", a.norm.epsilon);
    reader.Read("norm_gamma_offset", a.norm.gamma_offset);
  }
  std::string activation;
  reader.Read("gate_activation", activation);
  const StatusOr<ActivationKind> kind = ParseActivation(activation);
  if (kind.ok()) {
    a.gate_activation = *kind;
  } else {
    reader.Fail("gate_activation");
  }
  return a;
}

ActivationAttrs ReadActivation(JsonReader reader) {
  std::string name;
  reader.Read("kind", name);
  const StatusOr<ActivationKind> kind = ParseActivation(name);
  if (!kind.ok()) reader.Fail("kind");
  return {kind.value_or(ActivationKind::kSilu)};
}

// A count in [1, limit]: kernels index with these.
void ReadCount(JsonReader& reader, const char* key, int limit, int& target) {
  reader.Read(key, target);
  if (target < 1 || target > limit) reader.Fail(key);
}

constexpr int kMaxExperts = 1 << 16;

RouteAttrs ReadRoute(JsonReader reader) {
  RouteAttrs a;
  ReadCount(reader, "num_experts", kMaxExperts, a.num_experts);
  ReadCount(reader, "top_k", a.num_experts, a.top_k);
  reader.Read("normalize", a.normalize);
  return a;
}

ExpertLinearAttrs ReadExpertLinear(JsonReader reader) {
  ExpertLinearAttrs a;
  ReadCount(reader, "num_experts", kMaxExperts, a.num_experts);
  ReadCount(reader, "top_k", a.num_experts, a.top_k);
  a.linear = ReadLinear(reader.Object("linear"));
  return a;
}

CombineAttrs ReadCombine(JsonReader reader) {
  CombineAttrs a;
  ReadCount(reader, "top_k", kMaxExperts, a.top_k);
  return a;
}

OpAttrs ReadAttrs(OpKind kind, JsonReader reader) {
  switch (kind) {
    case OpKind::kEmbedding:
    case OpKind::kPositionEmbedding: {
      EmbeddingAttrs a;
      reader.Read("vocab_size", a.vocab_size);
      reader.Read("scale", a.scale);
      return a;
    }
    case OpKind::kRmsNorm:
    case OpKind::kLayerNorm: {
      NormAttrs a;
      reader.Read("epsilon", a.epsilon);
      reader.Read("gamma_offset", a.gamma_offset);
      return a;
    }
    case OpKind::kHeadRmsNorm: {
      HeadNormAttrs a;
      reader.Read("epsilon", a.epsilon);
      reader.Read("first_head", a.first_head);
      reader.Read("num_heads", a.num_heads);
      reader.Read("head_dim", a.head_dim);
      return a;
    }
    case OpKind::kLinear: return ReadLinear(reader);
    case OpKind::kAttention:
    case OpKind::kRopeKvWrite:
    case OpKind::kPagedAttention: return ReadAttention(reader);
    case OpKind::kActivation:
    case OpKind::kGatedActivation: return ReadActivation(reader);
    case OpKind::kScale:
    case OpKind::kSoftCap: {
      ScalarAttrs a;
      reader.Read("value", a.value);
      return a;
    }
    case OpKind::kRouteExperts: return ReadRoute(reader);
    case OpKind::kExpertLinear: return ReadExpertLinear(reader);
    case OpKind::kCombineExperts: return ReadCombine(reader);
    case OpKind::kAdd:
    case OpKind::kMul:
    case OpKind::kSelectLogitRows:
    case OpKind::kAllReduce: return NoAttrs{};
  }
  return NoAttrs{};
}

}  // namespace

json AttrsToJson(const OpAttrs& attrs) { return std::visit(ToJson{}, attrs); }

StatusOr<OpAttrs> AttrsFromJson(OpKind kind, const json& object) {
  Status status;
  OpAttrs attrs = ReadAttrs(kind, JsonReader(object, OpKindName(kind), &status));
  TRIREME_RETURN_IF_ERROR(status);
  return attrs;
}

}  // namespace trireme::plan
