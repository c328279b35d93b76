// SPDX-License-Identifier: Apache-2.0
#include "calibrate/quantize_model.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/mapped_file.h"
#include "calibrate/observe.h"
#include "convert/convert.h"
#include "formats/text_dataset.h"
#include "trireme/builder.h"
#include "trireme/tokenizer.h"

namespace trireme::calibrate {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxSamples = 100'000;
constexpr int kMaxSampleTokens = 32'768;
constexpr size_t kLeastTokens = 2;  // one to read and one to score

// A folder that is deleted with the object.
class ScratchFolder {
 public:
  explicit ScratchFolder(fs::path path) : path_(std::move(path)) {}
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string Sub(std::string_view name) const { return (path_ / name).string(); }

 private:
  const fs::path path_;
};

struct Samples {
  std::vector<TokenSample> calibration;
  std::vector<TokenSample> held_out;
};

bool IsOneOf(std::string_view value, std::initializer_list<std::string_view> values) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// Cuts the records into samples of at most max_tokens; up to `wanted`, or all there are.
StatusOr<std::vector<TokenSample>> Tokenize(const std::vector<TextRecord>& records,
                                            const Tokenizer& tokenizer, size_t max_tokens,
                                            size_t wanted) {
  std::vector<TokenSample> samples;
  for (const TextRecord& record : records) {
    TRIREME_ASSIGN_OR_RETURN(const TokenSample tokens,
                             tokenizer.Encode(record.text, /*add_special_tokens=*/true));
    for (size_t begin = 0; begin < tokens.size(); begin += max_tokens) {
      const size_t end = std::min(begin + max_tokens, tokens.size());
      if (end - begin >= kLeastTokens) {
        samples.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                             tokens.begin() + static_cast<std::ptrdiff_t>(end));
      }
      if (samples.size() >= wanted) return samples;
      if (!record.is_whole_file) break;
    }
  }
  return samples;
}

// The held-out samples are spread evenly over the text, so that both parts speak of the same.
Samples Split(std::vector<TokenSample> all, const QuantizeOptions& options) {
  constexpr size_t kOneIn = 5;
  const size_t held_out =
      std::min<size_t>(static_cast<size_t>(options.num_held_out), all.size() / kOneIn);
  Samples samples;
  for (size_t i = 0; i < all.size(); ++i) {
    const bool keep = held_out > 0 && (i + 1) * held_out / all.size() > i * held_out / all.size();
    if (keep) {
      samples.held_out.push_back(std::move(all[i]));
    } else if (samples.calibration.size() < static_cast<size_t>(options.calib_size)) {
      samples.calibration.push_back(std::move(all[i]));
    }
  }
  return samples;
}

StatusOr<Samples> ReadSamples(const QuantizeOptions& options, const ModelConfig& config) {
  const int64_t wanted = int64_t{options.calib_size} + options.num_held_out;
  TRIREME_ASSIGN_OR_RETURN(
      const std::vector<TextRecord> records,
      ReadTextDataset(options.calib_dataset,
                      {.column = options.calib_text_column, .max_records = wanted}));
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                           Tokenizer::Load(options.model_dir));
  if (tokenizer->vocab_size() > config.vocab_size) {
    return InvalidArgument("the tokenizer knows {} tokens, the model {}", tokenizer->vocab_size(),
                           config.vocab_size);
  }
  int max_tokens = options.calib_max_seq_length;
  if (config.max_position_embeddings > 0) {
    max_tokens = std::min(max_tokens, config.max_position_embeddings);
  }
  TRIREME_ASSIGN_OR_RETURN(
      std::vector<TokenSample> all,
      Tokenize(records, *tokenizer, static_cast<size_t>(max_tokens), static_cast<size_t>(wanted)));
  if (all.empty()) {
    return InvalidArgument("'{}' holds no text of {} tokens or more", options.calib_dataset,
                           kLeastTokens);
  }
  return Split(std::move(all), options);
}

convert::ConvertOptions ConvertOptionsOf(const QuantizeOptions& options) {
  convert::ConvertOptions convert;
  convert.model_dir = options.model_dir;
  convert.output_dir = options.output_dir;
  convert.dtype = options.dtype;
  convert.tp_size = options.tp_size;
  convert.pp_size = options.pp_size;
  if (options.qformat == "int8_wo") convert.weight_only_precision = "int8";
  if (options.qformat == "int4_wo") convert.weight_only_precision = "int4";
  convert.group_size = options.group_size;
  convert.float8 = options.qformat == "fp8";
  convert.float8_kv_cache = options.kv_cache_dtype == "fp8";
  return convert;
}

class Quantizer {
 public:
  Quantizer(const QuantizeOptions& options, const QuantizeProgressFn& progress)
      : options_(options),
        progress_(progress),
        scratch_(fs::path(options.output_dir) / ".calibration") {}

  StatusOr<QuantizeReport> Run() {
    convert::ConvertOptions quantized = ConvertOptionsOf(options_);
    if (options_.calib_dataset.empty()) {
      TRIREME_RETURN_IF_ERROR(Convert(quantized, "quantizing"));
      return report_;
    }
    convert::ConvertOptions plain;
    plain.model_dir = options_.model_dir;
    plain.dtype = options_.dtype;
    plain.output_dir = scratch_.Sub("before");
    TRIREME_ASSIGN_OR_RETURN(const ModelConfig config, convert::CheckpointConfigOf(plain));
    TRIREME_ASSIGN_OR_RETURN(samples_, ReadSamples(options_, config));
    report_.num_calibration_samples = static_cast<int64_t>(samples_.calibration.size());
    for (const TokenSample& sample : samples_.calibration) {
      report_.num_calibration_tokens += static_cast<int64_t>(sample.size());
    }
    report_.num_held_out_samples = static_cast<int64_t>(samples_.held_out.size());
    TRIREME_RETURN_IF_ERROR(Convert(plain, "converting"));
    if (quantized.float8) {
      TRIREME_RETURN_IF_ERROR(Build(plain.output_dir, "observed", /*run_passes=*/false));
      TRIREME_ASSIGN_OR_RETURN(
          quantized.input_largest,
          LargestInputs(scratch_.Sub("observed"), samples_.calibration, Stage("calibrating")));
    }
    TRIREME_RETURN_IF_ERROR(Convert(quantized, "quantizing"));
    TRIREME_RETURN_IF_ERROR(Score(plain, quantized));
    return report_;
  }

