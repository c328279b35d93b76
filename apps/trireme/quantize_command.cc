// SPDX-License-Identifier: Apache-2.0
// trireme quantize: a Hugging Face folder becomes a quantized checkpoint. Replaces quantize.py.
#include <fmt/core.h>

#include "base/log.h"
#include "calibrate/quantize_model.h"
#include "cli.h"
#include "commands.h"
#include "progress.h"

namespace trireme::cli {
namespace {

constexpr std::string_view kName = "quantize";

struct Flags {
  calibrate::QuantizeOptions options;
  std::string kv_cache_dtype = "none";
  std::string log_level = "warning";
};

void AddFlags(CommandLine& line, Flags& f) {
  calibrate::QuantizeOptions& o = f.options;
  line.Add("--model_dir", o.model_dir, "Hugging Face model folder");
  line.Require("--model_dir");
  line.Add("--output_dir", o.output_dir, "checkpoint directory to write");
  line.Add("--dtype", o.dtype, "float32, float16, bfloat16, or auto: as published");
  line.Add("--qformat", o.qformat, "fp8, int8_wo, int4_wo, or full_prec: no quantization");
  line.Add("--kv_cache_dtype", f.kv_cache_dtype, "fp8, or none: as the model");
  line.Add("--group_size", o.group_size, "int4_wo: inputs per scale; 0: one scale per channel",
           kNotNegative);
  line.Add("--tp_size", o.tp_size, "tensor-parallel ways", {1, 1024});
  line.Add("--pp_size", o.pp_size, "pipeline-parallel ways", {1, 1024});
  line.Add("--calib_dataset", o.calib_dataset,
           "local text: a text file, JSON lines, or a folder of them");
  line.Add("--calib_text_column", o.calib_text_column,
           "key of a JSON line that holds the text; default: text, else article");
  line.Add("--calib_size", o.calib_size, "samples to calibrate on");
  line.Add("--calib_max_seq_length", o.calib_max_seq_length, "tokens of a sample");
  line.Add("--log_level", f.log_level, "verbosity: debug, info, warning, error");
}

void AddOthers(CommandLine& line) {
  line.AddNoEffect("--seed", "samples are taken in the order of the text, nothing is drawn");
  line.AddNoEffect("--device", "calibration runs on the CPU");
  line.AddNoEffect("--batch_size", "samples run one by one");
  line.AddNoEffect("--tokenizer_max_seq_length", "--calib_max_seq_length cuts the samples");
  line.AddRefused("--awq_block_size", "AWQ does not exist yet; groups of int4_wo: --group_size",
                  {"128"});
  line.AddRefused("--nemo_ckpt_path", "NeMo checkpoints are not read; use the Hugging Face form");
  line.AddRefused("--decoder_type", "it belongs to NeMo checkpoints, which are not read");
  line.AddRefused("--calib_tp_size", "calibration runs on one rank", {"1"});
  line.AddRefused("--calib_pp_size", "calibration runs on one rank", {"1"});
}

void PrintReport(const calibrate::QuantizeOptions& options,
                 const calibrate::QuantizeReport& report) {
  fmt::print("checkpoint          {}\n", options.output_dir);
  if (options.qformat == "fp8") {
    fmt::print("calibrated on       {} samples, {} tokens\n", report.num_calibration_samples,
               report.num_calibration_tokens);
  }
  if (report.before && report.after) {
    fmt::print("held-out text       {} samples, {} scored tokens\n", report.num_held_out_samples,
               report.before->num_tokens);
    fmt::print("perplexity before   {:.4f}\n", report.before->value);
    fmt::print("perplexity after    {:.4f} ({:+.2f} %)\n", report.after->value,
               (report.after->value / report.before->value - 1.0) * 100.0);
    fmt::print("same likeliest      {:.2f} % of the scored tokens\n", report.same_best * 100.0);
    if (options.kv_cache_dtype == "fp8") {
      fmt::print("                    (with the cache in the model's dtype)\n");
    }
  } else if (options.calib_dataset.empty()) {
    fmt::print("quality             not measured; give --calib_dataset for a report\n");
  } else {
    fmt::print("quality             not measured; the text is too short to keep some of it back\n");
  }
}

}  // namespace

int RunQuantize(std::span<const std::string> arguments) {
  Flags flags;
  CommandLine line(
      kName, "Quantize a Hugging Face folder to a checkpoint and report the loss.",
      {"trireme quantize --model_dir Llama-3.1-8B --qformat fp8 --kv_cache_dtype fp8 "
       "--calib_dataset articles.jsonl --output_dir ck",
       "trireme quantize --model_dir Qwen2-0.5B --qformat int8_wo --calib_dataset text/ "
       "--output_dir ck"});
  AddFlags(line, flags);
  AddOthers(line);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (const Status status = SetLogLevel(flags.log_level); !status.ok()) {
    return FailUsage(kName, status.WithContext("--log_level"));
  }
  const bool no_kv = flags.kv_cache_dtype == "none" || flags.kv_cache_dtype == "None";
  if (!no_kv) flags.options.kv_cache_dtype = flags.kv_cache_dtype;
  for (const Status& status : {calibrate::CheckOptions(flags.options),
                               CheckOutputFolder("--output_dir", flags.options.output_dir)}) {
    if (!status.ok()) return FailUsage(kName, status);
  }

  StatusOr<calibrate::QuantizeReport> report = [&] {
    Progress progress;
    return calibrate::QuantizeModel(flags.options, [&](const calibrate::QuantizeProgress& p) {
      progress.Update(p.stage, p.unit, p.done, p.total);
    });
  }();
  if (!report.ok()) return Fail(kName, report.status());
  PrintReport(flags.options, *report);
  return kExitOk;
}

}  // namespace trireme::cli
