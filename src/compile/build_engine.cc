// SPDX-License-Identifier: Apache-2.0
// The build: configuration -> network -> passes -> plan -> tactics -> engine file, rank by rank.
#include <cstdlib>
#include <filesystem>

#include "base/log.h"
#include "base/log_text.h"
#include "base/mapped_file.h"
#include "base/staged_folder.h"
#include "base/status.h"
#include "base/version.h"
#include "compile/choose_tactics.h"
#include "compile/engine_config.h"
#include "compile/lower.h"
#include "compile/write_engine.h"
#include "formats/checkpoint.h"
#include "formats/checkpoint_quant.h"
#include "formats/hf_config.h"
#include "formats/model_facts.h"
#include "formats/safetensors.h"
#include "formats/tokenizer_files.h"
#include "graph/passes.h"
#include "models/count_parameters.h"
#include "models/hf_view.h"
#include "plan/row_profiles.h"
#include "trireme/builder.h"
#ifdef TRIREME_HAS_CUDA
#include "compile/cuda/choose_cuda_tactics.h"
#endif

namespace trireme {
namespace {

namespace fs = std::filesystem;

StatusOr<ModelConfig> ConfigFromFile(const BuildOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(options.model_config, 16 << 20));
  TRIREME_ASSIGN_OR_RETURN(const HfConfig hf, HfConfig::Parse(text, options.model_config));
  ModelConfig config;
  if (hf.Has("architectures")) {
    TRIREME_ASSIGN_OR_RETURN(models::FamilyConfig family, models::ReadHfConfig(hf));
    config = std::move(family.config);
  } else {
    TRIREME_ASSIGN_OR_RETURN(config, ParseCheckpointConfig(text));
  }
  config.mapping.tp_size = options.tp_size;
  config.mapping.pp_size = options.pp_size;
  config.mapping.world_size = options.tp_size * options.pp_size;
  if (options.group_size < 0 || options.group_size % 32 != 0) {
    return InvalidArgument(
        "--group_size {} is not a multiple of 32, which the kernels read at once",
        options.group_size);
  }
  QuantizationConfig& quantization = config.quantization;
  if (options.weight_only_precision == "int8") {
    quantization.quant_algo = "W8A16";
  } else if (options.weight_only_precision == "int4") {
    quantization.quant_algo = options.group_size > 0 ? "W4A16_AWQ" : "W4A16";
    if (options.group_size > 0) quantization.group_size = options.group_size;
  } else if (options.weight_only_precision == "fp8") {
    quantization.quant_algo = "FP8";
    quantization.exclude_modules = {"lm_head"};
  } else if (!options.weight_only_precision.empty()) {
    return InvalidArgument("--weight_only_precision '{}' is unknown; use int8, int4 or fp8",
                           options.weight_only_precision);
  }
  return config;
}

StatusOr<ModelConfig> LoadConfig(const BuildOptions& options) {
  if (options.checkpoint_dir.empty() == options.model_config.empty()) {
    return InvalidArgument("give either --checkpoint_dir or --model_config");
  }
  if (!options.model_config.empty()) return ConfigFromFile(options);
  if (!options.weight_only_precision.empty()) {
    return InvalidArgument(
        "--weight_only_precision goes with --model_config; a checkpoint is quantized by "
        "`trireme convert --use_weight_only`");
  }
  return LoadCheckpointConfig(options.checkpoint_dir);
}

// What times of the timing cache belong to.
std::string TimingKey(const std::string& device, int num_threads) {
#ifdef TRIREME_HAS_CUDA
  if (device == "cuda") return compile::CudaTimingKey();
#endif
  return fmt::format("cpu {} threads={} trireme={}", CpuFeaturesText(HostCpuFeatures()),
                     num_threads, Version());
}

class Build {
 public:
  Build(const BuildOptions& options, const BuildProgressFn& progress)
      : options_(options),
        progress_(progress),
        pool_(options.num_threads),
        context_{&pool_, BestIsa(HostCpuFeatures())},
        cache_(TimingKey(options.device, pool_.num_threads())) {}

  const BuildSummary& summary() const { return summary_; }

