// SPDX-License-Identifier: Apache-2.0
#include "compile/lower.h"

#include <algorithm>
#include <map>

#include "base/status.h"
#include "formats/checkpoint_quant.h"
#include "kernels/linear_problem.h"

namespace trireme::compile {
namespace {

constexpr double kSyntheticStd = 0.02;

class Lowering {
 public:
  Lowering(const Network& network, const ModelConfig& config, const LowerOptions& options)
      : network_(network),
        config_(config),
        options_(options),
        on_gpu_(options.device == "cuda"),
        plain_dtype_(on_gpu_ ? options.dtype : DType::kFloat32) {}

  StatusOr<Lowered> Run() {
    plan().device = options_.device;
    plan().dtype = options_.dtype;
    plan().kv_dtype = options_.kv_dtype;
    plan().num_layers = network_.num_layers();
    for (size_t i = 0; i < network_.ops().size(); ++i) {
      TRIREME_RETURN_IF_ERROR(LowerOp(network_.ops()[i], static_cast<int>(i)));
    }
    const int logits = BufferOf(network_.logits());
    plan().logits_buffer = logits;
    plan().vocab_size = plan().buffers[logits].width;
    if (on_gpu_) {
      SetActivationTypes();
      QuantizeGatedOutputs();
    }
    return std::move(lowered_);
  }

 private:
  plan::Plan& plan() { return lowered_.plan; }

  int BufferOf(int value) {
    const auto [entry, added] =
        buffer_of_value_.try_emplace(value, static_cast<int>(plan().buffers.size()));
    if (added) {
      const NetworkValue& v = network_.values()[value];
      plan().buffers.push_back(
          {v.logit_rows ? plan::Rows::kLogitRows : plan::Rows::kTokens, v.width, -1, -1});
    }
    return entry->second;
  }

  void Touch(int buffer, int launch) {
    plan::Buffer& b = plan().buffers[buffer];
    if (b.first < 0) b.first = launch;
    b.last = std::max(b.last, launch);
  }

  // The engine's dtype but for the logits and what only scales on the way to them.
  void SetActivationTypes() {
    for (plan::Buffer& buffer : plan().buffers) buffer.dtype = options_.dtype;
    plan().buffers[plan().logits_buffer].dtype = DType::kFloat32;
    for (size_t i = plan().launches.size(); i-- > 0;) {
      const plan::Launch& launch = plan().launches[i];
      const bool scales = launch.kind == OpKind::kScale || launch.kind == OpKind::kSoftCap;
      if (scales && plan().buffers[launch.outputs[0]].dtype == DType::kFloat32) {
        plan().buffers[launch.inputs[0]].dtype = DType::kFloat32;
      }
    }
  }

  // What a gated layer writes for one FP8 layer alone is written as that one reads it: half the
  // bytes, and no launch between the two.
  void QuantizeGatedOutputs() {
    for (const plan::Launch& launch : plan().launches) {
      const auto* gated = std::get_if<LinearAttrs>(&launch.attrs);
      if (launch.kind != OpKind::kLinear || !gated->gated) continue;
      const int out = launch.outputs[0];
      std::vector<const plan::Launch*> readers;
      for (const plan::Launch& other : plan().launches) {
        if (std::find(other.inputs.begin(), other.inputs.end(), out) != other.inputs.end()) {
          readers.push_back(&other);
        }
      }
      if (readers.size() != 1 || readers[0]->kind != OpKind::kLinear) continue;
      const plan::Launch& reader = *readers[0];
      const WeightQuant& quant = plan().weights[reader.weights[0]].quant;
      const bool only_input = std::count(reader.inputs.begin(), reader.inputs.end(), out) == 1 &&
                              reader.inputs[0] == out;
      const bool quantizes = quant.kind == WeightQuant::Kind::kFloat8 && only_input &&
                             !std::get<LinearAttrs>(reader.attrs).has_norm;
      if (quantizes) plan().buffers[out].dtype = DType::kFloat8E4M3;
    }
  }

  int AddWeight(plan::Weight weight, WeightSources sources) {
    weight.synthetic_std = options_.synthetic ? kSyntheticStd : 0.0;
    plan().weights.push_back(std::move(weight));
    lowered_.sources.push_back(std::move(sources));
    return static_cast<int>(plan().weights.size()) - 1;
  }

  // The GPU rotates q and normalises heads in place.
  Status ReuseInput(const NetworkOp& op) {
    if (op.kind != OpKind::kRopeKvWrite && op.kind != OpKind::kHeadRmsNorm) return OkStatus();
    int reads = 0;
    for (const NetworkOp& other : network_.ops()) {
      reads += static_cast<int>(std::count(other.inputs.begin(), other.inputs.end(), op.inputs[0]));
    }
    if (reads != 1) return Unimplemented("the input of '{}' is read by others too", op.name);
    buffer_of_value_[op.outputs[0]] = BufferOf(op.inputs[0]);
    return OkStatus();
  }

