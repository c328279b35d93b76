// SPDX-License-Identifier: Apache-2.0
#include "engine/cpu_program.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/status.h"
#include "kernels/activation.h"
#include "kernels/alibi_slopes.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/experts.h"
#include "kernels/float8_rows.h"
#include "kernels/layer_norm.h"
#include "kernels/linear_problem.h"
#include "kernels/paged_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rope_kv_write.h"
#include "kernels/rotary_table.h"

namespace trireme::engine {
namespace {

kernels::Activation KernelActivation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu: return kernels::Activation::kSilu;
    case ActivationKind::kGelu: return kernels::Activation::kGelu;
    case ActivationKind::kGeluTanh: return kernels::Activation::kGeluTanh;
    case ActivationKind::kRelu: return kernels::Activation::kRelu;
  }
  return kernels::Activation::kSilu;
}

kernels::RotaryStyle KernelRotary(RotaryKind kind) {
  switch (kind) {
    case RotaryKind::kNone: return kernels::RotaryStyle::kNone;
    case RotaryKind::kNeox: return kernels::RotaryStyle::kNeox;
    case RotaryKind::kGptj: return kernels::RotaryStyle::kGptj;
  }
  return kernels::RotaryStyle::kNone;
}

}  // namespace

// Turns launches into closures. Lives for the duration of Bind.
class LaunchBinder {
 public:
  LaunchBinder(CpuProgram& program, const plan::Plan& plan, const WeightStore& weights,
               kernels::CpuContext& context, const ProgramOptions& options)
      : program_(program), plan_(plan), weights_(weights), context_(context), options_(options) {}

  Status BindAll() {
    TRIREME_RETURN_IF_ERROR(SizeWorkspace());
    for (const plan::Launch& launch : plan_.launches) {
      StatusOr<CpuProgram::LaunchFn> bound = Bind(launch);
      if (!bound.ok()) return bound.status().WithContext(launch.name);
      program_.launches_.push_back(std::move(*bound));
    }
    return OkStatus();
  }

 private:
  using LaunchFn = CpuProgram::LaunchFn;
  template <typename Params>
  using KernelFn = std::function<void(const Params&)>;

  float* buffer(int index) const {
    return reinterpret_cast<float*>(program_.arena_.data() + program_.memory_.offsets[index]);
  }
  int64_t width(int index) const { return plan_.buffers[index].width; }
  const float* float_weight(const plan::Launch& launch, size_t i) const {
    return reinterpret_cast<const float*>(weights_.weight(launch.weights[i]));
  }
  static int64_t RowsOf(plan::Rows rows, const StepFrame& frame) {
    return rows == plan::Rows::kTokens ? frame.step.num_tokens : frame.step.num_logit_rows;
  }

  // Operands of the kernels whose params name them so: a whole buffer each.
  template <typename Params>
  void ReadX(Params& params, int index) const {
    params.x = buffer(index);
    params.x_stride = width(index);
  }
  void ReadA(kernels::BinaryParams& params, int index) const {
    params.a = buffer(index);
    params.a_stride = width(index);
  }
  void ReadB(kernels::BinaryParams& params, int index) const {
    params.b = buffer(index);
    params.b_stride = width(index);
  }
  template <typename Params>
  void WriteY(Params& params, int index) const {
    params.y = buffer(index);
    params.y_stride = width(index);
    params.size = width(index);
  }

  // A launch over all rows of its output in the step; `count` is the field that says how many.
  template <typename Params>
  LaunchFn OverRows(const plan::Launch& launch, Params params, int64_t Params::*count,
                    KernelFn<Params> run) const {
    const plan::Rows rows = plan_.buffers[launch.outputs[0]].rows;
    return [rows, params, count, run = std::move(run)](const StepFrame& frame) mutable {
      params.*count = RowsOf(rows, frame);
      run(params);
    };
  }

