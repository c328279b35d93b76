// SPDX-License-Identifier: Apache-2.0
// Runs a network on the reference kernels, op by op, for one sequence without a cache before it:
// what proves that a pass keeps the meaning. Weights are drawn by name, so that two forms of a
// network have the same ones. Tests only; not thread-safe.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/activation.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/kernels_testing.h"
#include "kernels/layer_norm.h"
#include "kernels/linear_problem.h"
#include "kernels/paged_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rope_kv_write.h"
#include "kernels/rotary_table.h"
#include "trireme/network.h"

namespace trireme::graph {

class NetworkReference {
 public:
  NetworkReference(std::vector<int32_t> token_ids, std::vector<int32_t> logit_rows)
      : token_ids_(std::move(token_ids)), logit_rows_(std::move(logit_rows)) {
    positions_.resize(token_ids_.size());
    std::iota(positions_.begin(), positions_.end(), 0);
    cu_query_lens_ = {0, static_cast<int32_t>(token_ids_.size())};
  }

  // [logit rows, width of the logits]
  std::vector<float> Run(const Network& network) {
    network_ = &network;
    values_.assign(network.values().size(), {});
    PrepareCache();
    for (const NetworkOp& op : network.ops()) {
      std::vector<float>& y = values_[op.outputs[0]];
      y.assign(static_cast<size_t>(Rows(op.outputs[0]) * Width(op.outputs[0])),
               std::numeric_limits<float>::quiet_NaN());
      RunOp(op, y.data());
    }
    return values_[network.logits()];
  }

 private:
  int64_t Width(int value) const { return network_->values()[value].width; }
  int64_t Rows(int value) const {
    return static_cast<int64_t>(network_->values()[value].logit_rows ? logit_rows_.size()
                                                                     : token_ids_.size());
  }
  const float* In(const NetworkOp& op, size_t i) const { return values_[op.inputs[i]].data(); }

  // Values of deviation 1 / sqrt(columns); those of norms near one.
  const std::vector<float>& Weight(const NetworkOp& op, size_t i) {
    const NetworkWeight& weight = network_->weights()[op.weights[i]];
    std::vector<float>& values = weights_[weight.name];
    if (values.empty()) {
      kernels::TestRandom random(std::hash<std::string>()(weight.name));
      int64_t count = 1;
      for (int64_t size : weight.shape) count *= size;
      const bool vector = weight.shape.size() == 1;
      const float deviation = vector ? 0.3f : 1.0f / std::sqrt(float(weight.shape.back()));
      values = random.Normals(count, deviation);
      if (vector && weight.name.ends_with(".weight")) {
        for (float& value : values) value += 1.0f;
      }
    }
    return values;
  }

  kernels::StepView Step() const {
    kernels::StepView step;
    step.num_tokens = static_cast<int>(token_ids_.size());
    step.num_seqs = 1;
    step.token_ids = token_ids_.data();
    step.positions = positions_.data();
    step.cu_query_lens = cu_query_lens_.data();
    step.context_lens = context_lens_.data();
    step.block_tables = block_table_.data();
    step.max_blocks_per_seq = static_cast<int>(block_table_.size());
    return step;
  }

  void PrepareCache() {
    KvLayout layout{DType::kFloat32, network_->num_layers(), 1, 1, 16};
    for (const NetworkOp& op : network_->ops()) {
      if (op.kind != OpKind::kRopeKvWrite) continue;
      const AttentionSpec& spec = std::get<AttentionAttrs>(op.attrs).spec;
      layout.num_kv_heads = spec.num_kv_heads;
      layout.head_dim = spec.head_dim;
    }
    block_table_.resize((token_ids_.size() + 15) / 16);
    std::iota(block_table_.begin(), block_table_.end(), 0);
    const auto blocks = static_cast<int64_t>(block_table_.size());
    pool_.assign(static_cast<size_t>(blocks * layout.block_bytes()), std::byte{0xff});  // NaNs
    kv_ = {layout, pool_.data(), blocks};
  }