  Status Run() {
    TRIREME_RETURN_IF_ERROR(CheckDevice());
    TRIREME_ASSIGN_OR_RETURN(config_, LoadConfig(options_));
    TRIREME_RETURN_IF_ERROR(ResolveDTypes());
    TRIREME_ASSIGN_OR_RETURN(limits_, compile::ResolveLimits(options_.limits, config_));
    TRIREME_ASSIGN_OR_RETURN(family_, FindFamilyByConfig(config_));
    WarnBeyondPositions(config_, limits_.max_seq_len);
    TRIREME_ASSIGN_OR_RETURN(summary_.num_parameters, models::CountParameters(config_));
    TRIREME_RETURN_IF_ERROR(CheckOutputFolder());
    TRIREME_ASSIGN_OR_RETURN(output_, StagedFolder::Create(options_.output_dir));
    TRIREME_RETURN_IF_ERROR(LoadTimingCaches());
    for (int rank = 0; rank < config_.mapping.world_size; ++rank) {
      TRIREME_RETURN_IF_ERROR(BuildRank(rank));
    }
    if (!options_.output_timing_cache.empty()) {
      TRIREME_RETURN_IF_ERROR(cache_.Save(Staged(options_.output_timing_cache)));
    }
    if (!options_.dry_run) {
      if (!options_.checkpoint_dir.empty()) {
        TRIREME_RETURN_IF_ERROR(CopyTokenizerFiles(options_.checkpoint_dir, output_->path()));
      }
      TRIREME_RETURN_IF_ERROR(
          WriteFile(Staged("config.json"), compile::EngineConfigJson(config_, options_, limits_)));
    }
    return output_->Commit("config.json");
  }

 private:
  Status CheckDevice() const {
    if (options_.device == "cpu") return OkStatus();
    if (options_.device != "cuda") {
      return InvalidArgument("--device '{}' is unknown; use cpu or cuda", options_.device);
    }
#ifdef TRIREME_HAS_CUDA
    return OkStatus();
#else
    return Unimplemented("--device cuda: this program was built without CUDA");
#endif
  }

  Status ResolveDTypes() {
    if (options_.dtype != "auto") config_.dtype = options_.dtype;
    TRIREME_ASSIGN_OR_RETURN(dtype_, ParseDType(config_.dtype));
    if (dtype_ != DType::kFloat32 && dtype_ != DType::kFloat16 && dtype_ != DType::kBFloat16) {
      return InvalidArgument("engines are float32, float16 or bfloat16, not {}", config_.dtype);
    }
    if (options_.device == "cuda" && dtype_ == DType::kFloat32) {
      return InvalidArgument(
          "engines for the GPU are float16 or bfloat16, this checkpoint is float32; name one with "
          "--dtype or --gemm_plugin, or use --device cpu");
    }
    std::string kv = options_.kv_dtype;
    if (kv == "auto") kv = config_.quantization.kv_cache_quant_algo.empty() ? config_.dtype : "fp8";
    TRIREME_ASSIGN_OR_RETURN(kv_dtype_, ParseDType(kv));
    const bool gpu_float8 = options_.device == "cuda" && kv_dtype_ == DType::kFloat8E4M3;
    if (!gpu_float8 && kv_dtype_ != DType::kFloat32 && kv_dtype_ != DType::kFloat16 &&
        kv_dtype_ != DType::kBFloat16) {
      const bool given = options_.kv_dtype != "auto";
      return Unimplemented(
          "{} a KV cache of {}, which engines for the {} do not have; build with --kv_cache_dtype "
          "{}{}",
          given ? "--kv_cache_dtype asks for" : "the checkpoint asks for", kv,
          options_.device == "cuda" ? "GPU" : "CPU", config_.dtype,
          kv_dtype_ == DType::kFloat8E4M3 ? ", or for a GPU with --device cuda" : "");
    }
    if (options_.device == "cuda" && kv_dtype_ != dtype_ && !gpu_float8) {
      return Unimplemented("a KV cache of {} for a GPU engine of {} does not exist yet", kv,
                           config_.dtype);
    }
    config_.kv_dtype = kv;
    return OkStatus();
  }