  // An optimised kernel, or its plain meaning when the reference backend is asked for.
  template <typename Params>
  KernelFn<Params> Pick(void (*run)(const Params&, kernels::CpuContext&),
                        void (*reference)(const Params&)) const {
    if (options_.reference_kernels) return reference;
    return [run, context = &context_](const Params& params) { run(params, *context); };
  }

  Status SizeWorkspace() {
    int64_t bytes = 0;
    const int64_t max_rows = std::max(options_.max_tokens, options_.max_logit_rows);
    for (const plan::Launch& launch : plan_.launches) {
      if (launch.kind == OpKind::kLinear) {
        bytes = std::max(bytes, LinearBytes(launch, max_rows));
      } else if (launch.kind == OpKind::kExpertLinear) {
        const ExpertLinearAttrs& attrs = std::get<ExpertLinearAttrs>(launch.attrs);
        bytes = std::max(bytes, kernels::ExpertLinearWorkspaceBytes(
                                    ProblemOf(launch), attrs.num_experts, attrs.top_k, max_rows,
                                    LinearBytes(launch, kernels::kExpertRowsPerRun)));
      } else if (launch.kind == OpKind::kPagedAttention) {
        const AttentionSpec& spec = std::get<AttentionAttrs>(launch.attrs).spec;
        bytes = std::max(bytes, kernels::PagedAttentionWorkspaceBytes(
                                    KvLayoutOf(spec), spec.num_heads, options_.max_seqs,
                                    context_.pool->num_threads()));
      }
    }
    program_.workspace_ = AlignedBuffer(bytes);
    program_.float8_input_ = AlignedBuffer(Float8InputBytes());
    return OkStatus();
  }

  int64_t LinearBytes(const plan::Launch& launch, int64_t max_rows) const {
    int64_t bytes = 0;
    for (const plan::TacticChoice& tactic : launch.tactics) {
      bytes =
          std::max(bytes, kernels::LinearWorkspaceBytes(
                              ProblemOf(launch), {tactic.layout, tactic.kernel, tactic.numerics},
                              max_rows, context_.pool->num_threads()));
    }
    return bytes;
  }

  int64_t Float8InputBytes() const {
    int64_t widest = 0;
    for (const plan::Launch& launch : plan_.launches) {
      if (IsFloat8(launch)) widest = std::max(widest, width(launch.inputs[0]));
    }
    return widest * std::max(options_.max_tokens, options_.max_logit_rows) *
           static_cast<int64_t>(sizeof(float));
  }

  bool IsFloat8(const plan::Launch& launch) const {
    return launch.kind == OpKind::kLinear &&
           plan_.weights[launch.weights[0]].quant.kind == WeightQuant::Kind::kFloat8;
  }

  // Of an FP8 layer: the largest of its branches' scales.
  StatusOr<float> InputScale(const plan::Launch& launch) const {
    const int index = launch.weights.back();
    const plan::Weight& weight = plan_.weights[index];
    if (weight.dtype != DType::kFloat32 || weight.shape.num_elements() < 1) {
      return InvalidArgument("the plan holds no scale of its FP8 input");
    }
    const float* scales = float_weight(launch, launch.weights.size() - 1);
    const float scale = *std::max_element(scales, scales + weight.shape.num_elements());
    if (!(scale > 0.0f && std::isfinite(scale))) {
      return InvalidArgument("the scale of its FP8 input is {}, which is not positive", scale);
    }
    return scale;
  }

  KvLayout KvLayoutOf(const AttentionSpec& spec) const {
    return {plan_.kv_dtype, plan_.num_layers, spec.num_kv_heads, spec.head_dim,
            options_.tokens_per_block};
  }

  kernels::LinearProblem ProblemOf(const plan::Launch& launch) const {
    return kernels::LinearProblemOf(LinearAttrsOf(launch.attrs), plan_.dtype,
                                    plan_.weights[launch.weights[0]].quant);
  }