  // A tensor kept row-major: tables in the engine's dtype; norm weights and biases as float32 on the
  // CPU, in the engine's dtype on the GPU.
  int AddPlainWeight(std::vector<std::string> names, std::vector<int64_t> shape, DType dtype) {
    const std::string& name = names.front();
    const auto known = plain_weights_.find(name);
    if (known != plain_weights_.end()) return known->second;
    plan::Weight weight;
    weight.name = name;
    weight.layout = "row_major";
    weight.dtype = dtype;
    weight.shape = Shape(std::span<const int64_t>(shape));
    weight.num_bytes = DTypeBytes(dtype, weight.shape.num_elements());
    const std::string key = name;
    const int index = AddWeight(std::move(weight), {std::move(names), {}, -1});
    plain_weights_[key] = index;
    return index;
  }

  Status LowerOp(const NetworkOp& op, int index) {
    plan::Launch launch;
    launch.kind = op.kind;
    launch.name = op.name;
    launch.attrs = op.attrs;
    for (int input : op.inputs) launch.inputs.push_back(BufferOf(input));
    if (on_gpu_) TRIREME_RETURN_IF_ERROR(ReuseInput(op));
    for (int output : op.outputs) launch.outputs.push_back(BufferOf(output));
    for (int buffer : launch.inputs) Touch(buffer, index);
    for (int buffer : launch.outputs) Touch(buffer, index);
    switch (op.kind) {
      case OpKind::kLinear: {
        TRIREME_RETURN_IF_ERROR(AddLinearWeights(op, index, launch));
        break;
      }
      case OpKind::kExpertLinear: {
        TRIREME_RETURN_IF_ERROR(AddExpertWeights(op, index, launch));
        break;
      }
      case OpKind::kEmbedding:
      case OpKind::kPositionEmbedding: {
        const NetworkWeight& table = network_.weights()[op.weights[0]];
        launch.weights.push_back(AddPlainWeight({table.name}, table.shape, options_.dtype));
        break;
      }
      case OpKind::kAllReduce:
        return Unimplemented(
            "checkpoints of tp_size {} do not become engines yet; convert with --tp_size 1",
            config_.mapping.tp_size);
      case OpKind::kAttention: return Internal("attention '{}' was not split", op.name);
      case OpKind::kRopeKvWrite: {
        const AttentionSpec& spec = std::get<AttentionAttrs>(op.attrs).spec;
        plan().num_kv_heads = spec.num_kv_heads;
        plan().head_dim = spec.head_dim;
        AddCacheScale(op, launch);
        break;
      }
      default:
        for (int weight : op.weights) {
          const NetworkWeight& w = network_.weights()[weight];
          launch.weights.push_back(AddPlainWeight({w.name}, w.shape, plain_dtype_));
        }
    }
    plan().launches.push_back(std::move(launch));
    return OkStatus();
  }

  StatusOr<WeightQuant> QuantOfOp(const NetworkOp& op) const {
    const NetworkWeight& weight = network_.weights()[op.weights[0]];
    if (!weight.quantizable) return WeightQuant{};
    return QuantOfWeight(config_.quantization, weight.name);
  }

  // Each expert is a weight of its own, so that packing one needs the memory of one.
  Status AddExpertWeights(const NetworkOp& op, int index, plan::Launch& launch) {
    if (options_.device != "cpu") {
      return Unimplemented("mixtures of experts do not run on {} yet; build for cpu",
                           options_.device);
    }
    const ExpertLinearAttrs& attrs = std::get<ExpertLinearAttrs>(op.attrs);
    const std::string& name = network_.weights()[op.weights[0]].name;
    TRIREME_ASSIGN_OR_RETURN(const WeightQuant quant, QuantOfOp(op));
    if (quant.kind == WeightQuant::Kind::kFloat8) {
      return Unimplemented("mixtures of experts with FP8 weights are not built yet");
    }
    for (int expert = 0; expert < attrs.num_experts; ++expert) {
      WeightSources sources;
      sources.names = {name};
      if (quant.kind != WeightQuant::Kind::kNone) sources.scales = {ScaleName(name, quant)};
      sources.linear_launch = index;
      sources.expert = expert;
      sources.num_experts = attrs.num_experts;
      plan::Weight weight;
      weight.name = fmt::format("{}.{}.packed", op.name, expert);
      weight.dtype = options_.dtype;
      weight.quant = quant;
      weight.shape = {attrs.linear.out_features, attrs.linear.in_features};
      launch.weights.push_back(AddWeight(std::move(weight), std::move(sources)));
    }
    return OkStatus();
  }

