// SPDX-License-Identifier: Apache-2.0
// trireme lora: work on LoRA adapter files. `lora merge` makes an ordinary model of a base and its
// adapters; `lora convert` turns an adapter's tensors from one file format into the other.
#include <fmt/core.h>

#include "base/log.h"
#include "base/status.h"
#include "cli.h"
#include "commands.h"
#include "convert/lora_convert.h"
#include "convert/lora_merge.h"
#include "progress.h"

namespace trireme::cli {
namespace {

int RunMerge(std::span<const std::string> arguments) {
  constexpr std::string_view kName = "lora merge";
  convert::LoraMergeOptions options;
  std::string log_level = "info";
  CommandLine line(kName, "Merge PEFT LoRA adapters into a Hugging Face folder.",
                   {"trireme lora merge --base_dir Llama-3-8B --lora_dir adapter --dtype float16 "
                    "--output_dir merged",
                    "trireme lora merge --base_dir base --lora_dir first --lora_dir second "
                    "--output_dir merged"});
  line.Add("--base_dir", options.base_dir, "Hugging Face model folder");
  line.AddList("--lora_dir", options.lora_dirs, "adapter folder; may be repeated, merged in order");
  line.Add("--scale", options.scale, "factor on every adapter, on top of its own");
  line.Add("--dtype", options.dtype, "float32, float16, bfloat16, or auto: as published");
  line.Add("--tokenizer_dir", options.tokenizer_dir, "folder of the tokenizer; empty: the base's");
  line.Add("--output_dir", options.output_dir, "folder to write");
  line.Add("--log_level", log_level, "verbosity: debug, info, warning, error");
  for (const char* flag : {"--base_dir", "--lora_dir", "--output_dir"}) line.Require(flag);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  for (const Status& status :
       {SetLogLevel(log_level).WithContext("--log_level"), convert::CheckOptions(options),
        CheckOutputFolder("--output_dir", options.output_dir)}) {
    if (!status.ok()) return FailUsage(kName, status);
  }
  Status status;
  {
    Progress progress;
    status = convert::MergeLora(options, [&](const convert::ConvertProgress& p) {
      progress.Update("merging", "bytes", p.done_bytes, p.total_bytes);
    });
  }
  if (!status.ok()) return Fail(kName, status);
  fmt::print("Merged {} adapter{} into {}\n", options.lora_dirs.size(),
             options.lora_dirs.size() == 1 ? "" : "s", options.output_dir);
  return kExitOk;
}

int RunConvertFile(std::span<const std::string> arguments) {
  constexpr std::string_view kName = "lora convert";
  std::string from;
  std::string to;
  CommandLine line(kName, "Turn a torch .bin file into safetensors or back, tensor for tensor.",
                   {"trireme lora convert adapter_model.safetensors adapter_model.bin",
                    "trireme lora convert adapter_model.bin adapter_model.safetensors"});
  line.AddPositional("IN", from, "file to read: .safetensors, .bin, .pt or .pth");
  line.AddPositional("OUT", to, "file to write, of the other form");
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (from.empty() || to.empty()) {
    return FailUsage(kName, InvalidArgument("give the file to read and the file to write"));
  }
  for (const Status& status :
       {convert::CheckTensorFileNames(from, to), CheckOutputPath("the file to write", to)}) {
    if (!status.ok()) return FailUsage(kName, status);
  }
  if (const Status status = convert::ConvertTensorFile(from, to); !status.ok()) {
    return Fail(kName, status);
  }
  fmt::print("Wrote {}\n", to);
  return kExitOk;
}

}  // namespace

int RunLora(std::span<const std::string> arguments) {
  if (!arguments.empty() && arguments[0] == "merge") return RunMerge(arguments.subspan(1));
  if (!arguments.empty() && arguments[0] == "convert") {
    return RunConvertFile(arguments.subspan(1));
  }
  const bool help = !arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h");
  fmt::print(help ? stdout : stderr,
             "trireme lora: say what to do\n\n  merge      merge adapters into a base model\n"
             "  convert    turn a .bin file into safetensors or back\n\n"
             "`trireme lora merge --help` shows the flags of one of them.\n");
  return help ? kExitOk : kExitUsage;
}

}  // namespace trireme::cli