  StatusOr<LaunchFn> Bind(const plan::Launch& launch) {
    switch (launch.kind) {
      case OpKind::kEmbedding: return BindEmbedding(launch);
      case OpKind::kPositionEmbedding: return BindPositionEmbedding(launch);
      case OpKind::kRmsNorm: return BindRmsNorm(launch);
      case OpKind::kLayerNorm: return BindLayerNorm(launch);
      case OpKind::kHeadRmsNorm: return BindHeadRmsNorm(launch);
      case OpKind::kLinear: return BindLinear(launch);
      case OpKind::kRouteExperts: return BindRouteExperts(launch);
      case OpKind::kExpertLinear: return BindExpertLinear(launch);
      case OpKind::kCombineExperts: return BindCombineExperts(launch);
      case OpKind::kRopeKvWrite: return BindRopeKvWrite(launch);
      case OpKind::kPagedAttention: return BindPagedAttention(launch);
      case OpKind::kActivation:
      case OpKind::kGatedActivation: return BindActivation(launch);
      case OpKind::kAdd: return BindBinary(launch, kernels::Add, kernels::AddReference);
      case OpKind::kMul: return BindBinary(launch, kernels::Mul, kernels::MulReference);
      case OpKind::kScale: return BindUnary(launch, kernels::Scale, kernels::ScaleReference);
      case OpKind::kSoftCap: return BindUnary(launch, kernels::SoftCap, kernels::SoftCapReference);
      case OpKind::kSelectLogitRows: return BindSelectLogitRows(launch);
      case OpKind::kAttention:
      case OpKind::kAllReduce: break;
    }
    return Unimplemented("no CPU kernel runs op '{}'", OpKindName(launch.kind));
  }

  StatusOr<LaunchFn> BindEmbedding(const plan::Launch& launch) {
    kernels::EmbeddingParams params = TableParams(launch);
    params.scale = static_cast<float>(std::get<EmbeddingAttrs>(launch.attrs).scale);
    auto run = Pick(kernels::Embedding, kernels::EmbeddingReference);
    return LaunchFn([params, run](const StepFrame& frame) mutable {
      params.token_ids = frame.step.token_ids;
      params.num_tokens = frame.step.num_tokens;
      run(params);
    });
  }

  // y = x + table[position]
  StatusOr<LaunchFn> BindPositionEmbedding(const plan::Launch& launch) {
    const int64_t rows = std::get<EmbeddingAttrs>(launch.attrs).vocab_size;
    if (options_.max_seq_len > rows) {
      return InvalidArgument("max_seq_len {} exceeds the {} learned positions of the model",
                             options_.max_seq_len, rows);
    }
    kernels::EmbeddingParams look_up = TableParams(launch);
    kernels::BinaryParams sum;
    ReadA(sum, launch.inputs[0]);
    ReadB(sum, launch.outputs[0]);
    WriteY(sum, launch.outputs[0]);
    auto run_look_up = Pick(kernels::Embedding, kernels::EmbeddingReference);
    auto run_sum = Pick(kernels::Add, kernels::AddReference);
    return LaunchFn([look_up, sum, run_look_up, run_sum](const StepFrame& frame) mutable {
      look_up.token_ids = frame.step.positions;
      look_up.num_tokens = frame.step.num_tokens;
      run_look_up(look_up);
      sum.num_rows = frame.step.num_tokens;
      run_sum(sum);
    });
  }

  kernels::EmbeddingParams TableParams(const plan::Launch& launch) const {
    const int out = launch.outputs[0];
    kernels::EmbeddingParams params;
    params.table_dtype = plan_.weights[launch.weights[0]].dtype;
    params.table = weights_.weight(launch.weights[0]);
    params.y = buffer(out);
    params.y_stride = width(out);
    params.hidden_size = width(out);
    return params;
  }