  void RunOp(const NetworkOp& op, float* y) {
    const int64_t width = Width(op.outputs[0]);
    const int64_t rows = Rows(op.outputs[0]);
    const auto unary = [&](void (*run)(const kernels::UnaryParams&), float value) {
      run({.x = In(op, 0),
           .x_stride = width,
           .value = value,
           .y = y,
           .y_stride = width,
           .num_rows = rows,
           .size = width});
    };
    const auto binary = [&](void (*run)(const kernels::BinaryParams&), const float* b) {
      run({.a = In(op, 0),
           .a_stride = width,
           .b = b,
           .b_stride = width,
           .y = y,
           .y_stride = width,
           .num_rows = rows,
           .size = width});
    };
    switch (op.kind) {
      case OpKind::kEmbedding: return LookUp(op, token_ids_.data(), y);
      case OpKind::kPositionEmbedding: {
        std::vector<float> table(static_cast<size_t>(rows * width));
        LookUp(op, positions_.data(), table.data());
        return binary(kernels::AddReference, table.data());
      }
      case OpKind::kRmsNorm:
      case OpKind::kHeadRmsNorm:
      case OpKind::kLayerNorm: return Norm(op, y);
      case OpKind::kLinear: return Linear(op, y);
      case OpKind::kAttention: return Attention(std::get<AttentionAttrs>(op.attrs).spec, op, y);
      case OpKind::kRopeKvWrite: return RopeKvWrite(std::get<AttentionAttrs>(op.attrs).spec, op, y);
      case OpKind::kPagedAttention:
        return PagedAttention(std::get<AttentionAttrs>(op.attrs).spec, op, y);
      case OpKind::kActivation:
      case OpKind::kGatedActivation: return Activate(op, y);
      case OpKind::kAdd: return binary(kernels::AddReference, In(op, 1));
      case OpKind::kMul: return binary(kernels::MulReference, In(op, 1));
      case OpKind::kScale:
        return unary(kernels::ScaleReference,
                     static_cast<float>(std::get<ScalarAttrs>(op.attrs).value));
      case OpKind::kSoftCap:
        return unary(kernels::SoftCapReference,
                     static_cast<float>(std::get<ScalarAttrs>(op.attrs).value));
      case OpKind::kRouteExperts:
      case OpKind::kExpertLinear:
      case OpKind::kCombineExperts:
        ADD_FAILURE() << "a random network has no experts; its reference knows none";
        return;
      case OpKind::kAllReduce: return unary(kernels::CopyRowsReference, 1.0f);  // of one rank
      case OpKind::kSelectLogitRows:
        return kernels::GatherRowsReference({.x = In(op, 0),
                                             .x_stride = width,
                                             .rows = logit_rows_.data(),
                                             .y = y,
                                             .y_stride = width,
                                             .num_rows = rows,
                                             .size = width});
    }
  }

  void LookUp(const NetworkOp& op, const int32_t* ids, float* y) {
    const int64_t width = Width(op.outputs[0]);
    kernels::EmbeddingReference(
        {.token_ids = ids,
         .table = reinterpret_cast<const std::byte*>(Weight(op, 0).data()),
         .scale = static_cast<float>(std::get<EmbeddingAttrs>(op.attrs).scale),
         .y = y,
         .y_stride = width,
         .num_tokens = Rows(op.outputs[0]),
         .hidden_size = width});
  }

  void Norm(const NetworkOp& op, float* y) {
    const int64_t width = Width(op.outputs[0]);
    const int64_t rows = Rows(op.outputs[0]);
    if (op.kind == OpKind::kLayerNorm) {
      return kernels::LayerNormReference(
          {.x = In(op, 0),
           .x_stride = width,
           .gamma = Weight(op, 0).data(),
           .beta = Weight(op, 1).data(),
           .epsilon = static_cast<float>(std::get<NormAttrs>(op.attrs).epsilon),
           .y = y,
           .y_stride = width,
           .num_tokens = rows,
           .size = width});
    }
    kernels::RmsNormParams params{.x = In(op, 0),
                                  .x_stride = width,
                                  .gamma = Weight(op, 0).data(),
                                  .y = y,
                                  .y_stride = width,
                                  .num_tokens = rows,
                                  .size = width};
    if (op.kind == OpKind::kRmsNorm) {
      const NormAttrs& attrs = std::get<NormAttrs>(op.attrs);
      params.epsilon = static_cast<float>(attrs.epsilon);
      params.gamma_plus_one = attrs.gamma_offset;
      return kernels::RmsNormReference(params);
    }
    const HeadNormAttrs& attrs = std::get<HeadNormAttrs>(op.attrs);
    std::copy_n(In(op, 0), rows * width, y);
    params.x = params.y = y + int64_t{attrs.first_head} * attrs.head_dim;
    params.x_head_stride = params.y_head_stride = params.size = attrs.head_dim;
    params.num_heads = attrs.num_heads;
    params.epsilon = static_cast<float>(attrs.epsilon);
    kernels::RmsNormReference(params);
  }

