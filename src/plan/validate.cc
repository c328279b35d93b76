// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.h"

namespace trireme::plan {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 31;

Status CheckIndices(std::span<const int> indices, size_t limit, const Launch& launch,
                    std::string_view what) {
  for (int index : indices) {
    if (index < 0 || index >= static_cast<int>(limit)) {
      return InvalidArgument("plan: launch '{}' names {} {}, there are {}", launch.name, what,
                             index, limit);
    }
  }
  return OkStatus();
}

Status CheckLifetime(const Plan& plan, int buffer, int launch) {
  const Buffer& b = plan.buffers[buffer];
  if (launch < b.first || launch > b.last) {
    return InvalidArgument("plan: launch {} uses buffer {} outside its life [{}, {}]", launch,
                           buffer, b.first, b.last);
  }
  return OkStatus();
}

// Operands that a launch of this kind has.
struct Operands {
  size_t inputs = 1;
  size_t weights = 0;
  size_t scales = 0;  // more weights, of FP8 values; synthetic weights may go without
};

Operands OperandsOf(const Plan& plan, const Launch& launch) {
  const bool on_cpu = plan.device == "cpu";
  switch (launch.kind) {
    case OpKind::kEmbedding: return {0, 1};
    case OpKind::kPositionEmbedding:
    case OpKind::kRmsNorm:
    case OpKind::kHeadRmsNorm: return {1, 1};
    case OpKind::kLayerNorm: return {1, 2};
    case OpKind::kLinear: {
      const LinearAttrs& attrs = std::get<LinearAttrs>(launch.attrs);
      const bool float8 = !launch.weights.empty() &&
                          plan.weights[launch.weights[0]].quant.kind == WeightQuant::Kind::kFloat8;
      return {attrs.has_residual ? 2u : 1u, 1u + attrs.has_bias + attrs.has_norm,
              float8 ? (on_cpu ? 1u : 2u) : 0u};
    }
    case OpKind::kExpertLinear:
      return {2, static_cast<size_t>(std::get<ExpertLinearAttrs>(launch.attrs).num_experts)};
    case OpKind::kCombineExperts: return {2, 0};
    case OpKind::kRouteExperts: return {1, 0};
    case OpKind::kGatedActivation:
    case OpKind::kAdd:
    case OpKind::kMul: return {2, 0};
    case OpKind::kRopeKvWrite: return {1, 0, on_cpu ? 0u : 1u};
    case OpKind::kAttention:
    case OpKind::kPagedAttention:
    case OpKind::kActivation:
    case OpKind::kScale:
    case OpKind::kSoftCap:
    case OpKind::kSelectLogitRows:
    case OpKind::kAllReduce: return {1, 0};
  }
  return {};
}

// Widths and shapes of one launch, whose indices are known to be good. A plan may come from a
// damaged file, and kernels believe what it says.
class LaunchChecker {
 public:
  LaunchChecker(const Plan& plan, const Launch& launch) : plan_(plan), launch_(launch) {}

  Status Check() const {
    const Operands want = OperandsOf(plan_, launch_);
    const size_t weights = launch_.weights.size();
    if (launch_.inputs.size() != want.inputs || launch_.outputs.size() != 1 ||
        (weights != want.weights && weights != want.weights + want.scales)) {
      return InvalidArgument("plan: launch '{}' ({}) has {} inputs, {} outputs and {} weights",
                             launch_.name, OpKindName(launch_.kind), launch_.inputs.size(),
                             launch_.outputs.size(), weights);
    }
    switch (launch_.kind) {
      case OpKind::kEmbedding:
      case OpKind::kPositionEmbedding: return CheckTable();
      case OpKind::kLinear: return CheckLinear();
      case OpKind::kHeadRmsNorm: return CheckHeadNorm();
      case OpKind::kRouteExperts: return CheckRoute();
      case OpKind::kExpertLinear: return CheckExpertLinear();
      case OpKind::kCombineExperts: return CheckCombine();
      case OpKind::kAttention:
      case OpKind::kRopeKvWrite:
      case OpKind::kPagedAttention: return CheckAttention();
      default: return CheckElementwise();
    }
  }