  StatusOr<LaunchFn> BindRmsNorm(const plan::Launch& launch) {
    const NormAttrs& attrs = std::get<NormAttrs>(launch.attrs);
    kernels::RmsNormParams params;
    ReadX(params, launch.inputs[0]);
    params.gamma = float_weight(launch, 0);
    params.gamma_plus_one = attrs.gamma_offset;
    params.epsilon = static_cast<float>(attrs.epsilon);
    WriteY(params, launch.outputs[0]);
    return OverRows(launch, params, &kernels::RmsNormParams::num_tokens,
                    Pick(kernels::RmsNorm, kernels::RmsNormReference));
  }

  // Copies [q | k | v] and normalises the heads in place.
  StatusOr<LaunchFn> BindHeadRmsNorm(const plan::Launch& launch) {
    const HeadNormAttrs& attrs = std::get<HeadNormAttrs>(launch.attrs);
    const int out = launch.outputs[0];
    kernels::UnaryParams copy;
    ReadX(copy, launch.inputs[0]);
    WriteY(copy, out);
    kernels::RmsNormParams norm;
    norm.x = buffer(out) + int64_t{attrs.first_head} * attrs.head_dim;
    norm.x_stride = width(out);
    norm.x_head_stride = attrs.head_dim;
    norm.gamma = float_weight(launch, 0);
    norm.epsilon = static_cast<float>(attrs.epsilon);
    norm.y = buffer(out) + int64_t{attrs.first_head} * attrs.head_dim;
    norm.y_stride = width(out);
    norm.y_head_stride = attrs.head_dim;
    norm.num_heads = attrs.num_heads;
    norm.size = attrs.head_dim;
    auto run_copy = Pick(kernels::CopyRows, kernels::CopyRowsReference);
    auto run_norm = Pick(kernels::RmsNorm, kernels::RmsNormReference);
    return LaunchFn([copy, norm, run_copy, run_norm](const StepFrame& frame) mutable {
      copy.num_rows = frame.step.num_tokens;
      run_copy(copy);
      norm.num_tokens = frame.step.num_tokens;
      run_norm(norm);
    });
  }

  StatusOr<LaunchFn> BindLayerNorm(const plan::Launch& launch) {
    kernels::LayerNormParams params;
    ReadX(params, launch.inputs[0]);
    params.gamma = float_weight(launch, 0);
    params.beta = float_weight(launch, 1);
    params.epsilon = static_cast<float>(std::get<NormAttrs>(launch.attrs).epsilon);
    WriteY(params, launch.outputs[0]);
    return OverRows(launch, params, &kernels::LayerNormParams::num_tokens,
                    Pick(kernels::LayerNorm, kernels::LayerNormReference));
  }

  StatusOr<LaunchFn> BindLinear(const plan::Launch& launch) {
    const LinearAttrs& attrs = std::get<LinearAttrs>(launch.attrs);
    if (attrs.has_norm) {
      return Unimplemented("no CPU kernel normalises the input of a linear layer");
    }
    kernels::LinearParams params;
    ReadX(params, launch.inputs[0]);
    params.packed = weights_.weight(launch.weights[0]);
    params.bias = attrs.has_bias ? float_weight(launch, 1) : nullptr;
    if (attrs.has_residual) {
      params.residual = buffer(launch.inputs[1]);
      params.residual_stride = width(launch.inputs[1]);
    }
    params.y = buffer(launch.outputs[0]);
    params.y_stride = width(launch.outputs[0]);
    params.workspace = program_.workspace_.data();
    TRIREME_ASSIGN_OR_RETURN(params.next, NextLinearReads(launch));
    TRIREME_ASSIGN_OR_RETURN(KernelFn<kernels::LinearParams> kernel, PickLinear(launch));
    if (IsFloat8(launch)) return WithFloat8Input(launch, params, std::move(kernel));
    LaunchFn run = OverRows(launch, params, &kernels::LinearParams::num_tokens, std::move(kernel));
    return options_.observe_linear ? Observed(launch, std::move(run)) : run;
  }