 private:
  eval::EvalProgressFn Stage(std::string_view name) const {
    return [this, name](int64_t done, int64_t total) {
      if (progress_) progress_({name, "samples", done, total});
    };
  }

  Status Convert(const convert::ConvertOptions& options, std::string_view stage) const {
    return convert::Convert(options, [&](const convert::ConvertProgress& p) {
      if (progress_) progress_({stage, "bytes", p.done_bytes, p.total_bytes});
    });
  }

  Status Build(const std::string& checkpoint, std::string_view name, bool run_passes) const {
    const int longest =
        std::max(eval::LongestOf(samples_.calibration), eval::LongestOf(samples_.held_out));
    BuildOptions build;
    build.checkpoint_dir = checkpoint;
    build.output_dir = scratch_.Sub(name);
    build.limits.max_batch_size = 1;
    build.limits.max_seq_len = longest;
    build.limits.max_num_tokens = longest;
    build.output_timing_cache = "";
    build.time_tactics = false;
    build.run_passes = run_passes;
    return BuildEngine(build, {});
  }

  // Perplexity of one-rank engines before and after. The cache stays in the model's dtype: the CPU
  // has no other.
  Status Score(const convert::ConvertOptions& plain, convert::ConvertOptions quantized) {
    if (samples_.held_out.empty()) return OkStatus();
    quantized.output_dir = scratch_.Sub("after");
    quantized.tp_size = quantized.pp_size = 1;
    quantized.float8_kv_cache = false;
    TRIREME_RETURN_IF_ERROR(Convert(quantized, "converting"));
    TRIREME_RETURN_IF_ERROR(Build(plain.output_dir, "engine_before", /*run_passes=*/true));
    TRIREME_ASSIGN_OR_RETURN(report_.before, ScoreEngine("engine_before", "scoring before"));
    TRIREME_RETURN_IF_ERROR(Build(quantized.output_dir, "engine_after", /*run_passes=*/true));
    TRIREME_ASSIGN_OR_RETURN(report_.after, ScoreEngine("engine_after", "scoring after"));
    report_.same_best = eval::ShareOfEqual(report_.before->best, report_.after->best);
    return OkStatus();
  }

  // Each held-out sample is one window.
  StatusOr<eval::Perplexity> ScoreEngine(std::string_view name, std::string_view stage) const {
    const int longest = eval::LongestOf(samples_.held_out);
    eval::RunnerOptions options;
    options.max_seq_len = longest;
    TRIREME_ASSIGN_OR_RETURN(eval::SequenceRunner runner,
                             eval::SequenceRunner::Load(scratch_.Sub(name), std::move(options)));
    return eval::MeasurePerplexity(runner, samples_.held_out, {longest, longest}, Stage(stage));
  }

  const QuantizeOptions& options_;
  const QuantizeProgressFn& progress_;
  const ScratchFolder scratch_;
  Samples samples_;
  QuantizeReport report_;
};

}  // namespace

Status CheckOptions(const QuantizeOptions& o) {
  if (IsOneOf(o.qformat, {"int8_sq", "int4_awq", "w4a8_awq"})) {
    return Unimplemented("--qformat {} does not exist yet; use fp8, int8_wo or int4_wo", o.qformat);
  }
  if (!IsOneOf(o.qformat, {"fp8", "int8_wo", "int4_wo", "full_prec"})) {
    return InvalidArgument("--qformat '{}' is unknown; use fp8, int8_wo, int4_wo or full_prec",
                           o.qformat);
  }
  if (o.kv_cache_dtype == "int8") {
    return Unimplemented("--kv_cache_dtype int8 does not exist yet; use fp8 or none");
  }
  if (!o.kv_cache_dtype.empty() && o.kv_cache_dtype != "fp8") {
    return InvalidArgument("--kv_cache_dtype '{}' is unknown; use fp8 or none", o.kv_cache_dtype);
  }
  if (o.calib_size < 1 || o.calib_size > kMaxSamples) {
    return InvalidArgument("--calib_size {} must be from 1 to {}", o.calib_size, kMaxSamples);
  }
  const auto least = static_cast<int>(kLeastTokens);
  if (o.calib_max_seq_length < least || o.calib_max_seq_length > kMaxSampleTokens) {
    return InvalidArgument("--calib_max_seq_length {} must be from {} to {}",
                           o.calib_max_seq_length, least, kMaxSampleTokens);
  }
  if (o.qformat == "fp8" && o.calib_dataset.empty()) {
    return InvalidArgument(
        "--qformat fp8 needs --calib_dataset: a text file, JSON lines, or a folder of them");
  }
  return convert::CheckOptions(ConvertOptionsOf(o));
}

StatusOr<QuantizeReport> QuantizeModel(const QuantizeOptions& options,
                                       const QuantizeProgressFn& progress) {
  TRIREME_RETURN_IF_ERROR(CheckOptions(options));
  return Quantizer(options, progress).Run();
}

}  // namespace trireme::calibrate
