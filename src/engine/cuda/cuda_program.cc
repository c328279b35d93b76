// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/cuda_program.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/status.h"
#include "device/cuda/cuda_status.h"
#include "engine/cuda/linear_bindings.h"
#include "kernels/alibi_slopes.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/binary.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/plan_types.h"
#include "kernels/cuda/rms_norm.h"
#include "kernels/cuda/rope_kv_write.h"
#include "kernels/cuda/select_rows.h"
#include "kernels/rotary_table.h"
#include "tensor/tensor_view.h"

namespace trireme::engine {

// Turns launches into closures. Lives for the duration of Bind.
class CudaLaunchBinder {
 public:
  CudaLaunchBinder(CudaProgram& program, const plan::Plan& plan, const CudaWeights& weights,
                   const CudaProgramOptions& options, const cuda::LaunchContext& context)
      : program_(program), plan_(plan), weights_(weights), options_(options), context_(context) {}

  Status BindAll() {
    TRIREME_ASSIGN_OR_RETURN(element_, cuda::ElementOf(plan_.dtype));
    TRIREME_ASSIGN_OR_RETURN(program_.kv_.dtype, cuda::ElementOf(plan_.kv_dtype));
    program_.kv_.num_kv_heads = plan_.num_kv_heads;
    program_.kv_.head_dim = plan_.head_dim;
    program_.kv_.block_size = options_.tokens_per_block;
    program_.kv_.block_bytes =
        DTypeBytes(plan_.kv_dtype, int64_t{2} * plan_.num_layers * plan_.num_kv_heads *
                                       plan_.head_dim * options_.tokens_per_block);
    TRIREME_ASSIGN_OR_RETURN(program_.linears_, LinearBindings::Make(plan_, options_.max_tokens,
                                                                     options_.max_logit_rows));
    TRIREME_ASSIGN_OR_RETURN(program_.workspace_,
                             cuda::DeviceBuffer::Allocate(program_.linears_->workspace_bytes(),
                                                          "workspace of the linear layers"));
    for (size_t i = 0; i < plan_.launches.size(); ++i) {
      const plan::Launch& launch = plan_.launches[i];
      if (launch.kind == OpKind::kRopeKvWrite) {
        TRIREME_RETURN_IF_ERROR(KeepRope(launch).WithContext(launch.name));
        continue;
      }
      StatusOr<LaunchFn> bound = Bind(launch, static_cast<int>(i));
      if (!bound.ok()) return bound.status().WithContext(launch.name);
      const bool head = RowsOf(launch) == plan::Rows::kLogitRows;
      const bool piece = launch.kind == OpKind::kLinear || launch.kind == OpKind::kPagedAttention;
      if (!head && !piece) program_.region_.AddOther();
      program_.launches_.push_back({launch.name, static_cast<int>(i),
                                    head ? CudaProgram::Part::kHead : CudaProgram::Part::kTrunk,
                                    std::move(*bound)});
    }
    // A region's sums run in an order of their own.
    if (plan_.batch_invariant) return OkStatus();
    return program_.region_.Finish(program_.kv_, context_);
  }

 private:
  using LaunchFn = CudaProgram::LaunchFn;

  std::byte* buffer(int index) const {
    return program_.arena_.data() + program_.memory_.offsets[static_cast<size_t>(index)];
  }
  int64_t width(int index) const { return plan_.buffers[static_cast<size_t>(index)].width; }
  const void* weight(const plan::Launch& launch, size_t i) const {
    return weights_.weight(launch.weights[i]);
  }
  plan::Rows RowsOf(const plan::Launch& launch) const {
    return plan_.buffers[static_cast<size_t>(launch.outputs[0])].rows;
  }
  static int MaxRows(plan::Rows rows, const cuda::StepView& step) {
    return rows == plan::Rows::kTokens ? step.max_tokens : step.max_logit_rows;
  }
  static const int32_t* CountOf(plan::Rows rows, const cuda::StepView& step) {
    return rows == plan::Rows::kTokens ? &step.counts->num_tokens : &step.counts->num_logit_rows;
  }