  LaunchFn Observed(const plan::Launch& launch, LaunchFn run) const {
    const int in = launch.inputs[0];
    const plan::Rows rows = plan_.buffers[launch.outputs[0]].rows;
    return [observe = options_.observe_linear, name = launch.name, x = buffer(in), size = width(in),
            rows, run = std::move(run)](const StepFrame& frame) {
      observe(name, x, size, RowsOf(rows, frame), size);
      run(frame);
    };
  }

  // The input passes through FP8 on its way into the layer.
  StatusOr<LaunchFn> WithFloat8Input(const plan::Launch& launch, kernels::LinearParams params,
                                     KernelFn<kernels::LinearParams> run) {
    TRIREME_ASSIGN_OR_RETURN(const float scale, InputScale(launch));
    kernels::Float8RowsParams round;
    round.x = params.x;
    round.x_stride = params.x_stride;
    round.scale = scale;
    round.y = reinterpret_cast<float*>(program_.float8_input_.data());
    round.y_stride = width(launch.inputs[0]);
    round.size = width(launch.inputs[0]);
    params.x = round.y;
    params.x_stride = round.y_stride;
    const plan::Rows rows = plan_.buffers[launch.outputs[0]].rows;
    kernels::CpuContext* context = &context_;
    return LaunchFn(
        [round, params, rows, context, run = std::move(run)](const StepFrame& frame) mutable {
          params.num_tokens = round.num_rows = RowsOf(rows, frame);
          if (params.num_tokens == 0) return;
          kernels::RoundToFloat8(round, *context);
          run(params);
        });
  }

  Status CheckPacked(const kernels::LinearProblem& problem, const plan::Weight& weight) const {
    TRIREME_ASSIGN_OR_RETURN(const int64_t bytes,
                             kernels::PackedLinearBytes(problem, weight.layout));
    if (weight.num_bytes == bytes) return OkStatus();
    return InvalidArgument("weight '{}' has {} bytes, layout '{}' takes {}", weight.name,
                           weight.num_bytes, weight.layout, bytes);
  }

  // Of the linear layer that follows `launch`, in this step or as the first of the next one.
  StatusOr<ThreadPool::Upcoming> NextLinearReads(const plan::Launch& launch) const {
    const auto first = plan_.launches.begin();
    const auto after = first + (&launch - plan_.launches.data()) + 1;
    const auto is_linear = [](const plan::Launch& l) { return l.kind == OpKind::kLinear; };
    auto next = std::find_if(after, plan_.launches.end(), is_linear);
    if (next == plan_.launches.end()) next = std::find_if(first, after, is_linear);
    const int weight = next->weights[0];
    return kernels::LinearReads(ProblemOf(*next), plan_.weights[weight].layout,
                                weights_.weight(weight));
  }

  // By rising row count.
  using LinearByRows = std::vector<std::pair<int64_t, kernels::LinearKernel>>;
  StatusOr<LinearByRows> LinearKernelsOf(const plan::Launch& launch) const {
    const kernels::LinearProblem problem = ProblemOf(launch);
    const plan::Weight& weight = plan_.weights[launch.weights[0]];
    LinearByRows by_rows;
    for (const plan::TacticChoice& tactic : launch.tactics) {
      if (tactic.layout != weight.layout) {
        return InvalidArgument("kernel '{}' reads layout '{}', its weight has '{}'", tactic.kernel,
                               tactic.layout, weight.layout);
      }
      TRIREME_ASSIGN_OR_RETURN(
          kernels::LinearKernel kernel,
          kernels::LinearKernel::Create(problem, {tactic.layout, tactic.kernel, tactic.numerics}));
      by_rows.emplace_back(tactic.max_rows, kernel);
    }
    if (by_rows.empty()) return InvalidArgument("the plan holds no tactic");
    return by_rows;
  }

