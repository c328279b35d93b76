// SPDX-License-Identifier: Apache-2.0
#include "trireme/network.h"

#include <algorithm>

#include "base/status.h"

namespace trireme {
void Network::Fail(std::string message) {
  if (status_.ok()) status_ = Status(StatusCode::kInvalidArgument, std::move(message));
}

bool Network::Check(Value x, std::string_view layer) {
  if (x.id >= 0 && x.id < static_cast<int>(values_.size())) return true;
  Fail(fmt::format("{}: the input is not a value of this network", layer));
  return false;
}

int Network::AddValue(int64_t width, bool logit_rows) {
  values_.push_back({width, logit_rows});
  return static_cast<int>(values_.size()) - 1;
}

int Network::AddWeight(NetworkWeight weight) {
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i].name != weight.name) continue;
    if (weights_[i].shape != weight.shape) {
      Fail(fmt::format("weight '{}' is used with two shapes", weight.name));
    }
    return static_cast<int>(i);
  }
  weights_.push_back(std::move(weight));
  return static_cast<int>(weights_.size()) - 1;
}

Value Network::Append(OpKind kind, std::string name, std::vector<int> inputs,
                      std::vector<int> weights, OpAttrs attrs, int64_t width, bool logit_rows) {
  if (width <= 0)
    Fail(fmt::format("{} '{}': width {} is not positive", OpKindName(kind), name, width));
  const int output = AddValue(width, logit_rows);
  ops_.push_back(
      {kind, std::move(name), std::move(inputs), {output}, std::move(weights), std::move(attrs)});
  return {output};
}

Value Network::Embedding(const EmbeddingSpec& spec) {
  const int table = AddWeight({spec.name + ".weight", {spec.vocab_size, spec.width}, false});
  return Append(OpKind::kEmbedding, spec.name, {}, {table},
                EmbeddingAttrs{spec.vocab_size, spec.scale}, spec.width, false);
}

Value Network::PositionEmbedding(Value x, const std::string& name, int64_t max_positions) {
  if (!Check(x, name)) return {};
  const int64_t width = values_[x.id].width;
  const int table = AddWeight({name + ".weight", {max_positions, width}, false});
  return Append(OpKind::kPositionEmbedding, name, {x.id}, {table},
                EmbeddingAttrs{max_positions, 1.0}, width, false);
}

Value Network::RmsNorm(Value x, const NormSpec& spec) {
  if (!Check(x, spec.name)) return {};
  const NetworkValue in = values_[x.id];
  const int gamma = AddWeight({spec.name + ".weight", {in.width}, false});
  return Append(OpKind::kRmsNorm, spec.name, {x.id}, {gamma},
                NormAttrs{spec.epsilon, spec.gamma_offset}, in.width, in.logit_rows);
}

Value Network::LayerNorm(Value x, const NormSpec& spec) {
  if (!Check(x, spec.name)) return {};
  const NetworkValue in = values_[x.id];
  const int gamma = AddWeight({spec.name + ".weight", {in.width}, false});
  const int beta = AddWeight({spec.name + ".bias", {in.width}, false});
  return Append(OpKind::kLayerNorm, spec.name, {x.id}, {gamma, beta},
                NormAttrs{spec.epsilon, spec.gamma_offset}, in.width, in.logit_rows);
}

Value Network::HeadRmsNorm(Value qkv, const HeadNormSpec& spec) {
  if (!Check(qkv, spec.name)) return {};
  const int64_t width = values_[qkv.id].width;
  if (int64_t{spec.first_head + spec.num_heads} * spec.head_dim > width) {
    Fail(fmt::format("head norm '{}': heads [{}, {}) of {} exceed the width {}", spec.name,
                     spec.first_head, spec.first_head + spec.num_heads, spec.head_dim, width));
  }
  const int gamma = AddWeight({spec.name + ".weight", {spec.head_dim}, false});
  return Append(OpKind::kHeadRmsNorm, spec.name, {qkv.id}, {gamma},
                HeadNormAttrs{spec.epsilon, spec.first_head, spec.num_heads, spec.head_dim}, width,
                values_[qkv.id].logit_rows);
}

Value Network::Linear(Value x, const LinearSpec& spec) {
  if (!Check(x, spec.name)) return {};
  const NetworkValue in = values_[x.id];
  std::vector<int> weights = {
      AddWeight({spec.name + ".weight", {spec.out_features, in.width}, spec.quantizable})};
  if (spec.bias) weights.push_back(AddWeight({spec.name + ".bias", {spec.out_features}, false}));
  return Append(
      OpKind::kLinear, spec.name, {x.id}, std::move(weights),
      LinearAttrs{
          .in_features = in.width, .out_features = spec.out_features, .has_bias = spec.bias},
      spec.out_features, in.logit_rows);
}