  static Status Done(cudaError_t error, const cuda::LaunchContext& context) {
    return cuda::CudaStatus(error, context.last_launch);
  }

  // A launch whose parameters hold their rows as max_tokens and num_tokens.
  template <typename Params>
  LaunchFn ByTokens(cudaError_t (*run)(const Params&, cuda::LaunchContext&), Params params,
                    plan::Rows rows) const {
    return [=](const cuda::StepView& step, cuda::LaunchContext& context) {
      Params now = params;
      now.max_tokens = MaxRows(rows, step);
      now.num_tokens = CountOf(rows, step);
      return Done(run(now, context), context);
    };
  }

  // Uploads a table that launches read; lives as long as the program.
  StatusOr<const float*> Keep(std::span<const float> values) {
    TRIREME_ASSIGN_OR_RETURN(cuda::DeviceBuffer copy,
                             cuda::DeviceBuffer::Allocate(static_cast<int64_t>(values.size_bytes()),
                                                          "a table of a kernel"));
    TRIREME_CUDA_RETURN_IF_ERROR(
        cudaMemcpy(copy.data(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice),
        "copying a table of a kernel");
    program_.tables_.push_back(std::move(copy));
    return program_.tables_.back().as<const float>();
  }

  StatusOr<LaunchFn> Bind(const plan::Launch& launch, int index) {
    switch (launch.kind) {
      case OpKind::kEmbedding: return BindEmbedding(launch);
      case OpKind::kPositionEmbedding: return BindPositionEmbedding(launch);
      case OpKind::kRmsNorm: return BindRmsNorm(launch);
      case OpKind::kLayerNorm: return BindLayerNorm(launch);
      case OpKind::kHeadRmsNorm: return BindHeadRmsNorm(launch);
      case OpKind::kLinear: return BindLinear(launch, index);
      case OpKind::kPagedAttention: return BindPagedAttention(launch);
      case OpKind::kActivation:
      case OpKind::kGatedActivation: return BindActivation(launch);
      case OpKind::kAdd: return BindBinary(launch, cuda::BinaryOp::kAdd);
      case OpKind::kMul: return BindBinary(launch, cuda::BinaryOp::kMul);
      case OpKind::kScale: return BindBinary(launch, cuda::BinaryOp::kScale);
      case OpKind::kSoftCap: return BindBinary(launch, cuda::BinaryOp::kSoftCap);
      case OpKind::kSelectLogitRows: return BindSelectLogitRows(launch);
      case OpKind::kRopeKvWrite:
      case OpKind::kAttention:
      case OpKind::kRouteExperts:
      case OpKind::kExpertLinear:
      case OpKind::kCombineExperts:
      case OpKind::kAllReduce: break;
    }
    return Unimplemented("no CUDA kernel runs op '{}'", OpKindName(launch.kind));
  }

  StatusOr<LaunchFn> BindEmbedding(const plan::Launch& launch) {
    const EmbeddingAttrs& attrs = std::get<EmbeddingAttrs>(launch.attrs);
    cuda::EmbeddingParams params;
    params.dtype = element_;
    params.table = weight(launch, 0);
    params.y = buffer(launch.outputs[0]);
    params.vocab_size = attrs.vocab_size;
    params.hidden_size = static_cast<int>(width(launch.outputs[0]));
    params.scale = static_cast<float>(attrs.scale);
    return LaunchFn([params](const cuda::StepView& step, cuda::LaunchContext& context) {
      cuda::EmbeddingParams now = params;
      now.ids = step.token_ids;
      now.max_tokens = step.max_tokens;
      now.num_tokens = &step.counts->num_tokens;
      return Done(cuda::Embedding(now, context), context);
    });
  }

  // y = x + table[position]
  StatusOr<LaunchFn> BindPositionEmbedding(const plan::Launch& launch) {
    const int in = launch.inputs[0];
    const int out = launch.outputs[0];
    const plan::Weight& table = plan_.weights[static_cast<size_t>(launch.weights[0])];
    cuda::SelectRowsParams params;
    params.dtype = element_;
    params.x = weight(launch, 0);
    params.x_stride = width(out);
    params.num_x_rows = table.shape[0];
    params.base = buffer(in);
    params.base_stride = width(in);
    params.y = buffer(out);
    params.y_stride = width(out);
    params.size = static_cast<int>(width(out));
    return LaunchFn([params](const cuda::StepView& step, cuda::LaunchContext& context) {
      cuda::SelectRowsParams now = params;
      now.rows = step.positions;
      now.max_rows = step.max_tokens;
      now.num_rows = &step.counts->num_tokens;
      return Done(cuda::SelectRows(now, context), context);
    });
  }

  StatusOr<LaunchFn> BindRmsNorm(const plan::Launch& launch) {
    const NormAttrs& attrs = std::get<NormAttrs>(launch.attrs);
    const int in = launch.inputs[0];
    const int out = launch.outputs[0];
    cuda::RmsNormParams params;
    params.dtype = element_;
    params.x = buffer(in);
    params.x_stride = width(in);
    params.gamma_dtype = element_;
    params.gamma = weight(launch, 0);
    params.gamma_plus_one = attrs.gamma_offset;
    params.epsilon = static_cast<float>(attrs.epsilon);
    params.y_dtype = element_;
    params.y = buffer(out);
    params.y_stride = width(out);
    params.size = static_cast<int>(width(out));
    return ByTokens(cuda::RmsNorm, params, RowsOf(launch));
  }

  // In place, inside [q | k | v].
  StatusOr<LaunchFn> BindHeadRmsNorm(const plan::Launch& launch) {
    const HeadNormAttrs& attrs = std::get<HeadNormAttrs>(launch.attrs);
    const int64_t first = int64_t{attrs.first_head} * attrs.head_dim;
    std::byte* heads = buffer(launch.outputs[0]) + DTypeBytes(plan_.dtype, first);
    cuda::RmsNormParams params;
    params.dtype = element_;
    params.x = heads;
    params.x_stride = width(launch.outputs[0]);
    params.x_head_stride = attrs.head_dim;
    params.gamma_dtype = element_;
    params.gamma = weight(launch, 0);
    params.epsilon = static_cast<float>(attrs.epsilon);
    params.y_dtype = element_;
    params.y = heads;
    params.y_stride = width(launch.outputs[0]);
    params.y_head_stride = attrs.head_dim;
    params.num_heads = attrs.num_heads;
    params.size = attrs.head_dim;
    return ByTokens(cuda::RmsNorm, params, RowsOf(launch));
  }

  StatusOr<LaunchFn> BindLayerNorm(const plan::Launch& launch) {
    const NormAttrs& attrs = std::get<NormAttrs>(launch.attrs);
    const int in = launch.inputs[0];
    const int out = launch.outputs[0];
    cuda::LayerNormParams params;
    params.dtype = element_;
    params.x = buffer(in);
    params.x_stride = width(in);
    params.gamma_dtype = element_;
    params.gamma = weight(launch, 0);
    params.beta = weight(launch, 1);
    params.epsilon = static_cast<float>(attrs.epsilon);
    params.y_dtype = element_;
    params.y = buffer(out);
    params.y_stride = width(out);
    params.size = static_cast<int>(width(out));
    return ByTokens(cuda::LayerNorm, params, RowsOf(launch));
  }

  // Of an FP8 layer's weight and input; they are its last weights.
  struct Float8Scales {
    float weight = 1.0f;
    float input = 1.0f;
  };
  StatusOr<Float8Scales> ScalesOf(const plan::Launch& launch) const {
    const plan::Weight& packed = plan_.weights[static_cast<size_t>(launch.weights[0])];
    if (packed.quant.kind != WeightQuant::Kind::kFloat8) return Float8Scales{};
    if (packed.synthetic_std > 0) return Float8Scales{kSyntheticWeightScale, kSyntheticInputScale};
    const size_t count = launch.weights.size();
    if (count < 3) return InvalidArgument("the plan holds no scales of its FP8 layer");
    Float8Scales scales;
    TRIREME_ASSIGN_OR_RETURN(scales.weight,
                             weights_.LargestScale(plan_, launch.weights[count - 2]));
    TRIREME_ASSIGN_OR_RETURN(scales.input, weights_.LargestScale(plan_, launch.weights[count - 1]));
    return scales;
  }

  // Of an e4m3 buffer: what its reader takes its input for.
  StatusOr<float> ScaleOfBuffer(int index) const {
    if (plan_.buffers[static_cast<size_t>(index)].dtype != DType::kFloat8E4M3) return 1.0f;
    for (const plan::Launch& launch : plan_.launches) {
      if (launch.kind != OpKind::kLinear || launch.inputs[0] != index) continue;
      TRIREME_ASSIGN_OR_RETURN(const Float8Scales scales, ScalesOf(launch));
      return scales.input;
    }
    return InvalidArgument("no linear layer reads an activation in FP8");
  }

  StatusOr<LaunchFn> BindLinear(const plan::Launch& launch, int index) {
    const LinearAttrs& attrs = std::get<LinearAttrs>(launch.attrs);
    const int in = launch.inputs[0];
    const int out = launch.outputs[0];
    cuda::LinearOperands operands;
    operands.x = buffer(in);
    operands.x_stride = width(in);
    operands.weight = weight(launch, 0);
    if (attrs.has_bias) operands.bias = weight(launch, 1);
    if (attrs.has_norm) {
      operands.gamma = weight(launch, attrs.has_bias ? 2 : 1);
      operands.epsilon = static_cast<float>(attrs.norm.epsilon);
    }
    if (attrs.has_residual) {
      operands.residual = buffer(launch.inputs[1]);
      operands.residual_stride = width(launch.inputs[1]);
    }
    operands.y = buffer(out);
    operands.y_stride = width(out);
    TRIREME_ASSIGN_OR_RETURN(const Float8Scales scales, ScalesOf(launch));
    operands.w_scale = scales.weight;
    operands.x_scale = scales.input;
    TRIREME_ASSIGN_OR_RETURN(operands.y_scale, ScaleOfBuffer(out));
    const plan::Rows rows = RowsOf(launch);
    const DType y_dtype = plan_.buffers[static_cast<size_t>(out)].dtype;
    if (rows == plan::Rows::kTokens) {
      TRIREME_ASSIGN_OR_RETURN(
          const cuda::LinearProblem problem,
          cuda::LinearProblemOf(attrs,
                                {.dtype = plan_.dtype,
                                 .x = plan_.buffers[static_cast<size_t>(in)].dtype,
                                 .y = y_dtype},
                                plan_.weights[static_cast<size_t>(launch.weights[0])].quant));
      program_.region_.AddLinear(problem, operands);
    }
    const LinearBindings* linears = program_.linears_.get();
    std::byte* workspace = program_.workspace_.data();
    LaunchFn run = [=](const cuda::StepView& step, cuda::LaunchContext& context) {
      cuda::LinearOperands now = operands;
      now.num_rows = MaxRows(rows, step);
      now.num_tokens = CountOf(rows, step);
      return linears->Kernel(index, now.num_rows).Run(now, workspace, context);
    };
    return cuda::AddsBiasApart(attrs, y_dtype) ? WithBias(launch, std::move(run)) : run;
  }

  // Then y += bias, in float32.
  StatusOr<LaunchFn> WithBias(const plan::Launch& launch, LaunchFn run) {
    const plan::Weight& bias = plan_.weights[static_cast<size_t>(launch.weights[1])];
    HostTensor stored(bias.dtype, bias.shape);
    TRIREME_CUDA_RETURN_IF_ERROR(cudaMemcpy(stored.bytes().data(), weight(launch, 1),
                                            stored.bytes().size(), cudaMemcpyDeviceToHost),
                                 "reading a bias");
    cuda::BinaryParams params;
    TRIREME_ASSIGN_OR_RETURN(params.b, Keep(ToFloats(stored.view())));
    const int out = launch.outputs[0];
    params.dtype = cuda::Element::kFloat32;
    params.op = cuda::BinaryOp::kAdd;
    params.a = params.y = buffer(out);
    params.a_stride = params.y_stride = width(out);
    params.size = static_cast<int>(width(out));
    const plan::Rows rows = RowsOf(launch);
    return LaunchFn(
        [=, run = std::move(run)](const cuda::StepView& step, cuda::LaunchContext& context) {
          TRIREME_RETURN_IF_ERROR(run(step, context));
          cuda::BinaryParams now = params;
          now.max_rows = MaxRows(rows, step);
          now.num_rows = CountOf(rows, step);
          return Done(cuda::Binary(now, context), context);
        });
  }

  Status SetRotary(const RotarySpec& spec, cuda::RopeKvWriteParams& params) {
    params.style = cuda::RotaryStyleOf(spec.kind);
    if (spec.kind == RotaryKind::kNone) return OkStatus();
    if (cos_ == nullptr || spec.dim != rotary_.dim || spec.base != rotary_.base ||
        !(spec.scaling == rotary_.scaling)) {
      TRIREME_ASSIGN_OR_RETURN(
          const kernels::RotaryTable table,
          kernels::BuildRotaryTable({.rotary_dim = spec.dim,
                                     .base = spec.base,
                                     .scaling = spec.scaling,
                                     .max_position_embeddings = spec.max_position_embeddings},
                                    options_.max_seq_len));
      TRIREME_ASSIGN_OR_RETURN(cos_, Keep(table.cos));
      TRIREME_ASSIGN_OR_RETURN(sin_, Keep(table.sin));
      rotary_ = spec;
    }
    params.rotary_dim = spec.dim;
    params.cos = cos_;
    params.sin = sin_;
    return OkStatus();
  }

  // Runs with the attention that follows it.
  Status KeepRope(const plan::Launch& launch) {
    const AttentionSpec& spec = std::get<AttentionAttrs>(launch.attrs).spec;
    rope_ = {};
    rope_.dtype = element_;
    rope_.qkv = buffer(launch.inputs[0]);
    rope_.qkv_stride = width(launch.inputs[0]);
    rope_.num_heads = spec.num_heads;
    TRIREME_RETURN_IF_ERROR(SetRotary(spec.rotary, rope_));
    rope_.layer = spec.layer;
    kv_scale_ = 1.0f;
    if (!launch.weights.empty()) {
      TRIREME_ASSIGN_OR_RETURN(kv_scale_, weights_.LargestScale(plan_, launch.weights[0]));
    }
    return OkStatus();
  }

  cuda::PagedAttentionParams AttentionParams(const plan::Launch& launch) const {
    const AttentionSpec& spec = std::get<AttentionAttrs>(launch.attrs).spec;
    cuda::PagedAttentionParams params;
    params.dtype = element_;
    params.q = buffer(launch.inputs[0]);
    params.q_stride = width(launch.inputs[0]);
    params.num_heads = spec.num_heads;
    params.scale = spec.scale != 0.0
                       ? static_cast<float>(spec.scale)
                       : static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
    params.window = spec.window;
    params.soft_cap = static_cast<float>(spec.soft_cap);
    params.out = buffer(launch.outputs[0]);
    params.out_stride = width(launch.outputs[0]);
    params.layer = spec.layer;
    params.kv = program_.kv_;
    params.batch_invariant = plan_.batch_invariant;
    return params;
  }

  // The first layer of each window also plans for the others.
  StatusOr<LaunchFn> BindPagedAttention(const plan::Launch& launch) {
    const AttentionSpec& spec = std::get<AttentionAttrs>(launch.attrs).spec;
    cuda::PagedAttentionParams params = AttentionParams(launch);
    if (spec.alibi) {
      TRIREME_ASSIGN_OR_RETURN(params.alibi_slopes, Keep(kernels::AlibiSlopes(spec.num_heads)));
    }
    cuda::DeviceBuffer& workspace = program_.attention_plans_[spec.window];
    const bool plans = workspace.data() == nullptr;
    if (plans) {
      params.step = LargestStep();
      TRIREME_ASSIGN_OR_RETURN(
          workspace, cuda::DeviceBuffer::Allocate(PagedAttentionWorkspaceBytes(params, context_),
                                                  "workspace of the attention"));
    }
    params.workspace = workspace.data();
    if (rope_.qkv != params.q || rope_.layer != params.layer) {
      return Internal("the attention does not follow its cache write");
    }
    const cuda::RopeKvWriteParams rope = rope_;
    const cuda::KvView* kv = &program_.kv_;
    const float kv_scale = kv_scale_;
    program_.region_.AddAttention(rope, params, kv_scale);
    return LaunchFn([=](const cuda::StepView& step, cuda::LaunchContext& context) {
      cuda::RopeKvWriteParams write = rope;
      cuda::PagedAttentionParams read = params;
      write.step = read.step = step;
      write.kv = *kv;
      write.kv.k_scale = write.kv.v_scale = kv_scale;
      read.kv = write.kv;
      if (plans) {
        TRIREME_RETURN_IF_ERROR(Done(cuda::PlanPagedAttention(read, context), context));
      }
      return Done(cuda::RopePagedAttention(write, read, context), context);
    });
  }

  cuda::StepView LargestStep() const {
    cuda::StepView step;
    step.max_tokens = static_cast<int>(options_.max_tokens);
    step.max_seqs = options_.max_seqs;
    step.max_logit_rows = static_cast<int>(options_.max_logit_rows);
    step.max_query = static_cast<int>(options_.max_tokens);
    step.max_seq_len = options_.max_seq_len;
    return step;
  }

  StatusOr<LaunchFn> BindActivation(const plan::Launch& launch) {
    const int out = launch.outputs[0];
    cuda::ActivationParams params;
    params.dtype = element_;
    params.activation = cuda::ActivationOf(std::get<ActivationAttrs>(launch.attrs).kind);
    params.x = buffer(launch.inputs[0]);
    params.x_stride = width(launch.inputs[0]);
    if (launch.inputs.size() > 1) {
      params.up = buffer(launch.inputs[1]);
      params.up_stride = width(launch.inputs[1]);
    }
    params.y_dtype = element_;
    params.y = buffer(out);
    params.y_stride = width(out);
    params.size = static_cast<int>(width(out));
    return ByTokens(cuda::Activate, params, RowsOf(launch));
  }

  StatusOr<LaunchFn> BindBinary(const plan::Launch& launch, cuda::BinaryOp op) {
    const int out = launch.outputs[0];
    cuda::BinaryParams params;
    TRIREME_ASSIGN_OR_RETURN(params.dtype,
                             cuda::ElementOf(plan_.buffers[static_cast<size_t>(out)].dtype));
    params.op = op;
    params.a = buffer(launch.inputs[0]);
    params.a_stride = width(launch.inputs[0]);
    if (launch.inputs.size() > 1) {
      params.b = buffer(launch.inputs[1]);
      params.b_stride = width(launch.inputs[1]);
    } else {
      params.value = static_cast<float>(std::get<ScalarAttrs>(launch.attrs).value);
    }
    params.y = buffer(out);
    params.y_stride = width(out);
    params.size = static_cast<int>(width(out));
    const plan::Rows rows = RowsOf(launch);
    return LaunchFn([params, rows](const cuda::StepView& step, cuda::LaunchContext& context) {
      cuda::BinaryParams now = params;
      now.max_rows = MaxRows(rows, step);
      now.num_rows = CountOf(rows, step);
      return Done(cuda::Binary(now, context), context);
    });
  }

  StatusOr<LaunchFn> BindSelectLogitRows(const plan::Launch& launch) {
    const int in = launch.inputs[0];
    const int out = launch.outputs[0];
    cuda::SelectRowsParams params;
    params.dtype = element_;
    params.x = buffer(in);
    params.x_stride = width(in);
    params.num_x_rows = options_.max_tokens;
    params.y = buffer(out);
    params.y_stride = width(out);
    params.size = static_cast<int>(width(out));
    return LaunchFn([params](const cuda::StepView& step, cuda::LaunchContext& context) {
      cuda::SelectRowsParams now = params;
      now.rows = step.logit_rows;
      now.max_rows = step.max_logit_rows;
      now.num_rows = &step.counts->num_logit_rows;
      return Done(cuda::SelectRows(now, context), context);
    });
  }

  CudaProgram& program_;
  const plan::Plan& plan_;
  const CudaWeights& weights_;
  const CudaProgramOptions& options_;
  const cuda::LaunchContext& context_;
  cuda::Element element_ = cuda::Element::kBFloat16;
  cuda::RopeKvWriteParams rope_;
  float kv_scale_ = 1.0f;
  RotarySpec rotary_;
  const float* cos_ = nullptr;
  const float* sin_ = nullptr;
};

namespace {

// The head runs several times over what the trunk left where logits of many rows are wanted, so
// nothing of the head may lie where its inputs do.
std::vector<plan::Buffer> KeptForTheHead(const plan::Plan& plan) {
  std::vector<plan::Buffer> buffers = plan.buffers;
  for (const plan::Launch& launch : plan.launches) {
    if (plan.buffers[static_cast<size_t>(launch.outputs[0])].rows == plan::Rows::kTokens) continue;
    for (const int input : launch.inputs) {
      plan::Buffer& buffer = buffers[static_cast<size_t>(input)];
      if (buffer.rows == plan::Rows::kTokens) buffer.last = static_cast<int>(plan.launches.size());
    }
  }
  return buffers;
}

}  // namespace

StatusOr<std::unique_ptr<CudaProgram>> CudaProgram::Bind(const plan::Plan& plan,
                                                         const CudaWeights& weights,
                                                         const CudaProgramOptions& options,
                                                         cuda::LaunchContext& context) {
  std::unique_ptr<CudaProgram> program(new CudaProgram(plan));
  program->memory_ =
      plan::PlanMemory(KeptForTheHead(plan), options.max_tokens, options.max_logit_rows);
  TRIREME_ASSIGN_OR_RETURN(
      program->arena_, cuda::DeviceBuffer::Allocate(program->memory_.total_bytes, "activations"));
  TRIREME_RETURN_IF_ERROR(CudaLaunchBinder(*program, plan, weights, options, context).BindAll());
  return program;
}

Status CudaProgram::RunRegion(const cuda::StepView& step, cuda::LaunchContext& context) const {
  return cuda::CudaStatus(region_.Run(step, kv_, context), context.last_launch)
      .WithContext("the decoder layers");
}

Status CudaProgram::Run(Part part, const cuda::StepView& step, cuda::LaunchContext& context,
                        LaunchTimer* timer) const {
  // Launches are timed one by one.
  const bool in_region = part == Part::kTrunk && timer == nullptr && TakesRegion(step, context);
  int number = -1;  // of the launch in its part
  for (const BoundLaunch& launch : launches_) {
    if (launch.part != part) continue;
    ++number;
    if (in_region && number == region_.first_launch()) {
      TRIREME_RETURN_IF_ERROR(RunRegion(step, context));
    }
    if (in_region && number >= region_.first_launch() && number < region_.end_launch()) continue;
    Status status = launch.run(step, context);
    if (status.ok() && timer != nullptr) status = timer->Mark(launch.index, context.stream);
    if (!status.ok()) {
      return status.WithContext(fmt::format("{} ({})", launch.name, context.last_launch));
    }
  }
  return OkStatus();
}

float* CudaProgram::logits() const {
  return reinterpret_cast<float*>(arena_.data() +
                                  memory_.offsets[static_cast<size_t>(plan_.logits_buffer)]);
}

}  // namespace trireme::engine