 private:
  int64_t width(int buffer) const { return plan_.buffers[buffer].width; }
  int64_t out_width() const { return width(launch_.outputs[0]); }

  Status Misfit(std::string_view what) const {
    return InvalidArgument("plan: launch '{}' ({}): {}", launch_.name, OpKindName(launch_.kind),
                           what);
  }

  Status CheckPlainWeight(size_t i, const Shape& shape) const {
    const Weight& weight = plan_.weights[launch_.weights[i]];
    if (!(weight.shape == shape) || !IsFloat(weight.dtype) ||
        weight.num_bytes != DTypeBytes(weight.dtype, shape.num_elements())) {
      return Misfit(fmt::format("weight '{}' of {} bytes and shape {} must have shape {}",
                                weight.name, weight.num_bytes, weight.shape.ToString(),
                                shape.ToString()));
    }
    return OkStatus();
  }

  // Scales and biases: float32 on the CPU, of the engine's dtype elsewhere.
  Status CheckVector(size_t i, int64_t size) const {
    const DType want = plan_.device == "cpu" ? DType::kFloat32 : plan_.dtype;
    const Weight& weight = plan_.weights[launch_.weights[i]];
    if (weight.dtype != want) {
      return Misfit(fmt::format("weight '{}' is {}, it must be {}", weight.name,
                                DTypeName(weight.dtype), DTypeName(want)));
    }
    return CheckPlainWeight(i, {size});
  }

  Status CheckVectors(int64_t size) const {
    for (size_t i = 0; i < launch_.weights.size(); ++i) {
      TRIREME_RETURN_IF_ERROR(CheckVector(i, size));
    }
    return OkStatus();
  }

  Status CheckElementwise() const {
    for (int input : launch_.inputs) {
      if (width(input) != out_width()) return Misfit("inputs and output differ in width");
    }
    return CheckVectors(out_width());
  }

  Status CheckTable() const {
    for (int input : launch_.inputs) {
      if (width(input) != out_width()) return Misfit("input and output differ in width");
    }
    const int64_t rows = std::get<EmbeddingAttrs>(launch_.attrs).vocab_size;
    if (rows < 1 || rows > kMaxWidth) return Misfit(fmt::format("its table has {} rows", rows));
    return CheckPlainWeight(0, {rows, out_width()});
  }

  Status CheckHeadNorm() const {
    const HeadNormAttrs& attrs = std::get<HeadNormAttrs>(launch_.attrs);
    if (width(launch_.inputs[0]) != out_width()) return Misfit("input and output differ in width");
    if (attrs.first_head < 0 || attrs.num_heads < 1 || attrs.head_dim < 1 ||
        int64_t{attrs.first_head} + attrs.num_heads > out_width() / attrs.head_dim) {
      return Misfit("its heads lie outside the input");
    }
    return CheckVectors(attrs.head_dim);
  }

  Status CheckLinear() const {
    const LinearAttrs& attrs = std::get<LinearAttrs>(launch_.attrs);
    const int64_t out = attrs.gated ? attrs.out_features / 2 : attrs.out_features;
    if (width(launch_.inputs[0]) != attrs.in_features || out_width() != out ||
        (attrs.has_residual && width(launch_.inputs[1]) != out)) {
      return Misfit("its features do not fit the widths of its inputs and output");
    }
    const Weight& weight = plan_.weights[launch_.weights[0]];
    if (!(weight.shape == Shape{attrs.out_features, attrs.in_features})) {
      return Misfit("its weight has shape " + weight.shape.ToString());
    }
    if (attrs.has_bias) TRIREME_RETURN_IF_ERROR(CheckVector(1, attrs.out_features));
    if (attrs.has_norm) {
      TRIREME_RETURN_IF_ERROR(CheckVector(attrs.has_bias ? 2 : 1, attrs.in_features));
    }
    for (size_t i = 1u + attrs.has_bias + attrs.has_norm; i < launch_.weights.size(); ++i) {
      TRIREME_RETURN_IF_ERROR(CheckPlainWeight(i, {attrs.gated ? 2 : 1}));  // FP8 scales
    }
    return OkStatus();
  }