  StatusOr<KernelFn<kernels::LinearParams>> PickLinear(const plan::Launch& launch) const {
    const kernels::LinearProblem problem = ProblemOf(launch);
    TRIREME_RETURN_IF_ERROR(CheckPacked(problem, plan_.weights[launch.weights[0]]));
    if (options_.reference_kernels) {
      TRIREME_ASSIGN_OR_RETURN(
          const kernels::PackedLinearReference reference,
          kernels::PackedLinearReference::Create(problem, plan_.weights[launch.weights[0]].layout));
      return KernelFn<kernels::LinearParams>(
          [reference](const kernels::LinearParams& params) { reference.Run(params); });
    }
    TRIREME_ASSIGN_OR_RETURN(const LinearByRows by_rows, LinearKernelsOf(launch));
    return KernelFn<kernels::LinearParams>(
        [by_rows, context = &context_](const kernels::LinearParams& params) {
          if (params.num_tokens == 0) return;
          kernels::KernelForRows(by_rows, params.num_tokens).Run(params, *context);
        });
  }

  StatusOr<LaunchFn> BindRouteExperts(const plan::Launch& launch) {
    const RouteAttrs& attrs = std::get<RouteAttrs>(launch.attrs);
    kernels::RouteExpertsParams params;
    params.logits = buffer(launch.inputs[0]);
    params.logits_stride = width(launch.inputs[0]);
    params.routing = buffer(launch.outputs[0]);
    params.routing_stride = width(launch.outputs[0]);
    params.num_experts = attrs.num_experts;
    params.top_k = attrs.top_k;
    params.normalize = attrs.normalize;
    return OverRows(launch, params, &kernels::RouteExpertsParams::num_tokens,
                    Pick(kernels::RouteExperts, kernels::RouteExpertsReference));
  }

  StatusOr<LaunchFn> BindExpertLinear(const plan::Launch& launch) {
    const ExpertLinearAttrs& attrs = std::get<ExpertLinearAttrs>(launch.attrs);
    TRIREME_ASSIGN_OR_RETURN(const LinearByRows by_rows, LinearKernelsOf(launch));
    auto packed = std::make_shared<std::vector<const std::byte*>>();
    for (const int weight : launch.weights) {
      TRIREME_RETURN_IF_ERROR(CheckPacked(ProblemOf(launch), plan_.weights[weight]));
      if (plan_.weights[weight].layout != plan_.weights[launch.weights[0]].layout) {
        return InvalidArgument("the experts' weights have different layouts");
      }
      packed->push_back(weights_.weight(weight));
    }
    program_.tables_.push_back(packed);
    kernels::ExpertLinearParams params;
    ReadX(params, launch.inputs[0]);
    // As wide as one input: all choices of a token read it.
    const bool shared = params.x_stride == attrs.linear.in_features;
    params.x_choice_stride = shared ? 0 : attrs.linear.in_features;
    params.routing = buffer(launch.inputs[1]);
    params.routing_stride = width(launch.inputs[1]);
    params.packed = *packed;
    params.y = buffer(launch.outputs[0]);
    params.y_stride = width(launch.outputs[0]);
    params.y_choice_stride = params.y_stride / attrs.top_k;
    params.top_k = attrs.top_k;
    params.workspace = program_.workspace_.data();
    return OverRows(launch, params, &kernels::ExpertLinearParams::num_tokens,
                    KernelFn<kernels::ExpertLinearParams>(
                        [by_rows, context = &context_](const kernels::ExpertLinearParams& p) {
                          kernels::ExpertLinear(p, by_rows, *context);
                        }));
  }

  StatusOr<LaunchFn> BindCombineExperts(const plan::Launch& launch) {
    kernels::CombineExpertsParams params;
    ReadX(params, launch.inputs[0]);
    WriteY(params, launch.outputs[0]);
    params.x_choice_stride = params.size;
    params.routing = buffer(launch.inputs[1]);
    params.routing_stride = width(launch.inputs[1]);
    params.top_k = std::get<CombineAttrs>(launch.attrs).top_k;
    return OverRows(launch, params, &kernels::CombineExpertsParams::num_tokens,
                    Pick(kernels::CombineExperts, kernels::CombineExpertsReference));
  }