Value Network::Attention(Value qkv, const AttentionSpec& spec) {
  if (!Check(qkv, spec.name)) return {};
  const int64_t want = int64_t{spec.num_heads + 2 * spec.num_kv_heads} * spec.head_dim;
  if (values_[qkv.id].width != want) {
    Fail(fmt::format("attention '{}': the input has width {}, {} + 2 * {} heads of {} need {}",
                     spec.name, values_[qkv.id].width, spec.num_heads, spec.num_kv_heads,
                     spec.head_dim, want));
  }
  if (spec.num_kv_heads <= 0 || spec.num_heads % std::max(1, spec.num_kv_heads) != 0) {
    Fail(fmt::format("attention '{}': {} heads are not a multiple of {} KV heads", spec.name,
                     spec.num_heads, spec.num_kv_heads));
  }
  if (spec.rotary.dim > spec.head_dim || spec.rotary.dim % 2 != 0) {
    Fail(fmt::format("attention '{}': rotary dimension {} does not fit head size {}", spec.name,
                     spec.rotary.dim, spec.head_dim));
  }
  if (spec.layer != num_layers_) {
    Fail(fmt::format("attention '{}': layer {} follows layer {}", spec.name, spec.layer,
                     num_layers_ - 1));
  }
  ++num_layers_;
  return Append(OpKind::kAttention, spec.name, {qkv.id}, {}, AttentionAttrs{spec},
                int64_t{spec.num_heads} * spec.head_dim, false);
}

Value Network::MixtureOfExperts(Value x, const MixtureOfExpertsSpec& spec) {
  if (!Check(x, spec.name)) return {};
  if (spec.num_experts <= 0 || spec.top_k <= 0 || spec.top_k > spec.num_experts) {
    Fail(fmt::format("mixture of experts '{}': top {} of {} experts", spec.name, spec.top_k,
                     spec.num_experts));
    return {};
  }
  const NetworkValue in = values_[x.id];
  const Value logits = Linear(
      x, {.name = spec.name + ".router", .out_features = spec.num_experts, .quantizable = false});
  const Value routing = Append(OpKind::kRouteExperts, spec.name + ".router", {logits.id}, {},
                               RouteAttrs{spec.num_experts, spec.top_k, spec.normalize},
                               2 * spec.top_k, in.logit_rows);
  const Value inner = ExpertLinear(x, routing, spec.name + ".fc",
                                   {.num_experts = spec.num_experts,
                                    .top_k = spec.top_k,
                                    .linear = {.in_features = in.width,
                                               .out_features = 2 * spec.intermediate_size,
                                               .gated = true,
                                               .gate_activation = spec.activation}});
  const Value outer =
      ExpertLinear(inner, routing, spec.name + ".proj",
                   {.num_experts = spec.num_experts,
                    .top_k = spec.top_k,
                    .linear = {.in_features = spec.intermediate_size, .out_features = in.width}});
  return Append(OpKind::kCombineExperts, spec.name, {outer.id, routing.id}, {},
                CombineAttrs{spec.top_k}, in.width, in.logit_rows);
}

Value Network::ExpertLinear(Value x, Value routing, const std::string& name,
                            const ExpertLinearAttrs& attrs) {
  const LinearAttrs& linear = attrs.linear;
  const int weight = AddWeight(
      {name + ".weight", {attrs.num_experts, linear.out_features, linear.in_features}, true});
  const int64_t width = linear.gated ? linear.out_features / 2 : linear.out_features;
  return Append(OpKind::kExpertLinear, name, {x.id, routing.id}, {weight}, attrs,
                attrs.top_k * width, values_[x.id].logit_rows);
}

Value Network::Activation(Value x, ActivationKind kind) {
  if (!Check(x, "activation")) return {};
  return Append(OpKind::kActivation, std::string(ActivationName(kind)), {x.id}, {},
                ActivationAttrs{kind}, values_[x.id].width, values_[x.id].logit_rows);
}

Value Network::GatedActivation(Value activated, Value plain, ActivationKind kind) {
  if (!Check(activated, "gated activation") || !Check(plain, "gated activation")) return {};
  if (values_[activated.id].width != values_[plain.id].width) {
    Fail(fmt::format("gated activation: widths {} and {} differ", values_[activated.id].width,
                     values_[plain.id].width));
  }
  return Append(OpKind::kGatedActivation, std::string(ActivationName(kind)),
                {activated.id, plain.id}, {}, ActivationAttrs{kind}, values_[plain.id].width,
                values_[plain.id].logit_rows);
}