  Status CheckRoute() const {
    const RouteAttrs& attrs = std::get<RouteAttrs>(launch_.attrs);
    if (width(launch_.inputs[0]) != attrs.num_experts || out_width() != 2 * attrs.top_k) {
      return Misfit("its experts do not fit the widths of its input and output");
    }
    return OkStatus();
  }

  // The routing's ids choose among the weights, so it must be made for as many.
  bool IsRoutingOf(int buffer, const ExpertLinearAttrs& attrs) const {
    bool routing = false;
    for (const Launch& other : plan_.launches) {
      if (other.outputs.size() != 1 || other.outputs[0] != buffer) continue;
      if (other.kind != OpKind::kRouteExperts) return false;
      const RouteAttrs& route = std::get<RouteAttrs>(other.attrs);
      if (route.num_experts != attrs.num_experts || route.top_k != attrs.top_k) return false;
      routing = true;
    }
    return routing;
  }

  Status CheckExpertLinear() const {
    const ExpertLinearAttrs& attrs = std::get<ExpertLinearAttrs>(launch_.attrs);
    const LinearAttrs& linear = attrs.linear;
    const int64_t in = width(launch_.inputs[0]);
    const int64_t out = linear.gated ? linear.out_features / 2 : linear.out_features;
    if (linear.in_features < 1 || out < 1 || out_width() != attrs.top_k * out ||
        (in != linear.in_features && in != attrs.top_k * linear.in_features)) {
      return Misfit("its features do not fit the widths of its input and output");
    }
    if (!IsRoutingOf(launch_.inputs[1], attrs)) {
      return Misfit(fmt::format("its second input is no routing to {} of {} experts", attrs.top_k,
                                attrs.num_experts));
    }
    for (const int index : launch_.weights) {
      if (!(plan_.weights[index].shape == Shape{linear.out_features, linear.in_features})) {
        return Misfit("an expert's weight has shape " + plan_.weights[index].shape.ToString());
      }
    }
    return OkStatus();
  }

  Status CheckCombine() const {
    const int top_k = std::get<CombineAttrs>(launch_.attrs).top_k;
    if (width(launch_.inputs[0]) != top_k * out_width() || width(launch_.inputs[1]) != 2 * top_k) {
      return Misfit("its choices do not fit the widths of its inputs and output");
    }
    return OkStatus();
  }

  Status CheckAttention() const {
    const AttentionSpec& spec = std::get<AttentionAttrs>(launch_.attrs).spec;
    constexpr int kMaxHeads = 1 << 16;
    if (spec.num_kv_heads != plan_.num_kv_heads || spec.head_dim != plan_.head_dim ||
        spec.layer < 0 || spec.layer >= plan_.num_layers) {
      return Misfit("its layer or KV heads are not those of the plan");
    }
    if (spec.num_heads < 1 || spec.num_heads > kMaxHeads ||
        spec.num_heads % spec.num_kv_heads != 0 || spec.window < 0) {
      return Misfit(fmt::format("{} heads over {} KV heads, window {}", spec.num_heads,
                                spec.num_kv_heads, spec.window));
    }
    if (spec.rotary.kind != RotaryKind::kNone &&
        (spec.rotary.dim < 2 || spec.rotary.dim > spec.head_dim || spec.rotary.dim % 2 != 0)) {
      return Misfit(fmt::format("{} rotary values in heads of {}", spec.rotary.dim, spec.head_dim));
    }
    const int64_t q = int64_t{spec.num_heads} * spec.head_dim;
    const int64_t qkv = q + int64_t{2} * spec.num_kv_heads * spec.head_dim;
    // Where q is rotated in place, [q | k | v] stands for it.
    const auto holds_q = [&](int64_t width) {
      return width == q || (plan_.device != "cpu" && width == qkv);
    };
    const bool fits = launch_.kind == OpKind::kPagedAttention
                          ? holds_q(width(launch_.inputs[0])) && out_width() == q
                          : width(launch_.inputs[0]) == qkv && holds_q(out_width());
    return fits ? OkStatus() : Misfit("its heads do not fit the widths of its input and output");
  }