  StatusOr<std::shared_ptr<const kernels::RotaryTable>> RotaryTableOf(const RotarySpec& spec) {
    if (rotary_ != nullptr && spec.dim == rotary_spec_.dim && spec.base == rotary_spec_.base &&
        spec.scaling == rotary_spec_.scaling) {
      return rotary_;
    }
    TRIREME_ASSIGN_OR_RETURN(
        kernels::RotaryTable table,
        kernels::BuildRotaryTable({.rotary_dim = spec.dim,
                                   .base = spec.base,
                                   .scaling = spec.scaling,
                                   .max_position_embeddings = spec.max_position_embeddings},
                                  options_.max_seq_len));
    rotary_ = std::make_shared<const kernels::RotaryTable>(std::move(table));
    rotary_spec_ = spec;
    program_.tables_.push_back(rotary_);
    return rotary_;
  }

  StatusOr<LaunchFn> BindRopeKvWrite(const plan::Launch& launch) {
    const AttentionSpec& spec = std::get<AttentionAttrs>(launch.attrs).spec;
    kernels::RopeKvWriteParams params;
    params.qkv = buffer(launch.inputs[0]);
    params.qkv_stride = width(launch.inputs[0]);
    params.num_heads = spec.num_heads;
    params.style = KernelRotary(spec.rotary.kind);
    if (spec.rotary.kind != RotaryKind::kNone) {
      TRIREME_ASSIGN_OR_RETURN(const std::shared_ptr<const kernels::RotaryTable> table,
                               RotaryTableOf(spec.rotary));
      params.rotary_dim = spec.rotary.dim;
      params.cos = table->cos.data();
      params.sin = table->sin.data();
    }
    params.q = buffer(launch.outputs[0]);
    params.q_stride = width(launch.outputs[0]);
    params.layer = spec.layer;
    auto run = Pick(kernels::RopeKvWrite, kernels::RopeKvWriteReference);
    return LaunchFn([params, run](const StepFrame& frame) mutable {
      params.step = frame.step;
      params.kv = frame.kv;
      run(params);
    });
  }

  StatusOr<LaunchFn> BindPagedAttention(const plan::Launch& launch) {
    const AttentionSpec& spec = std::get<AttentionAttrs>(launch.attrs).spec;
    kernels::PagedAttentionParams params;
    params.q = buffer(launch.inputs[0]);
    params.q_stride = width(launch.inputs[0]);
    params.num_heads = spec.num_heads;
    params.scale = spec.scale != 0.0
                       ? static_cast<float>(spec.scale)
                       : static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
    params.window = spec.window;
    params.soft_cap = static_cast<float>(spec.soft_cap);
    if (spec.alibi) {
      auto slopes =
          std::make_shared<const std::vector<float>>(kernels::AlibiSlopes(spec.num_heads));
      params.alibi_slopes = slopes->data();
      program_.tables_.push_back(slopes);
    }
    params.out = buffer(launch.outputs[0]);
    params.out_stride = width(launch.outputs[0]);
    params.layer = spec.layer;
    params.workspace = program_.workspace_.data();
    auto run = Pick(kernels::PagedAttention, kernels::PagedAttentionReference);
    return LaunchFn([params, run](const StepFrame& frame) mutable {
      params.step = frame.step;
      params.kv = frame.kv;
      run(params);
    });
  }

