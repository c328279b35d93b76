// SPDX-License-Identifier: Apache-2.0
// Quantizes a Hugging Face folder to a checkpoint: calibrates on text where the format asks for it,
// and reports what the quantization cost. One call at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "eval/perplexity.h"

namespace trireme::calibrate {

struct QuantizeOptions {
  std::string model_dir;
  std::string output_dir = "exported_model";
  std::string dtype = "auto";
  // "fp8", "int8_wo", "int4_wo" (per channel) or "full_prec".
  std::string qformat = "full_prec";
  std::string kv_cache_dtype;  // "" or "fp8"
  int group_size = 0;          // of int4_wo; 0: per channel
  int tp_size = 1;
  int pp_size = 1;
  // Local text. "": no calibration (FP8 refuses that) and no report.
  std::string calib_dataset;
  std::string calib_text_column;
  int calib_size = 512;            // samples
  int calib_max_seq_length = 512;  // tokens of a sample
  int num_held_out = 32;           // samples kept from calibration for the report, at most
};

struct QuantizeReport {
  int64_t num_calibration_samples = 0;
  int64_t num_calibration_tokens = 0;
  int64_t num_held_out_samples = 0;
  std::optional<eval::Perplexity> before;
  std::optional<eval::Perplexity> after;
  double same_best = 0.0;  // share of scored places where both find the same token likeliest
};

struct QuantizeProgress {
  std::string_view stage;  // "calibrating"
  std::string_view unit;   // "samples", "bytes"
  int64_t done = 0;
  int64_t total = 0;
};
using QuantizeProgressFn = std::function<void(const QuantizeProgress&)>;

// What is wrong with the options, whatever the model. QuantizeModel checks them too.
Status CheckOptions(const QuantizeOptions& options);

// Writes the checkpoint. With text, engines of the model before and after are built for the CPU in
// a folder inside output_dir, which is deleted at the end: about three times the model's size.
StatusOr<QuantizeReport> QuantizeModel(const QuantizeOptions& options,
                                       const QuantizeProgressFn& progress);

}  // namespace trireme::calibrate