  // The engine's config.json would take the place of the checkpoint's.
  Status CheckOutputFolder() const {
    std::error_code ignored;
    if (!options_.checkpoint_dir.empty() &&
        fs::equivalent(options_.checkpoint_dir, options_.output_dir, ignored)) {
      return InvalidArgument("--output_dir '{}' is the checkpoint's own folder; choose another",
                             options_.output_dir);
    }
    return OkStatus();
  }

  std::string OutputCachePath() const {
    return (fs::path(options_.output_dir) / options_.output_timing_cache).string();
  }
  std::string Staged(std::string_view name) const {
    return (fs::path(output_->path()) / name).string();
  }

  Status LoadTimingCaches() {
    if (!options_.input_timing_cache.empty()) {
      TRIREME_RETURN_IF_ERROR(cache_.Load(options_.input_timing_cache));
    }
    if (!options_.output_timing_cache.empty() && fs::exists(OutputCachePath())) {
      const Status status = cache_.Load(OutputCachePath());
      // A damaged cache of our own costs a new timing run, not the build.
      if (!status.ok()) LogWarning("timing_cache_ignored reason={}", Quoted(status.message()));
    }
    return OkStatus();
  }

  void Report(const BuildProgress& progress) {
    if (progress_) progress_(progress);
  }

  Status Visualize(const Network& network, int rank, std::string_view stage) {
    const fs::path dot = Staged(fmt::format("network.rank{}.{}.dot", rank, stage));
    TRIREME_RETURN_IF_ERROR(WriteFile(dot.string(), network.ToDot(stage)));
    fs::path svg = dot;
    svg.replace_extension("svg");
    // Graphviz is a convenience: without it the DOT text stands alone.
    const std::string command =
        fmt::format("command -v dot >/dev/null 2>&1 && dot -Tsvg '{}' -o '{}' 2>/dev/null",
                    dot.string(), svg.string());
    if (dot.string().find('\'') == std::string::npos && std::system(command.c_str()) != 0) {
      LogInfo("svg_skipped reason=\"the program dot is not installed\" dot={}", dot.string());
    }
    return OkStatus();
  }

  // A table of learned positions ends where it ends.
  Status CheckPositions(const Network& network) const {
    for (const NetworkOp& op : network.ops()) {
      if (op.kind != OpKind::kPositionEmbedding) continue;
      const int64_t positions = std::get<EmbeddingAttrs>(op.attrs).vocab_size;
      if (limits_.max_seq_len <= positions) continue;
      return InvalidArgument(
          "max_seq_len {} (given, or --max_input_len and --max_output_len together) exceeds the {} "
          "positions the model has learned",
          limits_.max_seq_len, positions);
    }
    return OkStatus();
  }

  Status Summarise(const Network& network) {
    for (const NetworkWeight& weight : network.weights()) {
      if (weight.name == "lm_head.weight" && SharesEmbedding(config_)) continue;
      int64_t rows = 1;
      for (size_t i = 0; i + 1 < weight.shape.size(); ++i) rows *= weight.shape[i];
      const int64_t count = rows * weight.shape.back();
      WeightQuant quant;
      if (weight.quantizable) {
        TRIREME_ASSIGN_OR_RETURN(quant, QuantOfWeight(config_.quantization, weight.name));
      }
      if (quant.kind == WeightQuant::Kind::kNone) {
        summary_.weight_bytes += DTypeBytes(dtype_, count);
        continue;
      }
      if (quant.kind == WeightQuant::Kind::kFloat8) {
        summary_.weight_bytes += count + DTypeBytes(DType::kFloat32, 2);  // of weight and input
        continue;
      }
      const int64_t group = quant.group_size > 0 ? quant.group_size : weight.shape.back();
      const int64_t scales = rows * ((weight.shape.back() + group - 1) / group);
      summary_.weight_bytes +=
          (quant.kind == WeightQuant::Kind::kInt4 ? count / 2 : count) + DTypeBytes(dtype_, scales);
    }
    for (const NetworkOp& op : network.ops()) {
      if (op.kind != OpKind::kAttention) continue;
      const AttentionSpec& spec = std::get<AttentionAttrs>(op.attrs).spec;
      summary_.kv_bytes_per_token +=
          DTypeBytes(kv_dtype_, int64_t{2} * spec.num_kv_heads * spec.head_dim);
    }
    return OkStatus();
  }

