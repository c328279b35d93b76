// SPDX-License-Identifier: Apache-2.0
// trireme build: a checkpoint becomes an engine. Replaces trtllm-build and the older build.py.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>

#include "base/log.h"
#include "base/staged_folder.h"
#include "base/status.h"
#include "build_config.h"
#include "cli.h"
#include "commands.h"
#include "convert/convert.h"
#include "progress.h"
#include "tensor/dtype.h"
#include "trireme/builder.h"

namespace trireme::cli {
namespace {

constexpr std::string_view kName = "build";

struct Flags {
  BuildOptions options;
  std::string build_config;
  // The one-step form: a Hugging Face folder is converted on the way.
  std::string model_dir;
  std::string dtype = "auto";
  bool use_weight_only = false;
  std::string gpt_attention_plugin = "auto";
  std::string gemm_plugin = "auto";
  std::string log_level = "info";
};

void AddInputs(CommandLine& line, Flags& flags) {
  BuildOptions& o = flags.options;
  line.Add("--checkpoint_dir", o.checkpoint_dir,
           "checkpoint directory made by convert or quantize");
  line.Add("--model_config", o.model_config,
           "instead of a checkpoint: a config.json alone; the engine's weights are drawn from "
           "N(0, 0.02) when it is loaded (for benchmarks)");
  line.Add("--model_dir", flags.model_dir,
           "instead of a checkpoint: a Hugging Face folder, converted on the way");
  line.Add("-m,--model_name", o.network_name, "name of the network, recorded in config.json");
  line.Add("--dtype", flags.dtype, "with --model_dir: float32, float16, bfloat16 or auto");
  line.AddSwitch("--use_weight_only", flags.use_weight_only,
                 "with --model_dir: quantize the weights of linear layers, to "
                 "--weight_only_precision (int8)");
  line.Add("--output_dir", o.output_dir, "engine directory to write");
  line.Add("--device", o.device, "device to build for: cpu or cuda; no GPU is needed");
  line.Add("--tp_size", o.tp_size, "tensor-parallel ways, with --model_config only", {1, 1024});
  line.Add("--pp_size", o.pp_size, "pipeline-parallel ways, with --model_config only", {1, 1024});
  line.Add("--weight_only_precision", o.weight_only_precision,
           "int8 or int4, with --model_config or --use_weight_only; a checkpoint is quantized by "
           "convert. fp8 with --model_config: weights and activations");
  line.Add("--group_size", o.group_size,
           "int4 with --model_config: values per scale, 0 per channel", kNotNegative);
  line.Add("--build_config", flags.build_config,
           "JSON file of these flags (the build_config of an engine's config.json, or that file); "
           "flags given beside it win");
  line.Add("--input_timing_cache", o.input_timing_cache, "tactic timings to start from");
  line.Add("--output_timing_cache", o.output_timing_cache,
           "where to keep them, in the output folder");
  line.Add("--log_level", flags.log_level, "verbosity: debug, info, warning, error");
  line.Add("--profiling_verbosity", o.profiling_verbosity,
           "recorded in config.json: layer_names_only, detailed or none");
  line.AddSwitch("--batch_invariant", o.batch_invariant,
                 "logits do not depend on what else runs, to the bit (on the CPU they never do): "
                 "linear layers keep to tactics that agree, attention to one kernel; the log tells "
                 "the cost");
  line.AddSwitch("--dry_run", o.dry_run, "do everything but write the weights");
  line.AddSwitch(
      "--visualize_network", o.visualize_network,
      "write the network before and after the passes as DOT, and SVG where dot is found");
}

void AddLimits(CommandLine& line, BuildLimits& limits) {
  line.Add("--max_batch_size", limits.max_batch_size,
           "sequences at once; a default that the runtime may override", {1, kBatchSizes.max});
  line.Add("--max_input_len", limits.max_input_len, "longest prompt; 0: what max_seq_len allows",
           kTokenCounts);
  line.Add("--max_output_len", limits.max_output_len, "longest output; 0: what max_seq_len allows",
           kTokenCounts);
  line.Add("--max_seq_len", limits.max_seq_len,
           "longest sequence; 0: input + output, or the model's positions", kTokenCounts);
  line.Add("--max_num_tokens", limits.max_num_tokens, "packed tokens of one step",
           {1, kTokenCounts.max});
  line.Add("--max_beam_width", limits.max_beam_width, "beams; more than 1 is refused", kPositive);
  line.Add("--tokens_per_block", limits.tokens_per_block, "tokens of one KV block, a power of two",
           {8, 1024});
}

// Plugin flags whose value is recorded and that need no code of their own here.
constexpr std::pair<const char*, const char*> kNoEffect[] = {
    {"--workers", "ranks are built one after the other, each on all processors"},
    {"--context_fmha", "fused attention always runs"},
    {"--context_fmha_fp32_acc", "attention always accumulates in float32"},
    {"--paged_kv_cache", "the KV cache is always paged"},
    {"--remove_input_padding", "tokens are always packed"},
    {"--use_paged_context_fmha", "prefill always reads the paged cache"},
    {"--multiple_profiles", "tactics are always chosen per token count"},
    {"--multi_block_mode", "decode attention splits when it pays"},
    {"--enable_xqa", "grouped-query attention always shares its reads"},
    {"--use_custom_all_reduce", "engines of one rank have no all-reduce"},
    {"--reduce_fusion", "engines of one rank have no all-reduce"},
    {"--nccl_plugin", "collectives are chosen at run time"},
    {"--bert_attention_plugin", "there are no encoder models"},
    {"--lookup_plugin", "the embedding lookup has one form"},
    {"--moe_plugin", "mixtures of experts have one form"},
    {"--mamba_conv1d_plugin", "there are no state-space models"},
    {"--paged_state", "there are no state-space models"},
    {"--attention_qk_half_accumulation", "attention always accumulates in float32"},
    {"--use_context_fmha_for_generation", "one attention op serves both phases"},
    {"--use_fused_mlp", "gate and up are always one GEMM"},
    {"--strongly_typed", "networks are always strongly typed"},
    {"--builder_opt", "every tactic is always considered"},
    {"--opt_num_tokens", "tactics are chosen for every token count"},
    {"--opt_batch_size", "tactics are chosen for every token count"},
    {"--gather_context_logits", "any engine returns logits on request"},
    {"--gather_generation_logits", "any engine returns logits on request"},
    {"--gather_all_token_logits", "any engine returns logits on request"},
    {"--gpus_per_node", "recorded in the checkpoint's mapping"},
    {"--cluster_key", "the device is measured, not looked up"},
};

void AddPlugins(CommandLine& line, Flags& flags) {
  line.Add(
      "--gpt_attention_plugin", flags.gpt_attention_plugin,
      "dtype of attention and, unless --gemm_plugin names one, of the engine: float32, float16, "
      "bfloat16, auto (the checkpoint's)");
  line.Add("--gemm_plugin", flags.gemm_plugin,
           "dtype of the engine: float32, float16, bfloat16, auto (the checkpoint's) or disable");
  line.Add(
      "--kv_cache_dtype", flags.options.kv_dtype,
      "dtype of the KV cache: float32, float16, bfloat16, fp8 (on a GPU) or auto (the engine's, or "
      "fp8 where the checkpoint says so)");
  for (const auto& [name, why] : kNoEffect) line.AddNoEffect(name, why);
}

void AddRefusals(CommandLine& line) {
  line.AddRefused("--model_cls_file", "families are written in C++ against trireme/model_family.h");
  line.AddRefused("--model_cls_name", "families are written in C++ against trireme/model_family.h");
  line.AddRefused("--logits_dtype", "logits are always float32", {"float32"});
  line.AddRefused("--lora_plugin", "adapters at run time do not exist yet", {"disable"});
  line.AddRefused("--lora_dir", "adapters at run time do not exist yet");
  line.AddRefused("--lora_ckpt_source", "adapters at run time do not exist yet");
  line.AddRefused("--lora_target_modules", "adapters at run time do not exist yet");
  line.AddRefused("--max_lora_rank", "adapters at run time do not exist yet");
  line.AddRefused("--max_prompt_embedding_table_size", "prompt tuning does not exist yet", {"0"});
  line.AddRefused("--max_multimodal_len", "prompt tuning does not exist yet", {"0"});
  line.AddRefused("--max_draft_len", "speculative decoding does not exist yet", {"0"});
  line.AddRefused("--speculative_decoding_mode", "speculative decoding does not exist yet");
  line.AddRefused("--use_fp8_context_fmha",
                  "attention reads an FP8 cache and multiplies in 16 bits", {"disable"});
  line.AddRefused("--streamingllm", "sink tokens do not exist yet", {"disable"});
  line.AddRefused("--weight_sparsity", "2:4 sparsity does not exist yet");
  line.AddRefused("--auto_parallel", "sharding is chosen by convert", {"1"});
  line.AddRefused("--strip_plan", "refitting does not exist yet");
  line.AddRefused("--weight_streaming", "weights are mapped from the engine file, never copied");
  line.AddRefused("--enable_debug_output", "intermediate tensors are not exposed yet");
  line.AddRefused("--max_encoder_input_len", "there are no encoder models", {"1024"});
}

// The engine's dtype from the two plugin flags: the GEMM's word counts, then the attention's.
std::string EngineDType(const Flags& flags) {
  for (const std::string& value : {flags.gemm_plugin, flags.gpt_attention_plugin}) {
    if (value != "auto" && value != "disable" && value != "enable") return value;
  }
  return "auto";
}

// Converts --model_dir into a checkpoint in the output folder, for the time of the build.
StatusOr<std::unique_ptr<StagedFolder>> ConvertFirst(Flags& flags) {
  convert::ConvertOptions options;
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<StagedFolder> folder,
                           StagedFolder::Create(flags.options.output_dir));
  options.model_dir = flags.model_dir;
  options.output_dir = folder->path();
  options.dtype = flags.dtype;
  if (flags.use_weight_only) {
    const std::string& precision = flags.options.weight_only_precision;
    options.weight_only_precision = precision.empty() ? "int8" : precision;
    options.group_size = flags.options.group_size;
  }
  Progress progress;
  TRIREME_RETURN_IF_ERROR(convert::Convert(options, [&](const convert::ConvertProgress& p) {
    progress.Update("converting", "bytes", p.done_bytes, p.total_bytes);
  }));
  flags.options.checkpoint_dir = folder->path();
  flags.options.weight_only_precision.clear();
  return folder;
}

void AddFlags(CommandLine& line, Flags& flags) {
  AddInputs(line, flags);
  AddLimits(line, flags.options.limits);
  AddPlugins(line, flags);
  AddRefusals(line);
}

CommandLine MakeCommandLine() {
  return CommandLine(
      kName, "Compile a checkpoint into an engine.",
      {"trireme build --checkpoint_dir ck --output_dir engine",
       "trireme build --checkpoint_dir ck --output_dir engine --gemm_plugin bfloat16 "
       "--max_batch_size 64",
       "trireme build --model_dir Qwen2-0.5B --dtype bfloat16 --output_dir engine",
       "trireme build --model_config config.json --output_dir random --gemm_plugin "
       "bfloat16"});
}

// Checks the flags against each other and completes the options.
Status FinishFlags(Flags& flags, const CommandLine& line) {
  TRIREME_RETURN_IF_ERROR(SetLogLevel(flags.log_level).WithContext("--log_level"));
  BuildOptions& o = flags.options;
  const int inputs = !o.checkpoint_dir.empty() + !o.model_config.empty() + !flags.model_dir.empty();
  if (inputs != 1) {
    return InvalidArgument("give one of --checkpoint_dir, --model_dir and --model_config");
  }
  if (flags.model_dir.empty() && (line.Given("--dtype") || flags.use_weight_only)) {
    return InvalidArgument(
        "--dtype and --use_weight_only go with --model_dir; the dtype of an engine "
        "of a checkpoint is --gemm_plugin's");
  }
  if (o.model_config.empty() && (o.tp_size != 1 || o.pp_size != 1)) {
    return InvalidArgument(
        "--tp_size and --pp_size go with --model_config; a checkpoint has the ranks that `trireme "
        "convert` gave it");
  }
  if (o.model_config.empty() && !flags.use_weight_only &&
      (o.group_size != 0 || (!o.weight_only_precision.empty() && !flags.model_dir.empty()))) {
    return InvalidArgument(
        "--group_size and --weight_only_precision go with --model_config or --use_weight_only");
  }
  constexpr std::string_view kVerbosities[] = {"layer_names_only", "detailed", "none"};
  if (std::ranges::find(kVerbosities, o.profiling_verbosity) == std::end(kVerbosities)) {
    return InvalidArgument(
        "--profiling_verbosity takes layer_names_only, detailed or none, not '{}'",
        o.profiling_verbosity);
  }
  std::error_code ignored;
  if (!flags.model_dir.empty() &&
      std::filesystem::equivalent(flags.model_dir, o.output_dir, ignored)) {
    return InvalidArgument("--output_dir '{}' is the model's own folder; choose another",
                           o.output_dir);
  }
  const std::string& precision = o.weight_only_precision;
  if (precision == "fp8" && o.model_config.empty()) {
    return InvalidArgument(
        "--weight_only_precision fp8 goes with --model_config; 'trireme quantize --qformat fp8' "
        "makes an FP8 checkpoint of real weights");
  }
  if (!precision.empty() && precision != "int8" && precision != "int4" && precision != "fp8") {
    return InvalidArgument(
        "--weight_only_precision takes int8, int4 or, with --model_config, fp8; not '{}'",
        precision);
  }
  if (o.group_size % 32 != 0) {
    return InvalidArgument(
        "--group_size {} is not a multiple of 32, which the kernels read at once", o.group_size);
  }
  if (o.device != "cpu" && o.device != "cuda") {
    return InvalidArgument("--device '{}' is unknown; use cpu or cuda", o.device);
  }
#ifndef TRIREME_HAS_CUDA
  if (o.device == "cuda") {
    return Unimplemented(
        "--device cuda: this program was built without CUDA; build it with -D TRIREME_CUDA=ON");
  }
#endif
  if (o.kv_dtype != "auto") {
    TRIREME_RETURN_IF_ERROR(ParseDType(o.kv_dtype).status().WithContext("--kv_cache_dtype"));
  }
  o.dtype = EngineDType(flags);
  if (o.dtype != "auto") {
    TRIREME_RETURN_IF_ERROR(ParseDType(o.dtype).status().WithContext(
        "--gemm_plugin and --gpt_attention_plugin take a dtype, auto or disable"));
  }
  if (flags.gpt_attention_plugin != "auto") {
    o.plugin_config["gpt_attention_plugin"] = flags.gpt_attention_plugin;
  }
  if (flags.gemm_plugin != "auto") o.plugin_config["gemm_plugin"] = flags.gemm_plugin;
  return CheckOutputFolder("--output_dir", o.output_dir);
}

Status Build(Flags& flags, BuildSummary& summary) {
  std::unique_ptr<StagedFolder> checkpoint;
  if (!flags.model_dir.empty()) {
    TRIREME_ASSIGN_OR_RETURN(checkpoint, ConvertFirst(flags));
  }
  Progress progress;
  const auto report = [&](const BuildProgress& p) {
    progress.Update(fmt::format("rank {}: {}", p.rank, p.stage),
                    p.counts_bytes ? "bytes" : "layers", p.done, p.total);
  };
  return BuildEngine(flags.options, report, summary);
}

int BuildAndTime(Flags& flags, const CommandLine& line) {
  if (const Status status = FinishFlags(flags, line); !status.ok()) {
    return FailUsage(kName, status);
  }
  const auto begin = std::chrono::steady_clock::now();
  BuildSummary summary;
  const Status status = Build(flags, summary);
  if (!status.ok()) return Fail(kName, status);
  fmt::print("Parameters: {}, {} bytes of weights, {} bytes of KV cache per token\n",
             summary.num_parameters, summary.weight_bytes, summary.kv_bytes_per_token);
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin)
          .count();
  const int ranks = flags.options.tp_size * flags.options.pp_size;
  fmt::print("Total time of building all {} engines: {:02}:{:02}:{:02}\n", ranks, seconds / 3600,
             seconds / 60 % 60, seconds % 60);
  return kExitOk;
}

}  // namespace

int RunBuild(std::span<const std::string> arguments) {
  Flags flags;
  CommandLine line = MakeCommandLine();
  AddFlags(line, flags);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (flags.build_config.empty()) return BuildAndTime(flags, line);

  // The file's flags first, so that those of the command line win.
  StatusOr<std::vector<std::string>> all = FlagsOfBuildConfig(flags.build_config, line);
  if (!all.ok()) return Fail(kName, all.status());
  all->insert(all->end(), arguments.begin(), arguments.end());
  Flags both;
  CommandLine second = MakeCommandLine();
  AddFlags(second, both);
  if (const std::optional<int> code = second.Parse(*all)) return *code;
  return BuildAndTime(both, second);
}

}  // namespace trireme::cli