Value Network::Add(Value a, Value b) {
  if (!Check(a, "add") || !Check(b, "add")) return {};
  if (values_[a.id].width != values_[b.id].width ||
      values_[a.id].logit_rows != values_[b.id].logit_rows) {
    Fail(fmt::format("add: shapes of widths {} and {} differ", values_[a.id].width,
                     values_[b.id].width));
  }
  return Append(OpKind::kAdd, "add", {a.id, b.id}, {}, NoAttrs{}, values_[a.id].width,
                values_[a.id].logit_rows);
}

Value Network::Mul(Value a, Value b) {
  if (!Check(a, "mul") || !Check(b, "mul")) return {};
  if (values_[a.id].width != values_[b.id].width ||
      values_[a.id].logit_rows != values_[b.id].logit_rows) {
    Fail(fmt::format("mul: shapes of widths {} and {} differ", values_[a.id].width,
                     values_[b.id].width));
  }
  return Append(OpKind::kMul, "mul", {a.id, b.id}, {}, NoAttrs{}, values_[a.id].width,
                values_[a.id].logit_rows);
}

Value Network::Scale(Value x, double factor) {
  if (!Check(x, "scale")) return {};
  return Append(OpKind::kScale, "scale", {x.id}, {}, ScalarAttrs{factor}, values_[x.id].width,
                values_[x.id].logit_rows);
}

Value Network::SoftCap(Value x, double cap) {
  if (!Check(x, "soft_cap")) return {};
  return Append(OpKind::kSoftCap, "soft_cap", {x.id}, {}, ScalarAttrs{cap}, values_[x.id].width,
                values_[x.id].logit_rows);
}

Value Network::SelectLogitRows(Value x) {
  if (!Check(x, "select_logit_rows")) return {};
  return Append(OpKind::kSelectLogitRows, "select_logit_rows", {x.id}, {}, NoAttrs{},
                values_[x.id].width, true);
}

Value Network::AllReduce(Value x) {
  if (!Check(x, "all_reduce")) return {};
  return Append(OpKind::kAllReduce, "all_reduce", {x.id}, {}, NoAttrs{}, values_[x.id].width,
                values_[x.id].logit_rows);
}

void Network::SetLogits(Value logits) {
  if (!Check(logits, "logits")) return;
  if (!values_[logits.id].logit_rows) {
    Fail("logits must come after SelectLogitRows, which keeps the rows that are wanted");
  }
  logits_ = logits.id;
}

Status Network::Validate() const {
  TRIREME_RETURN_IF_ERROR(status_);
  if (logits_ < 0) return InvalidArgument("the network sets no logits");
  std::vector<bool> defined(values_.size(), false);
  for (const NetworkOp& op : ops_) {
    for (int input : op.inputs) {
      if (!defined[input]) {
        return Internal("op '{}' reads value {} before it is made", op.name, input);
      }
    }
    for (int output : op.outputs) {
      if (defined[output]) return Internal("value {} is made twice", output);
      defined[output] = true;
    }
    for (int weight : op.weights) {
      if (weight < 0 || weight >= static_cast<int>(weights_.size())) {
        return Internal("op '{}' reads weight {}, which does not exist", op.name, weight);
      }
    }
  }
  if (!defined[logits_]) return Internal("no op makes the logits");
  return OkStatus();
}

std::string Network::ToDot(std::string_view title) const {
  std::string dot = fmt::format(
      "digraph \"{}\" {{\n  node [shape=box, style=rounded, fontname=\"Helvetica\"];\n", title);
  std::vector<int> maker(values_.size(), -1);
  for (size_t i = 0; i < ops_.size(); ++i) {
    std::string label = fmt::format("{}\\n{}", OpKindName(ops_[i].kind), ops_[i].name);
    for (int weight : ops_[i].weights) label += "\\n" + weights_[weight].name;
    dot += fmt::format("  op{} [label=\"{}\"];\n", i, label);
    for (int input : ops_[i].inputs) {
      dot += fmt::format("  op{} -> op{} [label=\"{}\"];\n", maker[input], i, values_[input].width);
    }
    for (int output : ops_[i].outputs) maker[output] = static_cast<int>(i);
  }
  return dot + "}\n";
}

}  // namespace trireme
