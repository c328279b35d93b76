// SPDX-License-Identifier: Apache-2.0
// Names and attributes of ops, names of activations. Here, below the graph, because plans and engines name ops too and
// must link without it.
#include <array>
#include <utility>

#include "base/status.h"
#include "trireme/network.h"

namespace trireme {
namespace {

constexpr std::array<std::pair<OpKind, std::string_view>, 20> kOpNames = {{
    {OpKind::kEmbedding, "embedding"},
    {OpKind::kPositionEmbedding, "position_embedding"},
    {OpKind::kRmsNorm, "rms_norm"},
    {OpKind::kLayerNorm, "layer_norm"},
    {OpKind::kHeadRmsNorm, "head_rms_norm"},
    {OpKind::kLinear, "linear"},
    {OpKind::kAttention, "attention"},
    {OpKind::kActivation, "activation"},
    {OpKind::kGatedActivation, "gated_activation"},
    {OpKind::kAdd, "add"},
    {OpKind::kMul, "mul"},
    {OpKind::kScale, "scale"},
    {OpKind::kSoftCap, "soft_cap"},
    {OpKind::kSelectLogitRows, "select_logit_rows"},
    {OpKind::kAllReduce, "all_reduce"},
    {OpKind::kRouteExperts, "route_experts"},
    {OpKind::kExpertLinear, "expert_linear"},
    {OpKind::kCombineExperts, "combine_experts"},
    {OpKind::kRopeKvWrite, "rope_kv_write"},
    {OpKind::kPagedAttention, "paged_attention"},
}};

}  // namespace

std::string_view OpKindName(OpKind kind) {
  for (const auto& [candidate, name] : kOpNames) {
    if (candidate == kind) return name;
  }
  return "unknown";
}

StatusOr<OpKind> ParseOpKind(std::string_view name) {
  for (const auto& [kind, candidate] : kOpNames) {
    if (candidate == name) return kind;
  }
  return InvalidArgument("unknown op '{}'", name);
}

std::string_view ActivationName(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu: return "silu";
    case ActivationKind::kGelu: return "gelu";
    case ActivationKind::kGeluTanh: return "gelu_tanh";
    case ActivationKind::kRelu: return "relu";
  }
  return "unknown";
}

const LinearAttrs& LinearAttrsOf(const OpAttrs& attrs) {
  if (const auto* expert = std::get_if<ExpertLinearAttrs>(&attrs)) return expert->linear;
  return std::get<LinearAttrs>(attrs);
}

StatusOr<ActivationKind> ParseActivation(std::string_view name) {
  if (name == "silu" || name == "swish" || name == "swiglu") return ActivationKind::kSilu;
  if (name == "gelu") return ActivationKind::kGelu;
  if (name == "gelu_tanh" || name == "gelu_new" || name == "gelu_fast" ||
      name == "gelu_pytorch_tanh") {
    return ActivationKind::kGeluTanh;
  }
  if (name == "relu") return ActivationKind::kRelu;
  return Unimplemented("activation '{}' is not supported; known: silu, gelu, gelu_tanh, relu",
                       name);
}

}  // namespace trireme
