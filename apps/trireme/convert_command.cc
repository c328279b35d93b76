// SPDX-License-Identifier: Apache-2.0
// trireme convert: a Hugging Face folder becomes a checkpoint. Replaces convert_checkpoint.py.
#include <fmt/core.h>

#include <chrono>

#include "base/log.h"
#include "base/status.h"
#include "cli.h"
#include "commands.h"
#include "convert/convert.h"
#include "formats/checkpoint.h"
#include "models/count_parameters.h"
#include "progress.h"

namespace trireme::cli {
namespace {

constexpr std::string_view kName = "convert";

struct Flags {
  convert::ConvertOptions options;
  bool use_weight_only = false;
  std::string weight_only_precision = "int8";
  bool per_group = false;
  int group_size = 128;
  std::string log_level = "info";
};

void AddFlags(CommandLine& line, Flags& f) {
  convert::ConvertOptions& o = f.options;
  line.Add("--model_dir", o.model_dir, "Hugging Face model folder");
  line.Require("--model_dir");
  line.Add("--output_dir", o.output_dir, "checkpoint directory to write");
  line.Add("--dtype", o.dtype, "float32, float16, bfloat16, or auto: as published");
  line.Add("--tp_size", o.tp_size, "tensor-parallel ways", {1, 1024});
  line.Add("--pp_size", o.pp_size, "pipeline-parallel ways", {1, 1024});
  line.AddSwitch("--use_weight_only", f.use_weight_only, "quantize the weights of linear layers");
  line.Add("--weight_only_precision", f.weight_only_precision,
           "with --use_weight_only: int8 or int4");
  line.AddSwitch("--per_group", f.per_group,
                 "int4: one scale per group of inputs, not per channel");
  line.Add("--group_size", f.group_size, "with --per_group: inputs per scale", kPositive);
  line.AddSwitch("--use_parallel_embedding", o.use_parallel_embedding, "shard the embedding table");
  line.Add("--embedding_sharding_dim", o.embedding_sharding_dim, "0: vocabulary, 1: hidden",
           {0, 1});
  line.Add("--workers", o.workers, "tensors converted at once", {1, 256});
  line.AddSwitch("--save_config_only", o.save_config_only, "write config.json alone");
  line.Add("--log_level", f.log_level, "verbosity: debug, info, warning, error");
}

void AddOthers(CommandLine& line) {
  line.AddNoEffect("--load_by_shard", "tensors are always streamed one by one");
  line.AddNoEffect("--load_model_on_cpu", "conversion never needs a GPU");
  line.AddNoEffect("--use_embedding_sharing",
                   "a tied head is detected; table and head are packed for their own use");
  line.AddNoEffect("--disable_weight_only_quant_plugin", "there is one form of weight-only GEMM");
  line.AddNoEffect("--qwen_type", "the model's config.json says what it is");
  line.AddNoEffect("--logits_dtype", "logits are always float32");
  line.AddRefused("--meta_ckpt_dir",
                  "original .pth checkpoints are not read; use the Hugging Face form");
  line.AddRefused("--smoothquant,--sq", "SmoothQuant does not exist yet");
  line.AddRefused("--per_channel", "SmoothQuant does not exist yet");
  line.AddRefused("--per_token", "SmoothQuant does not exist yet");
  line.AddRefused("--int8_kv_cache", "an INT8 KV cache does not exist yet");
  line.AddRefused("--fp8_kv_cache", "use `trireme quantize --kv_cache_dtype fp8`");
  line.AddRefused("--use_fp8_rowwise",
                  "row-wise FP8 does not exist yet; per tensor: `trireme quantize`");
  line.AddRefused("--use_qserve", "W4A8 does not exist yet");
  line.AddRefused("--calib_dataset", "what needs calibration is made by `trireme quantize`");
  line.AddRefused("--dataset_cache_dir", "nothing here is calibrated yet");
  line.AddRefused("--modelopt_quant_ckpt_path", "quantized weight files are not read yet");
  line.AddRefused("--ammo_quant_ckpt_path", "quantized weight files are not read yet");
  line.AddRefused("--quant_ckpt_path", "quantized weight files are not read yet");
  line.AddRefused("--hf_lora_dir", "adapters at run time do not exist yet");
  line.AddRefused("--moe_tp_mode", "experts are always cut like the other layers", {"2"});
  line.AddRefused("--moe_renorm_mode", "config.json says how a router's choice is weighted");
  for (const char* name :
       {"--vocab_size", "--n_positions", "--n_layer", "--n_head", "--n_kv_head", "--n_embd",
        "--inter_size", "--rms_norm_eps", "--hidden_act", "--rotary_base", "--rotary_scaling",
        "--moe_num_experts", "--moe_top_k"}) {
    line.AddRefused(name,
                    "shapes come from config.json; for random weights use `trireme build "
                    "--model_config`");
  }
}

Status FinishFlags(const CommandLine& line, Flags& flags) {
  if (flags.use_weight_only) {
    flags.options.weight_only_precision = flags.weight_only_precision;
    if (flags.weight_only_precision == "int4_gptq") {
      return Unimplemented(
          "--weight_only_precision int4_gptq: GPTQ checkpoints are not read yet; use int8 or int4");
    }
    if (flags.per_group) flags.options.group_size = flags.group_size;
  } else if (line.Given("--weight_only_precision") || flags.per_group) {
    return InvalidArgument("--weight_only_precision and --per_group go with --use_weight_only");
  }
  if (line.Given("--group_size") && !flags.per_group) {
    return InvalidArgument("--group_size goes with --per_group");
  }
  return convert::CheckOptions(flags.options);
}

// Of families whose networks are built; of others there is nothing to say.
void PrintParameters(const std::string& checkpoint) {
  const StatusOr<ModelConfig> config = LoadCheckpointConfig(checkpoint);
  if (!config.ok()) return;
  const StatusOr<int64_t> count = models::CountParameters(*config);
  if (count.ok()) fmt::print("Parameters: {}\n", *count);
}

}  // namespace

int RunConvert(std::span<const std::string> arguments) {
  Flags flags;
  CommandLine line(kName, "Convert a Hugging Face folder to a checkpoint.",
                   {"trireme convert --model_dir Qwen2-0.5B --output_dir ck --dtype bfloat16",
                    "trireme convert --model_dir Llama-3-8B --output_dir ck --workers 2",
                    "trireme convert --model_dir Llama-3-8B --output_dir ck --use_weight_only "
                    "--weight_only_precision int4 --per_group"});
  AddFlags(line, flags);
  AddOthers(line);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (const Status status = SetLogLevel(flags.log_level).WithContext("--log_level"); !status.ok()) {
    return FailUsage(kName, status);
  }
  for (const Status& status :
       {FinishFlags(line, flags), CheckOutputFolder("--output_dir", flags.options.output_dir)}) {
    if (!status.ok()) return FailUsage(kName, status);
  }
  const auto begin = std::chrono::steady_clock::now();
  Status status;
  {
    Progress progress;
    status = convert::Convert(flags.options, [&](const convert::ConvertProgress& p) {
      progress.Update("converting", "bytes", p.done_bytes, p.total_bytes);
    });
  }
  if (!status.ok()) return Fail(kName, status);
  PrintParameters(flags.options.output_dir);
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin)
          .count();
  fmt::print("Total time of converting checkpoints: {:02}:{:02}:{:02}\n", seconds / 3600,
             seconds / 60 % 60, seconds % 60);
  return kExitOk;
}

}  // namespace trireme::cli