  Status AddLinearWeights(const NetworkOp& op, int index, plan::Launch& launch) {
    const LinearAttrs& attrs = std::get<LinearAttrs>(op.attrs);
    const size_t branches = attrs.gated ? 2 : 1;
    WeightSources sources;
    TRIREME_ASSIGN_OR_RETURN(const WeightQuant quant, QuantOfOp(op));
    for (size_t i = 0; i < branches; ++i) {
      const std::string& name = network_.weights()[op.weights[i]].name;
      sources.names.push_back(name);
      if (quant.kind != WeightQuant::Kind::kNone) sources.scales.push_back(ScaleName(name, quant));
    }
    plan::Weight weight;
    weight.name = op.name + ".packed";
    weight.dtype = options_.dtype;
    weight.quant = quant;
    weight.shape = {attrs.out_features, attrs.in_features};
    if (on_gpu_) {
      TRIREME_RETURN_IF_ERROR(CheckCudaQuant(quant, op.name));
      weight.layout = "row_major";
      if (quant.kind == WeightQuant::Kind::kFloat8) weight.dtype = DType::kFloat8E4M3;
      weight.num_bytes = DTypeBytes(weight.dtype, weight.shape.num_elements());
    } else {
      sources.linear_launch = index;
    }
    launch.weights.push_back(AddWeight(std::move(weight), std::move(sources)));
    if (attrs.has_bias) {
      std::vector<std::string> names;
      for (size_t i = branches; i < 2 * branches; ++i) {
        names.push_back(network_.weights()[op.weights[i]].name);
      }
      launch.weights.push_back(
          AddPlainWeight(std::move(names), {attrs.out_features}, plain_dtype_));
    }
    if (attrs.has_norm) {
      const NetworkWeight& gamma = network_.weights()[op.weights.back()];
      launch.weights.push_back(AddPlainWeight({gamma.name}, gamma.shape, plain_dtype_));
    }
    if (quant.kind == WeightQuant::Kind::kFloat8) return AddFloat8Scales(op, branches, launch);
    return OkStatus();
  }

  // After the other weights of an FP8 layer: the scales of its weight (on the GPU; on the CPU the
  // packed weight holds them) and, last, of its input; one for each branch.
  Status AddFloat8Scales(const NetworkOp& op, size_t branches, plan::Launch& launch) {
    if (options_.synthetic) {
      if (on_gpu_) return OkStatus();  // the session makes its own
      return Unimplemented("FP8 engines need a checkpoint: its scales cannot be made up");
    }
    const auto add = [&](std::string_view suffix) {
      std::vector<std::string> names;
      for (size_t i = 0; i < branches; ++i) {
        names.push_back(SiblingName(network_.weights()[op.weights[i]].name, suffix));
      }
      launch.weights.push_back(
          AddPlainWeight(std::move(names), {static_cast<int64_t>(branches)}, DType::kFloat32));
    };
    if (on_gpu_) add("weights_scaling_factor");
    add("activation_scaling_factor");
    return OkStatus();
  }

  // The only weight of an FP8 cache's writer: what turns its values into numbers.
  void AddCacheScale(const NetworkOp& op, plan::Launch& launch) {
    const bool known = !config_.quantization.kv_cache_quant_algo.empty() && !options_.synthetic;
    if (!on_gpu_ || !known || options_.kv_dtype != DType::kFloat8E4M3) return;
    launch.weights.push_back(
        AddPlainWeight({op.name + ".kv_cache_scaling_factor"}, {1}, DType::kFloat32));
  }

  static Status CheckCudaQuant(const WeightQuant& quant, const std::string& name) {
    if (quant.kind == WeightQuant::Kind::kNone || quant.kind == WeightQuant::Kind::kFloat8) {
      return OkStatus();
    }
    return Unimplemented(
        "'{}' has integer weights; such engines exist for --device cpu only so far", name);
  }

  const Network& network_;
  const ModelConfig& config_;
  const LowerOptions& options_;
  const bool on_gpu_;
  const DType plain_dtype_;
  Lowered lowered_;
  std::map<int, int> buffer_of_value_;
  std::map<std::string, int> plain_weights_;
};

}  // namespace

StatusOr<Lowered> LowerNetwork(const Network& network, const ModelConfig& config,
                               const LowerOptions& options) {
  return Lowering(network, config, options).Run();
}

kernels::LinearProblem ProblemOf(const plan::Plan& plan, const plan::Launch& launch) {
  return kernels::LinearProblemOf(LinearAttrsOf(launch.attrs), plan.dtype,
                                  plan.weights[launch.weights[0]].quant);
}

}  // namespace trireme::compile