  StatusOr<LaunchFn> BindActivation(const plan::Launch& launch) {
    kernels::ActivationParams params;
    params.activation = KernelActivation(std::get<ActivationAttrs>(launch.attrs).kind);
    ReadX(params, launch.inputs[0]);
    if (launch.inputs.size() > 1) {
      params.up = buffer(launch.inputs[1]);
      params.up_stride = width(launch.inputs[1]);
    }
    WriteY(params, launch.outputs[0]);
    return OverRows(launch, params, &kernels::ActivationParams::num_tokens,
                    Pick(kernels::Activate, kernels::ActivateReference));
  }

  StatusOr<LaunchFn> BindBinary(const plan::Launch& launch,
                                void (*fn)(const kernels::BinaryParams&, kernels::CpuContext&),
                                void (*reference)(const kernels::BinaryParams&)) {
    kernels::BinaryParams params;
    ReadA(params, launch.inputs[0]);
    ReadB(params, launch.inputs[1]);
    WriteY(params, launch.outputs[0]);
    return OverRows(launch, params, &kernels::BinaryParams::num_rows, Pick(fn, reference));
  }

  StatusOr<LaunchFn> BindUnary(const plan::Launch& launch,
                               void (*fn)(const kernels::UnaryParams&, kernels::CpuContext&),
                               void (*reference)(const kernels::UnaryParams&)) {
    kernels::UnaryParams params;
    ReadX(params, launch.inputs[0]);
    params.value = static_cast<float>(std::get<ScalarAttrs>(launch.attrs).value);
    WriteY(params, launch.outputs[0]);
    return OverRows(launch, params, &kernels::UnaryParams::num_rows, Pick(fn, reference));
  }

  StatusOr<LaunchFn> BindSelectLogitRows(const plan::Launch& launch) {
    kernels::GatherRowsParams params;
    ReadX(params, launch.inputs[0]);
    WriteY(params, launch.outputs[0]);
    auto run = Pick(kernels::GatherRows, kernels::GatherRowsReference);
    return LaunchFn([params, run](const StepFrame& frame) mutable {
      params.rows = frame.step.logit_rows;
      params.num_rows = frame.step.num_logit_rows;
      run(params);
    });
  }

  CpuProgram& program_;
  const plan::Plan& plan_;
  const WeightStore& weights_;
  kernels::CpuContext& context_;
  const ProgramOptions& options_;
  std::shared_ptr<const kernels::RotaryTable> rotary_;
  RotarySpec rotary_spec_;
};

StatusOr<std::unique_ptr<CpuProgram>> CpuProgram::Bind(const plan::Plan& plan,
                                                       const WeightStore& weights,
                                                       kernels::CpuContext& context,
                                                       const ProgramOptions& options) {
  std::unique_ptr<CpuProgram> program(new CpuProgram(plan));
  program->memory_ = plan::PlanMemory(plan.buffers, options.max_tokens, options.max_logit_rows);
  // Pages are taken when they are first used, so address space is what may run out here.
  constexpr int64_t kMaxArenaBytes = int64_t{1} << 44;
  if (program->memory_.total_bytes > kMaxArenaBytes) {
    return ResourceExhausted("activations of max_num_tokens {} would take {} bytes; lower it",
                             options.max_tokens, program->memory_.total_bytes);
  }
  program->arena_ = AlignedBuffer(program->memory_.total_bytes);
  TRIREME_RETURN_IF_ERROR(LaunchBinder(*program, plan, weights, context, options).BindAll());
  return program;
}

void CpuProgram::Run(const StepFrame& frame) {
  for (const LaunchFn& launch : launches_) launch(frame);
}

void CpuProgram::RunTimed(const StepFrame& frame, std::span<double> seconds) {
  using Clock = std::chrono::steady_clock;
  for (size_t i = 0; i < launches_.size(); ++i) {
    const Clock::time_point begin = Clock::now();
    launches_[i](frame);
    seconds[i] = std::chrono::duration<double>(Clock::now() - begin).count();
  }
}

const float* CpuProgram::logits() const {
  return reinterpret_cast<const float*>(arena_.data() + memory_.offsets[plan_.logits_buffer]);
}

}  // namespace trireme::engine
