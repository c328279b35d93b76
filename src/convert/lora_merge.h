// SPDX-License-Identifier: Apache-2.0
// Merging LoRA adapters into a Hugging Face folder: another Hugging Face folder, tensor by tensor.
#pragma once

#include <string>
#include <vector>

#include "convert/convert.h"

namespace trireme::convert {

struct LoraMergeOptions {
  std::string base_dir;
  std::vector<std::string> lora_dirs;  // in order; a later one's whole tensors win
  double scale = 1.0;                  // of every adapter, on top of its own
  std::string dtype = "auto";          // float32, float16, bfloat16; auto: each tensor's own
  std::string tokenizer_dir;           // "": the base's
  std::string output_dir;
};

// What is wrong with the options, whatever the models. MergeLora checks them too.
Status CheckOptions(const LoraMergeOptions& options);

// Writes model.safetensors, config.json and the tokenizer's files. The sum is computed in float32
// and rounded once. Errors name the adapter, tensor or option at fault.
Status MergeLora(const LoraMergeOptions& options, const ConvertProgressFn& progress);

}  // namespace trireme::convert
