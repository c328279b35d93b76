// SPDX-License-Identifier: Apache-2.0
// Network: a model as an SSA graph of ops over values, and the layer functions that build it.
//
// Values are float activations of shape [num_tokens, width] ([num_logit_rows, width] after
// SelectLogitRows). Weights are bound by name and live apart from the structure. A network is the
// share of one rank: widths and weight shapes are local to it. Not thread-safe while it is built.
//
//   Network net;
//   Value x = net.Embedding({.name = "transformer.vocab_embedding", .vocab_size = 512, .width = 64});
//   Value h = net.RmsNorm(x, {.name = "transformer.ln_f", .epsilon = 1e-5});
//   net.SetLogits(net.Linear(net.SelectLogitRows(h), {.name = "lm_head", .out_features = 512}));
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "trireme/model_config.h"
#include "trireme/status.h"

namespace trireme {

enum class OpKind {
  kEmbedding,
  kPositionEmbedding,
  kRmsNorm,
  kLayerNorm,
  kHeadRmsNorm,
  kLinear,
  kAttention,
  kActivation,
  kGatedActivation,
  kAdd,
  kMul,
  kScale,
  kSoftCap,
  kSelectLogitRows,
  kAllReduce,
  kRouteExperts,
  kExpertLinear,
  kCombineExperts,
  // Made by passes, never by the layer functions.
  kRopeKvWrite,
  kPagedAttention,
};
std::string_view OpKindName(OpKind kind);
StatusOr<OpKind> ParseOpKind(std::string_view name);

enum class ActivationKind { kSilu, kGelu, kGeluTanh, kRelu };
std::string_view ActivationName(ActivationKind kind);  // "silu", "gelu", "gelu_tanh", "relu"
// Also Hugging Face's hidden_act names ("swiglu", "gelu_new", "gelu_pytorch_tanh", ...).
StatusOr<ActivationKind> ParseActivation(std::string_view name);

// Weight `name.weight` [vocab_size, width]; y = weight[token] * scale.
struct EmbeddingSpec {
  std::string name;
  int64_t vocab_size = 0;
  int64_t width = 0;
  double scale = 1.0;
};

// Weight `name.weight` [width] and, for a layer norm, `name.bias` [width].
struct NormSpec {
  std::string name;
  double epsilon = 1e-5;
  bool gamma_offset = false;  // y = x_hat * (1 + weight)
};

// Weights `name.weight` [out_features, in] and, with `bias`, `name.bias` [out_features].
// `name.weight` is quantized when the model's QuantizationConfig says so and does not exclude it.
struct LinearSpec {
  std::string name;
  int64_t out_features = 0;
  bool bias = false;
  bool quantizable = true;  // false: kept as a float whatever the QuantizationConfig says
};

// A mixture of experts: a router sends each token through `top_k` of `num_experts` gated MLPs and
// sums their results by its probabilities.
//
//   p = softmax(router(x));  e_1 ... e_k = the most likely experts
//   y = sum_i p[e_i] * proj_{e_i}(act(fc_{e_i}(x)) * gate_{e_i}(x))
//
// Weights: `name.router.weight` [num_experts, in]; `name.fc.weight` [num_experts,
// 2 * intermediate_size, in], the rows of the plain branch before those of the activated one;
// `name.proj.weight` [num_experts, in, intermediate_size].
struct MixtureOfExpertsSpec {
  std::string name;
  int num_experts = 0;
  int top_k = 0;
  int64_t intermediate_size = 0;
  ActivationKind activation = ActivationKind::kSilu;
  bool normalize = true;  // the chosen experts' probabilities are divided by their sum
};

enum class RotaryKind { kNone, kNeox, kGptj };  // halves, interleaved pairs

struct RotarySpec {
  RotaryKind kind = RotaryKind::kNone;
  int dim = 0;  // rotated values of a head, from its start
  double base = 10000.0;
  RotaryScaling scaling;
  int max_position_embeddings = 0;
};

// Causal self-attention over the paged KV cache. Input: packed [q | k | v], head-major.
struct AttentionSpec {
  std::string name;
  int layer = 0;  // index of the layer's keys and values in the cache
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  double scale = 0.0;     // 0: 1 / sqrt(head_dim)
  int window = 0;         // 0: none; else attends to that many last positions, itself included
  double soft_cap = 0.0;  // 0: none; else scores = cap * tanh(scores / cap)
  bool alibi = false;
  RotarySpec rotary;
};

// RMS norm of each head of q or k inside packed [q | k | v]; weight `name.weight` [head_dim].
struct HeadNormSpec {
  std::string name;
  double epsilon = 1e-6;
  int first_head = 0;
  int num_heads = 0;
  int head_dim = 0;
};

struct Value {
  int id = -1;
};

// --- The graph as data: what passes, printers and the compiler read. ---

struct EmbeddingAttrs {
  int64_t vocab_size = 0;
  double scale = 1.0;
};
struct NormAttrs {
  double epsilon = 1e-5;
  bool gamma_offset = false;
};
struct HeadNormAttrs {
  double epsilon = 1e-6;
  int first_head = 0;
  int num_heads = 0;
  int head_dim = 0;
};
struct LinearAttrs {
  int64_t in_features = 0;
  int64_t out_features = 0;  // rows of the weight; both branches of a gated layer
  bool has_bias = false;
  // Set by passes. A gated layer reads two weights, activated branch first, and its output is
  // act(first) * second; a residual is the last input. A layer with a norm reads RmsNorm(input),
  // whose scale is the last weight.
  bool gated = false;
  ActivationKind gate_activation = ActivationKind::kSilu;
  bool has_residual = false;
  bool has_norm = false;
  NormAttrs norm;
};
struct AttentionAttrs {
  AttentionSpec spec;
};
// Router logits [num_experts] -> routing [2 * top_k]: ids of the chosen experts by falling
// probability, exact as floats, then their weights. Equal logits: the lower id first.
struct RouteAttrs {
  int num_experts = 0;
  int top_k = 0;
  bool normalize = false;
};
// Inputs x and routing. x is [in_features], which all choices of a token share, or
// [top_k, in_features]; the output is [top_k, out], row i made by the linear layer of the i-th
// chosen expert. The weight is a stack [num_experts, out_features, in_features]; of a gated layer
// the plain branch comes first (LinearAttrs has them the other way round, as kernels do).
struct ExpertLinearAttrs {
  int num_experts = 0;
  int top_k = 0;
  LinearAttrs linear;
};
// Inputs x [top_k, width] and routing; y = sum_i weight_i * x_i, in order of i.
struct CombineAttrs {
  int top_k = 0;
};
struct ActivationAttrs {
  ActivationKind kind = ActivationKind::kSilu;
};
struct ScalarAttrs {
  double value = 1.0;
};
struct NoAttrs {};

using OpAttrs =
    std::variant<NoAttrs, EmbeddingAttrs, NormAttrs, HeadNormAttrs, LinearAttrs, AttentionAttrs,
                 ActivationAttrs, ScalarAttrs, RouteAttrs, ExpertLinearAttrs, CombineAttrs>;

// The linear layer of a kLinear or kExpertLinear op.
const LinearAttrs& LinearAttrsOf(const OpAttrs& attrs);

// A named tensor of the checkpoint. Shapes are local to the rank.
struct NetworkWeight {
  std::string name;
  std::vector<int64_t> shape;
  bool quantizable = false;  // the weight of a linear layer
};

struct NetworkValue {
  int64_t width = 0;
  bool logit_rows = false;  // one row per wanted logit row instead of one per token
};

struct NetworkOp {
  OpKind kind = OpKind::kAdd;
  std::string name;
  std::vector<int> inputs;   // value ids
  std::vector<int> outputs;  // value ids
  std::vector<int> weights;  // indices into weights(): [weight, bias] or [first, second] and so on
  OpAttrs attrs;
};

class Network {
 public:
  Value Embedding(const EmbeddingSpec& spec);
  // Adds row `position` of `name.weight` [max_positions, width] to x.
  Value PositionEmbedding(Value x, const std::string& name, int64_t max_positions);
  Value RmsNorm(Value x, const NormSpec& spec);
  Value LayerNorm(Value x, const NormSpec& spec);
  Value HeadRmsNorm(Value qkv, const HeadNormSpec& spec);
  Value Linear(Value x, const LinearSpec& spec);
  Value Attention(Value qkv, const AttentionSpec& spec);
  // As wide as x; three ops and a linear layer (route, two expert layers, combine).
  Value MixtureOfExperts(Value x, const MixtureOfExpertsSpec& spec);
  Value Activation(Value x, ActivationKind kind);
  Value GatedActivation(Value activated, Value plain, ActivationKind kind);
  Value Add(Value a, Value b);
  Value Mul(Value a, Value b);
  Value Scale(Value x, double factor);
  Value SoftCap(Value x, double cap);
  // Keeps the rows whose logits are wanted. What follows runs on those rows only.
  Value SelectLogitRows(Value x);
  // Sums x over the ranks of a tensor-parallel group.
  Value AllReduce(Value x);
  void SetLogits(Value logits);