  const Plan& plan_;
  const Launch& launch_;
};

Status CheckCache(const Plan& plan) {
  constexpr int kMaxLayers = 1 << 16;
  constexpr int kMaxHeads = 1 << 16;
  constexpr int kMaxHeadDim = 256;  // what attention kernels keep of a head on the stack
  if (plan.num_layers < 1 || plan.num_layers > kMaxLayers || plan.num_kv_heads < 1 ||
      plan.num_kv_heads > kMaxHeads || plan.head_dim < 1) {
    return InvalidArgument("plan: {} layers of {} KV heads of {}", plan.num_layers,
                           plan.num_kv_heads, plan.head_dim);
  }
  if (plan.head_dim > kMaxHeadDim) {
    return Unimplemented("attention heads of {} values; kernels take up to {}", plan.head_dim,
                         kMaxHeadDim);
  }
  return OkStatus();
}

}  // namespace

Status ValidatePlan(const Plan& plan) {
  for (const Buffer& buffer : plan.buffers) {
    if (buffer.width <= 0 || buffer.width > kMaxWidth) {
      return InvalidArgument("plan: a buffer has width {}", buffer.width);
    }
  }
  for (const Weight& weight : plan.weights) {
    if (weight.num_bytes <= 0) return InvalidArgument("plan: weight '{}' is empty", weight.name);
  }
  TRIREME_RETURN_IF_ERROR(CheckCache(plan));
  std::vector<bool> written(plan.buffers.size(), false);
  for (size_t i = 0; i < plan.launches.size(); ++i) {
    const Launch& launch = plan.launches[i];
    TRIREME_RETURN_IF_ERROR(CheckIndices(launch.inputs, plan.buffers.size(), launch, "buffer"));
    TRIREME_RETURN_IF_ERROR(CheckIndices(launch.outputs, plan.buffers.size(), launch, "buffer"));
    TRIREME_RETURN_IF_ERROR(CheckIndices(launch.weights, plan.weights.size(), launch, "weight"));
    TRIREME_RETURN_IF_ERROR(CheckIndices(launch.waits_on, i, launch, "launch"));
    TRIREME_RETURN_IF_ERROR(LaunchChecker(plan, launch).Check());
    for (int input : launch.inputs) {
      if (!written[input]) {
        return InvalidArgument("plan: launch '{}' reads buffer {} before it is written",
                               launch.name, input);
      }
      TRIREME_RETURN_IF_ERROR(CheckLifetime(plan, input, static_cast<int>(i)));
    }
    for (int output : launch.outputs) {
      TRIREME_RETURN_IF_ERROR(CheckLifetime(plan, output, static_cast<int>(i)));
      written[output] = true;
    }
  }
  if (plan.logits_buffer < 0 || plan.logits_buffer >= static_cast<int>(plan.buffers.size()) ||
      !written[plan.logits_buffer]) {
    return InvalidArgument("plan: no launch writes the logits");
  }
  if (plan.buffers[plan.logits_buffer].width != plan.vocab_size) {
    return InvalidArgument("plan: the logits have width {}, the vocabulary {}",
                           plan.buffers[plan.logits_buffer].width, plan.vocab_size);
  }
  return OkStatus();
}

}  // namespace trireme::plan