  void Linear(const NetworkOp& op, float* y) {
    const LinearAttrs& attrs = std::get<LinearAttrs>(op.attrs);
    const size_t branches = attrs.gated ? 2 : 1;
    std::vector<float> weight, bias;
    for (size_t i = 0; i < op.weights.size() - (attrs.has_norm ? 1 : 0); ++i) {
      std::vector<float>& to = i < branches ? weight : bias;
      to.insert(to.end(), Weight(op, i).begin(), Weight(op, i).end());
    }
    const kernels::LinearProblem problem = kernels::LinearProblemOf(attrs, DType::kFloat32, {});
    kernels::LinearParams params{.x = In(op, 0),
                                 .x_stride = Width(op.inputs[0]),
                                 .bias = attrs.has_bias ? bias.data() : nullptr,
                                 .y = y,
                                 .y_stride = Width(op.outputs[0]),
                                 .num_tokens = Rows(op.outputs[0])};
    std::vector<float> normed;
    if (attrs.has_norm) {
      normed.resize(static_cast<size_t>(params.num_tokens * params.x_stride));
      kernels::RmsNormReference({.x = params.x,
                                 .x_stride = params.x_stride,
                                 .gamma = Weight(op, op.weights.size() - 1).data(),
                                 .gamma_plus_one = attrs.norm.gamma_offset,
                                 .epsilon = static_cast<float>(attrs.norm.epsilon),
                                 .y = normed.data(),
                                 .y_stride = params.x_stride,
                                 .num_tokens = params.num_tokens,
                                 .size = params.x_stride});
      params.x = normed.data();
    }
    if (attrs.has_residual) {
      params.residual = In(op, op.inputs.size() - 1);
      params.residual_stride = Width(op.inputs.back());
    }
    kernels::LinearReference(problem,
                             {DType::kFloat32,
                              {attrs.out_features, attrs.in_features},
                              reinterpret_cast<const std::byte*>(weight.data())},
                             nullptr, params);
  }

  void Activate(const NetworkOp& op, float* y) {
    const int64_t width = Width(op.outputs[0]);
    kernels::ActivationParams params{.x = In(op, 0),
                                     .x_stride = width,
                                     .y = y,
                                     .y_stride = width,
                                     .num_tokens = Rows(op.outputs[0]),
                                     .size = width};
    switch (std::get<ActivationAttrs>(op.attrs).kind) {
      case ActivationKind::kSilu: params.activation = kernels::Activation::kSilu; break;
      case ActivationKind::kGelu: params.activation = kernels::Activation::kGelu; break;
      case ActivationKind::kGeluTanh: params.activation = kernels::Activation::kGeluTanh; break;
      case ActivationKind::kRelu: params.activation = kernels::Activation::kRelu; break;
    }
    if (op.inputs.size() > 1) {
      params.up = In(op, 1);
      params.up_stride = width;
    }
    kernels::ActivateReference(params);
  }

  void RopeKvWrite(const AttentionSpec& spec, const NetworkOp& op, float* y) {
    const kernels::RotaryTable table = TableOf(spec.rotary);
    const auto style = spec.rotary.kind == RotaryKind::kNone   ? kernels::RotaryStyle::kNone
                       : spec.rotary.kind == RotaryKind::kNeox ? kernels::RotaryStyle::kNeox
                                                               : kernels::RotaryStyle::kGptj;
    kernels::RopeKvWriteReference({.qkv = In(op, 0),
                                   .qkv_stride = Width(op.inputs[0]),
                                   .num_heads = spec.num_heads,
                                   .style = style,
                                   .rotary_dim = spec.rotary.dim,
                                   .cos = table.cos.data(),
                                   .sin = table.sin.data(),
                                   .q = y,
                                   .q_stride = Width(op.outputs[0]),
                                   .step = Step(),
                                   .kv = kv_,
                                   .layer = spec.layer});
  }

