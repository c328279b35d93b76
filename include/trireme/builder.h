// SPDX-License-Identifier: Apache-2.0
// Builder: compiles a checkpoint directory into an engine directory.
//
//   trireme::BuildOptions options{.checkpoint_dir = "ck", .output_dir = "engine"};
//   trireme::Status status = trireme::BuildEngine(options, {});
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "trireme/model_config.h"
#include "trireme/status.h"

namespace trireme {

// Limits are recorded as the engine's defaults; a runtime may set others without a rebuild.
struct BuildLimits {
  int max_batch_size = 256;
  int max_input_len = 0;   // 0: max_seq_len - 1
  int max_output_len = 0;  // 0: what max_seq_len leaves
  int max_seq_len = 0;     // 0: max_input_len + max_output_len, else the model's own positions
  int max_num_tokens = 8192;
  int max_beam_width = 1;
  int tokens_per_block = 64;
};

struct BuildOptions {
  std::string checkpoint_dir;
  // Instead of a checkpoint: a checkpoint or Hugging Face config.json. The engine holds no weights;
  // they are drawn from N(0, 0.02) when it is loaded. For benchmarks.
  std::string model_config;
  std::string output_dir = "engine_outputs";
  std::string device = "cpu";
  std::string dtype = "auto";     // of weights and activations: "auto" keeps the checkpoint's
  std::string kv_dtype = "auto";  // "auto": as dtype
  BuildLimits limits;
  int tp_size = 1;  // with model_config only
  int pp_size = 1;
  // With model_config only: "", "int8", "int4", or "fp8" for weights and activations alike.
  std::string weight_only_precision;
  int group_size = 0;  // of int4 with model_config; 0: per channel
  int num_threads = 0;
  std::string input_timing_cache;
  std::string output_timing_cache = "model.cache";  // relative to output_dir; "": not written
  bool time_tactics = true;                         // false: the kernels' own first guess
  std::string force_tactic;  // only tactics whose kernel name holds this text; for tests
  // The logits of a token do not depend on what else is in its step, to the bit. On the CPU they never
  // do; on a GPU linear layers keep to tactics that agree and attention to one kernel, at a cost that
  // the log tells. Needs the GPU while building.
  bool batch_invariant = false;
  bool run_passes = true;  // false: the network as the family wrote it; for tests
  bool dry_run = false;    // everything but the weights
  bool visualize_network =
      false;  // network.dot before and after the passes, SVG where dot is found
  std::string profiling_verbosity = "layer_names_only";
  // plugin_config entries as given, recorded in config.json.
  std::map<std::string, std::string> plugin_config;
  std::string network_name;
};

struct BuildProgress {
  std::string stage;  // "timing tactics", "packing weights"
  int rank = 0;
  int64_t done = 0;
  int64_t total = 0;
  bool counts_bytes = false;  // else layers
};
using BuildProgressFn = std::function<void(const BuildProgress&)>;

// What a build made, over all ranks.
struct BuildSummary {
  // As published: a table that serves as embedding and head counts once (with model_config, whose
  // `tie_word_embeddings` is known), and nothing is padded.
  int64_t num_parameters = 0;
  int64_t weight_bytes = 0;        // of these parameters in the engine's dtypes, scales included
  int64_t kv_bytes_per_token = 0;  // of all layers
};

// Builds every rank. Errors name the file or option at fault.
Status BuildEngine(const BuildOptions& options, const BuildProgressFn& progress);
Status BuildEngine(const BuildOptions& options, const BuildProgressFn& progress,
                   BuildSummary& summary);

}  // namespace trireme