  // The first mistake made while building (a width that does not fit, a value of another network).
  // Layer functions go on after one, so that model files need no checks between layers.
  const Status& status() const { return status_; }
  // Everything that must hold of a finished network.
  Status Validate() const;

  const std::vector<NetworkOp>& ops() const { return ops_; }
  const std::vector<NetworkValue>& values() const { return values_; }
  const std::vector<NetworkWeight>& weights() const { return weights_; }
  int logits() const { return logits_; }
  int num_layers() const { return num_layers_; }  // attention layers: the layers of the KV cache

  // For passes: replaces the ops; values and weights keep their ids.
  void SetOps(std::vector<NetworkOp> ops) { ops_ = std::move(ops); }
  int AddValue(int64_t width, bool logit_rows);
  int AddWeight(NetworkWeight weight);

  // Graphviz text; weights and widths in the labels.
  std::string ToDot(std::string_view title) const;

 private:
  Value Append(OpKind kind, std::string name, std::vector<int> inputs, std::vector<int> weights,
               OpAttrs attrs, int64_t width, bool logit_rows);
  bool Check(Value x, std::string_view layer);
  Value ExpertLinear(Value x, Value routing, const std::string& name,
                     const ExpertLinearAttrs& attrs);
  void Fail(std::string message);

  std::vector<NetworkOp> ops_;
  std::vector<NetworkValue> values_;
  std::vector<NetworkWeight> weights_;
  int logits_ = -1;
  int num_layers_ = 0;
  Status status_;
};

}  // namespace trireme
