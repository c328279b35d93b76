// SPDX-License-Identifier: Apache-2.0
// Convert: a Hugging Face folder becomes a checkpoint directory, tensor by tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "trireme/model_config.h"
#include "trireme/status.h"

namespace trireme::convert {

struct ConvertOptions {
  std::string model_dir;
  std::string output_dir = "tllm_checkpoint";
  std::string dtype = "auto";  // float32, float16, bfloat16; auto: as published
  int tp_size = 1;
  int pp_size = 1;
  // "": none; "int8" or "int4": weight-only.
  std::string weight_only_precision;
  int group_size = 0;  // of int4; 0: per output channel
  // FP8 weights and inputs of linear layers, with one static scale each.
  bool float8 = false;
  // With float8: the largest |input| of each quantized module ("transformer.layers.0.mlp.fc").
  std::map<std::string, float> input_largest;
  bool float8_kv_cache = false;
  bool use_parallel_embedding = false;
  int embedding_sharding_dim = 0;
  bool use_embedding_sharing = false;
  int workers = 1;  // tensors converted at once
  bool save_config_only = false;
};

// What is wrong with the options, whatever the model. Convert checks them too.
Status CheckOptions(const ConvertOptions& options);

struct ConvertProgress {
  int64_t done_bytes = 0;  // of the checkpoint
  int64_t total_bytes = 0;
};
using ConvertProgressFn = std::function<void(const ConvertProgress&)>;

// The checkpoint configuration the options make of the folder's config.json.
StatusOr<ModelConfig> CheckpointConfigOf(const ConvertOptions& options);

// Writes config.json, rank{r}.safetensors and the tokenizer's files. Memory: tens of megabytes per
// worker, and a float32 copy of a tensor whose edit needs all its rows. Errors name the tensor, file
// or option at fault, and leave the output folder as it was.
Status Convert(const ConvertOptions& options, const ConvertProgressFn& progress);

}  // namespace trireme::convert
