// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/decode_region_layers.h"

#include "device/cuda/cuda_status.h"

namespace trireme::engine {
namespace {

// Whether rows of all operands lie without gaps, and the layer is of the kind wanted.
bool IsLayer(const cuda::LinearProblem& p, const cuda::LinearOperands& o, bool norm, bool gated,
             bool residual) {
  const int64_t out = p.gated ? p.out_features / 2 : p.out_features;
  return p.has_rms_norm == norm && p.gated == gated && p.has_residual == residual &&
         o.x_stride == p.in_features && o.y_stride == out &&
         (!residual || o.residual_stride == out);
}

cuda::RegionLinear LinearOf(const cuda::LinearProblem& p, const cuda::LinearOperands& o) {
  const bool fp8 = p.weight == cuda::LinearWeight::kFloat8E4M3;
  return {.w = o.weight,
          .gamma = p.has_rms_norm ? o.gamma : nullptr,
          .bias = p.has_bias ? o.bias : nullptr,
          .x = o.x,
          .residual = p.has_residual ? o.residual : nullptr,
          .y = o.y,
          .epsilon = o.epsilon,
          .x_scale = o.x_scale,
          .alpha = fp8 ? o.x_scale * o.w_scale : 1.0f,
          .y_scale = o.y_scale};
}

bool SameShape(const cuda::DecodeRegionParams& a, const cuda::DecodeRegionParams& b) {
  return a.dtype == b.dtype && a.weight == b.weight && a.hidden_size == b.hidden_size &&
         a.intermediate_size == b.intermediate_size && a.num_heads == b.num_heads &&
         a.gamma_plus_one == b.gamma_plus_one && a.activation == b.activation &&
         a.activated == b.activated && a.style == b.style && a.rotary_dim == b.rotary_dim &&
         a.cos == b.cos && a.sin == b.sin && a.attention_scale == b.attention_scale;
}

}  // namespace

void DecodeRegionLayers::AddLinear(const cuda::LinearProblem& problem,
                                   const cuda::LinearOperands& operands) {
  launches_.push_back({.linear = Linear{problem, operands}, .attention = {}});
}

void DecodeRegionLayers::AddAttention(const cuda::RopeKvWriteParams& rope,
                                      const cuda::PagedAttentionParams& attention, float kv_scale) {
  launches_.push_back({.linear = {}, .attention = Attention{rope, attention, kv_scale}});
}

void DecodeRegionLayers::AddOther() { launches_.emplace_back(); }

std::optional<cuda::RegionLayer> DecodeRegionLayers::LayerAt(
    size_t first, cuda::DecodeRegionParams& shape) const {
  if (first + kLaunches > launches_.size()) return std::nullopt;
  const auto& qkv = launches_[first].linear;
  const auto& attention = launches_[first + 1].attention;
  const auto& o = launches_[first + 2].linear;
  const auto& gate_up = launches_[first + 3].linear;
  const auto& down = launches_[first + 4].linear;
  if (!qkv || !attention || !o || !gate_up || !down) return std::nullopt;
  const cuda::PagedAttentionParams& a = attention->params;
  const int64_t hidden = o->problem.out_features;
  const int64_t intermediate = gate_up->problem.out_features / 2;
  const int64_t q_width = o->problem.in_features;
  const bool fits =
      IsLayer(qkv->problem, qkv->operands, true, false, false) &&
      IsLayer(o->problem, o->operands, false, false, true) &&
      IsLayer(gate_up->problem, gate_up->operands, true, true, false) &&
      IsLayer(down->problem, down->operands, false, false, true) && !gate_up->problem.has_bias &&
      qkv->problem.in_features == hidden && gate_up->problem.in_features == hidden &&
      down->problem.in_features == intermediate && down->problem.out_features == hidden &&
      a.q == qkv->operands.y && a.q_stride == qkv->problem.out_features && a.out == o->operands.x &&
      a.out_stride == q_width && attention->rope.qkv == qkv->operands.y && a.window == 0 &&
      a.soft_cap == 0.0f && a.alibi_slopes == nullptr;
  if (!fits) return std::nullopt;
  for (const auto* linear : {&*o, &*gate_up, &*down}) {
    if (linear->problem.weight != qkv->problem.weight) return std::nullopt;
    if (linear->problem.has_rms_norm &&
        linear->problem.gamma_plus_one != qkv->problem.gamma_plus_one) {
      return std::nullopt;
    }
    // Between layers all is in the engine's dtype, but for what the gated layer leaves.
    const bool reads_gate = linear == &*down;
    const bool is_gate = linear == &*gate_up;
    if (!reads_gate && linear->problem.x_dtype != a.dtype) return std::nullopt;
    if (!is_gate && linear->problem.y_dtype != a.dtype) return std::nullopt;
  }
  if (gate_up->problem.y_dtype != down->problem.x_dtype || qkv->problem.x_dtype != a.dtype ||
      qkv->problem.y_dtype != a.dtype) {
    return std::nullopt;
  }
  shape = {};
  shape.dtype = a.dtype;
  shape.weight =
      qkv->problem.weight == cuda::LinearWeight::kFloat8E4M3 ? cuda::Element::kFloat8E4M3 : a.dtype;
  shape.hidden_size = static_cast<int>(hidden);
  shape.intermediate_size = static_cast<int>(intermediate);
  shape.num_heads = a.num_heads;
  shape.gamma_plus_one = qkv->problem.gamma_plus_one;
  shape.activation = gate_up->problem.activation;
  shape.activated = gate_up->problem.y_dtype;
  shape.style = attention->rope.style;
  shape.rotary_dim = attention->rope.rotary_dim;
  shape.cos = attention->rope.cos;
  shape.sin = attention->rope.sin;
  shape.attention_scale = a.scale;
  return cuda::RegionLayer{.qkv = LinearOf(qkv->problem, qkv->operands),
                           .o = LinearOf(o->problem, o->operands),
                           .gate_up = LinearOf(gate_up->problem, gate_up->operands),
                           .down = LinearOf(down->problem, down->operands),
                           .cache_layer = a.layer,
                           .kv_scale = attention->kv_scale};
}

Status DecodeRegionLayers::Finish(const cuda::KvView& kv, const cuda::LaunchContext& context) {
  std::vector<cuda::RegionLayer> layers;
  cuda::DecodeRegionParams shape;
  for (size_t i = 0; i < launches_.size() && layers.empty(); ++i) {
    for (size_t at = i; auto layer = LayerAt(at, shape); at += kLaunches) {
      if (!layers.empty() && !SameShape(shape, params_)) break;
      params_ = shape;
      first_launch_ = static_cast<int>(i);
      layers.push_back(*layer);
    }
  }
  launches_.clear();
  params_.num_layers = static_cast<int>(layers.size());
  if (layers.empty()) return OkStatus();
  cuda::StepView one;
  one.max_tokens = 1;
  const cuda::DecodeRegionParams params = ParamsOf(one, kv);
  if (!SupportsDecodeRegion(params, {}, context.num_sms)) {
    params_.num_layers = 0;
    return OkStatus();
  }
  const auto layer_bytes = layers.size() * sizeof(cuda::RegionLayer);
  TRIREME_ASSIGN_OR_RETURN(layers_, cuda::DeviceBuffer::Allocate(static_cast<int64_t>(layer_bytes),
                                                                 "a region's layers"));
  TRIREME_ASSIGN_OR_RETURN(
      workspace_, cuda::DeviceBuffer::Allocate(DecodeRegionWorkspaceBytes(params, context.num_sms),
                                               "workspace of a region"));
  TRIREME_CUDA_RETURN_IF_ERROR(
      cudaMemcpy(layers_.data(), layers.data(), layer_bytes, cudaMemcpyHostToDevice),
      "copying a region's layers");
  TRIREME_CUDA_RETURN_IF_ERROR(
      cudaMemset(workspace_.data(), 0, static_cast<size_t>(workspace_.size())),
      "clearing a region's workspace");
  return OkStatus();
}

cuda::DecodeRegionParams DecodeRegionLayers::ParamsOf(const cuda::StepView& step,
                                                      const cuda::KvView& kv) const {
  cuda::DecodeRegionParams params = params_;
  params.layers = layers_.as<const cuda::RegionLayer>();
  params.step = step;
  params.kv = kv;
  params.workspace = workspace_.data();
  params.num_rows = step.max_tokens;
  return params;
}

bool DecodeRegionLayers::Serves(const cuda::StepView& step, const cuda::KvView& kv,
                                const cuda::LaunchContext& context) const {
  return params_.num_layers > 0 && step.max_query == 1 && step.max_seq_len <= kLongestSeq &&
         step.max_tokens <= kMostSeqs &&
         SupportsDecodeRegion(ParamsOf(step, kv), {}, context.num_sms);
}

cudaError_t DecodeRegionLayers::Run(const cuda::StepView& step, const cuda::KvView& kv,
                                    cuda::LaunchContext& context) const {
  return DecodeRegion(ParamsOf(step, kv), {}, context);
}

}  // namespace trireme::engine