  void PagedAttention(const AttentionSpec& spec, const NetworkOp& op, float* y) {
    kernels::PagedAttentionReference({.q = In(op, 0),
                                      .q_stride = Width(op.inputs[0]),
                                      .num_heads = spec.num_heads,
                                      .scale = ScaleOf(spec),
                                      .window = spec.window,
                                      .soft_cap = static_cast<float>(spec.soft_cap),
                                      .out = y,
                                      .out_stride = Width(op.outputs[0]),
                                      .step = Step(),
                                      .kv = kv_,
                                      .layer = spec.layer});
  }

  // The meaning of an attention that no pass has split: dense, without a cache.
  void Attention(const AttentionSpec& spec, const NetworkOp& op, float* y) {
    const int64_t dim = spec.head_dim;
    const int64_t tokens = static_cast<int64_t>(token_ids_.size());
    const int64_t stride = Width(op.inputs[0]);
    std::vector<float> qkv(In(op, 0), In(op, 0) + tokens * stride);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int head = 0; head < spec.num_heads + spec.num_kv_heads; ++head) {
        Rotate(spec.rotary, t, qkv.data() + t * stride + head * dim);
      }
    }
    for (int64_t t = 0; t < tokens; ++t) {
      for (int head = 0; head < spec.num_heads; ++head) {
        const int64_t kv_head = head / (spec.num_heads / spec.num_kv_heads);
        const int64_t first = spec.window > 0 ? std::max<int64_t>(0, t - spec.window + 1) : 0;
        const float* q = qkv.data() + t * stride + head * dim;
        std::vector<double> sums(static_cast<size_t>(dim), 0.0);
        double total = 0;
        for (int64_t j = first; j <= t; ++j) {
          const float* k = qkv.data() + j * stride + (spec.num_heads + kv_head) * dim;
          const float* v = k + spec.num_kv_heads * dim;
          double score = std::inner_product(q, q + dim, k, 0.0) * ScaleOf(spec);
          if (spec.soft_cap > 0) score = spec.soft_cap * std::tanh(score / spec.soft_cap);
          const double weight = std::exp(score);
          total += weight;
          for (int64_t i = 0; i < dim; ++i) sums[static_cast<size_t>(i)] += weight * v[i];
        }
        float* out = y + t * Width(op.outputs[0]) + head * dim;
        for (int64_t i = 0; i < dim; ++i) {
          out[i] = static_cast<float>(sums[static_cast<size_t>(i)] / total);
        }
      }
    }
  }

  static float ScaleOf(const AttentionSpec& spec) {
    return static_cast<float>(spec.scale != 0.0 ? spec.scale : 1.0 / std::sqrt(spec.head_dim));
  }

  static void Rotate(const RotarySpec& spec, int64_t position, float* x) {
    if (spec.kind == RotaryKind::kNone) return;
    for (int i = 0; i < spec.dim / 2; ++i) {
      const int first = spec.kind == RotaryKind::kNeox ? i : 2 * i;
      const int second = spec.kind == RotaryKind::kNeox ? i + spec.dim / 2 : 2 * i + 1;
      const double angle = static_cast<double>(position) * std::pow(spec.base, -2.0 * i / spec.dim);
      const double a = x[first], b = x[second];
      x[first] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
      x[second] = static_cast<float>(b * std::cos(angle) + a * std::sin(angle));
    }
  }

  kernels::RotaryTable TableOf(const RotarySpec& spec) const {
    if (spec.kind == RotaryKind::kNone) return {};
    auto table = kernels::BuildRotaryTable({.rotary_dim = spec.dim, .base = spec.base},
                                           static_cast<int>(token_ids_.size()));
    TRIREME_CHECK(table.ok());
    return std::move(*table);
  }

  std::vector<int32_t> token_ids_;
  std::vector<int32_t> logit_rows_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> cu_query_lens_;
  std::vector<int32_t> context_lens_ = {0};
  std::vector<int32_t> block_table_;
  std::vector<std::byte> pool_;
  kernels::KvCacheView kv_;
  const Network* network_ = nullptr;
  std::vector<std::vector<float>> values_;
  std::map<std::string, std::vector<float>> weights_;
};

}  // namespace trireme::graph