  Status BuildRank(int rank) {
    ModelConfig config = config_;
    config.mapping.rank = rank;
    TRIREME_ASSIGN_OR_RETURN(Network network, family_->BuildNetwork(config));
    TRIREME_RETURN_IF_ERROR(CheckPositions(network));
    TRIREME_RETURN_IF_ERROR(Summarise(network));
    if (options_.visualize_network) TRIREME_RETURN_IF_ERROR(Visualize(network, rank, "before"));
    for (const graph::Pass& pass : !options_.run_passes        ? graph::LoweringPasses()
                                   : options_.device == "cuda" ? graph::CudaPasses()
                                                               : graph::AllPasses()) {
      pass.run(network);
      TRIREME_RETURN_IF_ERROR(network.Validate().WithContext(pass.name));
    }
    if (options_.visualize_network) TRIREME_RETURN_IF_ERROR(Visualize(network, rank, "after"));
    TRIREME_ASSIGN_OR_RETURN(compile::Lowered lowered,
                             compile::LowerNetwork(network, config,
                                                   {.device = options_.device,
                                                    .dtype = dtype_,
                                                    .kv_dtype = kv_dtype_,
                                                    .synthetic = options_.checkpoint_dir.empty()}));
    std::unique_ptr<TensorSource> checkpoint;
    if (!options_.checkpoint_dir.empty()) {
      TRIREME_ASSIGN_OR_RETURN(checkpoint,
                               OpenSafetensors(RankFile(options_.checkpoint_dir, rank)));
      // Before tactics are timed: a wrong file costs no time.
      TRIREME_RETURN_IF_ERROR(compile::CheckSources(lowered, *checkpoint));
    }
    TRIREME_RETURN_IF_ERROR(ChooseTactics(lowered.plan, rank));
    TRIREME_RETURN_IF_ERROR(plan::ValidatePlan(lowered.plan));
    if (options_.dry_run) return OkStatus();

    return compile::WriteEngineFile(Staged(fmt::format("rank{}.engine", rank)),
                                    compile::EngineConfigJson(config, options_, limits_), lowered,
                                    checkpoint.get(), pool_, [&](int64_t done, int64_t total) {
                                      Report({"packing weights", rank, done, total, true});
                                    });
  }

  Status ChooseTactics(plan::Plan& plan, int rank) {
    const compile::TacticOptions tactics{.time = options_.time_tactics,
                                         .force = options_.force_tactic,
                                         .batch_invariant = options_.batch_invariant};
    plan.batch_invariant = options_.batch_invariant || plan.device == "cpu";
    const auto report = [&](int64_t done, int64_t total) {
      Report({"timing tactics", rank, done, total});
    };
#ifdef TRIREME_HAS_CUDA
    if (plan.device == "cuda") {
      return compile::ChooseCudaTactics(
          plan, tactics,
          {.max_tokens = limits_.max_num_tokens,
           .max_logit_rows = plan::MaxLogitRows(limits_.max_batch_size)},
          cache_, report);
    }
#endif
    return compile::ChooseTactics(plan, tactics, context_, cache_, report);
  }

  const BuildOptions& options_;
  const BuildProgressFn& progress_;
  ThreadPool pool_;
  kernels::CpuContext context_;
  compile::TimingCache cache_;
  ModelConfig config_;
  BuildLimits limits_;
  DType dtype_ = DType::kFloat32;
  DType kv_dtype_ = DType::kFloat32;
  const ModelFamily* family_ = nullptr;
  BuildSummary summary_;
  std::unique_ptr<StagedFolder> output_;
};

}  // namespace

Status BuildEngine(const BuildOptions& options, const BuildProgressFn& progress) {
  return Build(options, progress).Run();
}

Status BuildEngine(const BuildOptions& options, const BuildProgressFn& progress,
                   BuildSummary& summary) {
  Build build(options, progress);
  TRIREME_RETURN_IF_ERROR(build.Run());
  summary = build.summary();
  return OkStatus();
}

}  // namespace trireme
