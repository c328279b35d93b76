// SPDX-License-Identifier: Apache-2.0
#include "convert/convert.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <set>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/mutex.h"
#include "base/staged_folder.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "convert/shard.h"
#include "formats/checkpoint.h"
#include "formats/checkpoint_quant.h"
#include "formats/hf_config.h"
#include "formats/hf_folder.h"
#include "formats/model_facts.h"
#include "formats/safetensors.h"
#include "formats/tokenizer_files.h"
#include "models/hf_view.h"
#include "quantize/float8.h"
#include "quantize/weight_only.h"
#include "tensor/finite.h"

namespace trireme::convert {
namespace {

constexpr int kMaxRanks = 1024;
constexpr int kMaxWorkers = 256;
// Of a tensor, converted before more of it is read: what a worker holds of one at a time.
constexpr int64_t kValuesAtOnce = 4 << 20;

Status ApplyOptions(const ConvertOptions& options, ModelConfig& config) {
  if (options.dtype != "auto") config.dtype = options.dtype;
  TRIREME_ASSIGN_OR_RETURN(const DType dtype, ParseDType(config.dtype));
  if (dtype != DType::kFloat32 && dtype != DType::kFloat16 && dtype != DType::kBFloat16) {
    return InvalidArgument("--dtype {} is not one of float32, float16, bfloat16", config.dtype);
  }
  config.dtype = DTypeName(dtype);
  config.kv_dtype = config.dtype;
  config.mapping.tp_size = options.tp_size;
  config.mapping.pp_size = options.pp_size;
  config.mapping.world_size = options.tp_size * options.pp_size;
  if (config.num_hidden_layers % options.pp_size != 0) {
    return InvalidArgument("{} layers are not a multiple of --pp_size {}", config.num_hidden_layers,
                           options.pp_size);
  }
  config.use_parallel_embedding = options.use_parallel_embedding;
  config.embedding_sharding_dim = options.embedding_sharding_dim;
  // The format's key says that the file holds one table for both uses; ours always holds two.
  config.share_embedding_table = false;
  if (options.weight_only_precision == "int8") {
    config.quantization.quant_algo = "W8A16";
  } else if (options.weight_only_precision == "int4") {
    config.quantization.quant_algo = options.group_size > 0 ? "W4A16_AWQ" : "W4A16";
    if (options.group_size > 0) config.quantization.group_size = options.group_size;
  } else if (options.float8) {
    config.quantization.quant_algo = "FP8";
  }
  if (options.float8_kv_cache) config.quantization.kv_cache_quant_algo = "FP8";
  return OkStatus();
}

// One tensor of one rank's file, and how to make it.
struct Job {
  const TensorRule* rule = nullptr;
  int rank = 0;
  std::string name;
};

StatusOr<WeightQuant> QuantOf(const ModelConfig& config, const TensorRule& rule) {
  if (!rule.quantizable) return WeightQuant{};
  return QuantOfWeight(config.quantization, rule.name);
}

// `shape` with another last dimension, or without one for 0 columns.
Shape WithColumns(const Shape& shape, int64_t columns) {
  if (shape.rank() == 3) {
    return columns == 0 ? Shape{shape[0], shape[1]} : Shape{shape[0], shape[1], columns};
  }
  return columns == 0 ? Shape{shape[0]} : Shape{shape[0], columns};
}

std::string InputScaleName(const std::string& weight_name) {
  return SiblingName(weight_name, "activation_scaling_factor");
}

std::string KvScaleName(int local_layer) {
  return fmt::format("transformer.layers.{}.attention.kv_cache_scaling_factor", local_layer);
}

// Masks and rotary tables that older publications stored beside the parameters.
bool IsNoParameter(std::string_view name) {
  for (const std::string_view end : {"inv_freq", ".attn.bias", ".attn.masked_bias",
                                     ".attention.bias", ".attention.masked_bias"}) {
    if (name.ends_with(end)) return true;
  }
  return false;
}

// Weights that are no numbers give text that means nothing, so they are refused here, by name.
// float16 ends at 65504, bfloat16 near 3e38: what did not fit has become an infinity.
Status CheckFinite(const HostTensor& tensor, const std::vector<std::string>& sources,
                   const std::vector<TensorView>& parts) {
  if (!HasNonFinite(tensor.view())) return OkStatus();
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!HasNonFinite(parts[i])) continue;
    return InvalidArgument(
        "the published tensor '{}' holds NaN or infinite values; the file is damaged, or the "
        "training failed: fetch the model again",
        sources[i]);
  }
  return InvalidArgument("the tensor holds values that {} cannot; use --dtype bfloat16 or float32",
                         DTypeName(tensor.dtype()));
}

Status CheckOutputFolder(const ConvertOptions& options) {
  std::error_code error;
  if (std::filesystem::equivalent(options.model_dir, options.output_dir, error)) {
    return InvalidArgument("--output_dir '{}' is the model's own folder; choose another",
                           options.output_dir);
  }
  return OkStatus();
}

// Shapes of the whole model's tensors as its network wants them, by checkpoint name. Empty for a
// family whose networks are not built yet.
StatusOr<std::map<std::string, Shape>> NetworkShapes(const ModelFamily& family,
                                                     const ModelConfig& config) {
  ModelConfig whole = config;
  whole.mapping = {};
  std::map<std::string, Shape> shapes;
  StatusOr<Network> network = family.BuildNetwork(whole);
  if (network.status().code() == StatusCode::kUnimplemented) return shapes;
  if (!network.ok()) return network.status();
  for (const NetworkWeight& weight : network->weights()) {
    shapes.emplace(weight.name, Shape(std::span<const int64_t>(weight.shape)));
  }
  return shapes;
}

// Ids that end or begin a text are one number or, for some, a list; -1 stands for none. A value of
// another kind would be missed only when a text does not end.
Status CheckTokenIds(const HfConfig& hf) {
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    const bool is_list = hf.JsonOf(key).starts_with("[");
    const Status status = is_list ? hf.GetInts({key}).status() : hf.GetInt({key}).status();
    TRIREME_RETURN_IF_ERROR(status);
  }
  return OkStatus();
}

struct Source {
  models::FamilyConfig family;
  bool shares_embedding = false;  // by the family's reading of config.json
  std::optional<bool> tied;       // tie_word_embeddings, when config.json says it
};

StatusOr<Source> ReadConfig(const ConvertOptions& options) {
  TRIREME_RETURN_IF_ERROR(CheckOptions(options));
  TRIREME_ASSIGN_OR_RETURN(const HfConfig hf, HfConfig::Load(options.model_dir));
  TRIREME_RETURN_IF_ERROR(CheckTokenIds(hf));
  Source source;
  TRIREME_ASSIGN_OR_RETURN(source.family, models::ReadHfConfig(hf));
  TRIREME_ASSIGN_OR_RETURN(source.tied, hf.GetBool({"tie_word_embeddings"}));
  source.shares_embedding = source.family.config.share_embedding_table;
  TRIREME_RETURN_IF_ERROR(ApplyOptions(options, source.family.config));
  return source;
}

class Converter {
 public:
  // Files go to `folder`.
  Converter(const ConvertOptions& options, const Source& source, const std::string& folder,
            const ConvertProgressFn& progress)
      : options_(options),
        config_(source.family.config),
        tied_(source.tied),
        folder_(folder),
        progress_(progress) {}

  Status Run(const ModelFamily& family) {
    TRIREME_ASSIGN_OR_RETURN(source_, OpenHfWeights(options_.model_dir));
    TRIREME_ASSIGN_OR_RETURN(rules_, family.TensorRules(config_));
    TRIREME_ASSIGN_OR_RETURN(network_shapes_, NetworkShapes(family, config_));
    TRIREME_ASSIGN_OR_RETURN(dtype_, ParseDType(config_.dtype));
    TRIREME_RETURN_IF_ERROR(PlanJobs());
    TRIREME_RETURN_IF_ERROR(CheckComplete());
    TRIREME_RETURN_IF_ERROR(CreateWriters());
    WarnOfUnused();
    ThreadPool pool(options_.workers, /*pin=*/false);
    std::atomic<bool> failed{false};
    pool.ParallelFor(static_cast<int64_t>(jobs_.size()), [&](int64_t i, int) {
      if (failed.load(std::memory_order_relaxed)) return;
      const Job& job = jobs_[static_cast<size_t>(i)];
      Status status = RunJob(job).WithContext(job.name);
      if (status.ok()) return;
      failed.store(true);
      MutexLock lock(mutex_);
      if (error_.ok()) error_ = std::move(status);
    });
    {
      MutexLock lock(mutex_);
      TRIREME_RETURN_IF_ERROR(error_);
    }
    for (const auto& writer : writers_) {
      TRIREME_RETURN_IF_ERROR(WriteKvScales(*writer));
      TRIREME_RETURN_IF_ERROR(writer->Finish());
    }
    return OkStatus();
  }

  // The head's weights were taken from the embedding's. Known after Run.
  bool head_is_embedding() const { return head_is_embedding_; }

 private:
  const std::vector<std::string>* SourcesOf(const TensorRule& rule) const {
    if (source_->Has(rule.sources.front())) return &rule.sources;
    for (const std::vector<std::string>& sources : rule.alternatives) {
      if (source_->Has(sources.front())) return &sources;
    }
    return rule.optional ? nullptr : &rule.sources;
  }

  Status PlanJobs() {
    for (const TensorRule& rule : rules_) {
      const std::vector<std::string>* sources = SourcesOf(rule);
      if (sources == nullptr) continue;
      TRIREME_RETURN_IF_ERROR(CheckTied(rule, *sources));
      for (int rank = 0; rank < config_.mapping.world_size; ++rank) {
        TRIREME_ASSIGN_OR_RETURN(const std::optional<std::string> name,
                                 NameOnRank(rule, config_, rank));
        if (name) jobs_.push_back({&rule, rank, *name});
      }
    }
    return OkStatus();
  }

  // A missing head is the embedding table when config.json does not deny it; a config.json that does
  // not speak of it is taken so too, as publishers do, but said.
  Status CheckTied(const TensorRule& rule, const std::vector<std::string>& sources) {
    const std::string& missing = rule.sources.front();
    const bool falls_back = rule.split == TensorSplit::kVocabRows && sources != rule.sources;
    const bool from_table = std::any_of(rules_.begin(), rules_.end(), [&](const TensorRule& other) {
      const std::vector<std::string>* table = SourcesOf(other);
      return other.split == TensorSplit::kEmbedding && table != nullptr && *table == sources;
    });
    if (!falls_back || !from_table) return OkStatus();
    head_is_embedding_ = true;
    if (tied_ == false) {
      return InvalidArgument(
          "the published files hold no '{}', and config.json says tie_word_embeddings false; fetch "
          "the missing file, or set tie_word_embeddings to true if '{}' serves for both",
          missing, sources.front());
    }
    if (!tied_) {
      LogWarning(
          "convert_tied tensor={} taken_from={} reason=\"config.json has no "
          "tie_word_embeddings\"",
          missing, sources.front());
    }
    return OkStatus();
  }

  // Every weight of the network must come from some rule.
  Status CheckComplete() const {
    std::set<std::string> made;
    for (const Job& job : jobs_) made.insert(job.rule->name);
    for (const auto& [name, shape] : network_shapes_) {
      if (made.contains(name)) continue;
      return InvalidArgument(
          "the model needs '{}', but the published files hold no tensor for it; is config.json of "
          "another model?",
          name);
    }
    return OkStatus();
  }

  // Shape of the whole tensor from the published ones, before any is read.
  StatusOr<Shape> WholeShape(const TensorRule& rule) const {
    Shape whole;
    for (const std::string& name : *SourcesOf(rule)) {
      TRIREME_ASSIGN_OR_RETURN(const TensorView view, source_->Describe(name));
      if (view.shape.rank() != 1 && view.shape.rank() != 2) {
        return InvalidArgument("tensor '{}' has shape {}, expected one or two dimensions", name,
                               view.shape.ToString());
      }
      if (!IsFloat(view.dtype)) {
        return InvalidArgument("tensor '{}' is {}, expected a float dtype", name,
                               DTypeName(view.dtype));
      }
      Shape shape = view.shape;
      if (rule.transpose && shape.rank() == 2) std::swap(shape[0], shape[1]);
      if (whole.rank() == 0) {
        whole = shape;
      } else if (whole.rank() != shape.rank() || (shape.rank() == 2 && whole[1] != shape[1])) {
        return InvalidArgument("tensor '{}' of shape {} cannot be stacked on {}", name,
                               shape.ToString(), whole.ToString());
      } else {
        whole[0] += shape[0];
      }
    }
    if (whole[0] % rule.num_parts != 0) {
      return InvalidArgument("the published tensors have {} rows, which do not make {} equal parts",
                             whole[0], rule.num_parts);
    }
    whole[0] /= rule.num_parts;
    TRIREME_RETURN_IF_ERROR(CheckNetworkShape(rule, whole));
    return CheckedShape(rule, config_, whole);
  }

  Status CheckNetworkShape(const TensorRule& rule, const Shape& whole) const {
    const auto wanted = network_shapes_.find(rule.name);
    if (wanted == network_shapes_.end()) return OkStatus();
    // A stack of matrices is published as the rows of all of them.
    const Shape& shape = wanted->second;
    const bool stack = rule.num_matrices > 0 && shape.rank() == 3;
    if ((stack ? Shape{shape[0] * shape[1], shape[2]} : shape) == whole) return OkStatus();
    const std::vector<std::string>& sources = *SourcesOf(rule);
    return InvalidArgument("the published tensor{} '{}' {} shape {}, config.json makes it {}",
                           sources.size() > 1 ? "s" : "", fmt::join(sources, "', '"),
                           sources.size() > 1 ? "stacked have" : "has", whole.ToString(),
                           wanted->second.ToString());
  }

  Status CreateWriters() {
    std::vector<std::vector<SafetensorsWriter::Entry>> entries(
        static_cast<size_t>(config_.mapping.world_size));
    for (const Job& job : jobs_) {
      StatusOr<Shape> whole = WholeShape(*job.rule);
      if (!whole.ok()) return whole.status().WithContext(job.rule->name);
      ModelConfig config = config_;
      config.mapping.rank = job.rank;
      const StatusOr<Slice> slice = SliceOf(*job.rule, config, *whole);
      if (!slice.ok()) return slice.status().WithContext(job.rule->name);
      TRIREME_RETURN_IF_ERROR(
          AddEntries(job, slice->shape, entries[static_cast<size_t>(job.rank)]));
    }
    for (auto& of_rank : entries) {
      for (int layer = 0; layer < NumKvScales(); ++layer) {
        of_rank.push_back({KvScaleName(layer), DType::kFloat32, Shape{1}});
      }
    }
    for (int rank = 0; rank < config_.mapping.world_size; ++rank) {
      for (const auto& entry : entries[static_cast<size_t>(rank)]) {
        total_bytes_ += DTypeBytes(entry.dtype, entry.shape.num_elements());
      }
      TRIREME_ASSIGN_OR_RETURN(
          writers_.emplace_back(),
          SafetensorsWriter::Create(RankFile(folder_, rank),
                                    std::move(entries[static_cast<size_t>(rank)]), {}));
    }
    return OkStatus();
  }

  // A parameter that nobody reads usually means a wrong result later, so it is said now.
  void WarnOfUnused() const {
    std::set<std::string, std::less<>> used;
    for (const Job& job : jobs_) {
      const std::vector<std::string>& names = *SourcesOf(*job.rule);
      used.insert(names.begin(), names.end());
    }
    std::string first;
    int count = 0;
    for (const std::string& name : source_->Names()) {
      if (used.contains(name) || IsNoParameter(name)) continue;
      if (count++ == 0) first = name;
    }
    if (count > 0) {
      LogWarning("convert_unused_tensors count={} first={} architecture={}", count, first,
                 config_.architecture);
    }
  }

  Status AddEntries(const Job& job, const Shape& shape,
                    std::vector<SafetensorsWriter::Entry>& entries) const {
    TRIREME_ASSIGN_OR_RETURN(const WeightQuant quant, QuantOf(config_, *job.rule));
    if (quant.kind == WeightQuant::Kind::kNone) {
      entries.push_back({job.name, dtype_, shape});
      return OkStatus();
    }
    if (quant.kind == WeightQuant::Kind::kFloat8) {
      if (job.rule->num_matrices > 0) {
        return Unimplemented("FP8 does not exist for mixtures of experts yet");
      }
      entries.push_back({job.name, DType::kFloat8E4M3, shape});
      entries.push_back({ScaleName(job.name, quant), DType::kFloat32, Shape{1}});
      entries.push_back({InputScaleName(job.name), DType::kFloat32, Shape{1}});
      return OkStatus();
    }
    const bool int4 = quant.kind == WeightQuant::Kind::kInt4;
    const int64_t columns = shape[shape.rank() - 1];
    entries.push_back({job.name, DType::kInt8, WithColumns(shape, int4 ? columns / 2 : columns)});
    const int64_t groups =
        quant.group_size == 0 ? 0 : (columns + quant.group_size - 1) / quant.group_size;
    entries.push_back({ScaleName(job.name, quant), dtype_, WithColumns(shape, groups)});
    return OkStatus();
  }

  Status RunJob(const Job& job) {
    ModelConfig config = config_;
    config.mapping.rank = job.rank;
    TRIREME_ASSIGN_OR_RETURN(const Shape whole, WholeShape(*job.rule));
    TRIREME_ASSIGN_OR_RETURN(const Slice slice, SliceOf(*job.rule, config, whole));
    std::vector<TensorView> parts;
    for (const std::string& name : *SourcesOf(*job.rule)) {
      TRIREME_ASSIGN_OR_RETURN(parts.emplace_back(), source_->Get(name));
    }
    TRIREME_ASSIGN_OR_RETURN(const WeightQuant quant, QuantOf(config_, *job.rule));
    const bool quantized = quant.kind != WeightQuant::Kind::kNone;
    const SliceMaker maker(*job.rule, parts, whole, slice);
    const int64_t columns = slice.column_end - slice.column_begin;
    const int64_t rows_at_once =
        std::max<int64_t>(1, kValuesAtOnce / std::max<int64_t>(1, columns));
    const auto for_rows = [&](auto take) {
      for (int64_t row = 0; row < maker.num_rows(); row += rows_at_once) {
        const int64_t end = std::min(row + rows_at_once, maker.num_rows());
        // Quantization sees the published values, not their rounding to the checkpoint's dtype.
        const HostTensor rows = maker.Rows(row, end, quantized ? DType::kFloat32 : dtype_);
        TRIREME_RETURN_IF_ERROR(CheckFinite(rows, *SourcesOf(*job.rule), parts));
        TRIREME_RETURN_IF_ERROR(
            Status(take(rows)).WithContext(fmt::format("rows {} to {}", row, end)));
      }
      return OkStatus();
    };
    float float8_scale = 1.0f;
    if (quant.kind == WeightQuant::Kind::kFloat8) {
      // One scale serves the whole tensor, so all of it is seen twice.
      float largest = 0.0f;
      TRIREME_RETURN_IF_ERROR(for_rows([&](const HostTensor& rows) -> Status {
        TRIREME_ASSIGN_OR_RETURN(const float of_rows, quantize::LargestMagnitude(rows.view()));
        largest = std::max(largest, of_rows);
        return OkStatus();
      }));
      float8_scale = quantize::Float8Scale(largest);
      TRIREME_RETURN_IF_ERROR(WriteFloat8Scales(job, float8_scale));
    }
    TRIREME_RETURN_IF_ERROR(for_rows(
        [&](const HostTensor& rows) { return WriteRows(job, rows, quant, float8_scale); }));
    for (const std::string& name : *SourcesOf(*job.rule)) source_->Release(name);
    return OkStatus();
  }

  Status WriteRows(const Job& job, const HostTensor& rows, const WeightQuant& quant,
                   float float8_scale) {
    SafetensorsWriter& writer = *writers_[static_cast<size_t>(job.rank)];
    if (quant.kind == WeightQuant::Kind::kNone) {
      TRIREME_RETURN_IF_ERROR(writer.Append(job.name, rows.view().bytes()));
      Report(rows.view().num_bytes());
      return OkStatus();
    }
    if (quant.kind == WeightQuant::Kind::kFloat8) {
      const HostTensor codes = quantize::QuantizeFloat8(rows.view(), float8_scale);
      TRIREME_RETURN_IF_ERROR(writer.Append(job.name, codes.view().bytes()));
      Report(codes.view().num_bytes());
      return OkStatus();
    }
    TRIREME_ASSIGN_OR_RETURN(const quantize::QuantizedWeight weight,
                             quantize::QuantizeWeightOnly(rows.view(), quant, dtype_));
    TRIREME_RETURN_IF_ERROR(writer.Append(job.name, weight.values.view().bytes()));
    TRIREME_RETURN_IF_ERROR(
        writer.Append(ScaleName(job.name, quant), weight.scales.view().bytes()));
    Report(weight.values.view().num_bytes() + weight.scales.view().num_bytes());
    return OkStatus();
  }

  Status WriteFloat8Scales(const Job& job, float scale) {
    SafetensorsWriter& writer = *writers_[static_cast<size_t>(job.rank)];
    const std::string layer = job.rule->name.substr(0, job.rule->name.rfind('.'));
    const auto seen = options_.input_largest.find(layer);
    if (seen == options_.input_largest.end()) {
      return InvalidArgument("calibration has not seen the inputs of this layer");
    }
    const float input_scale = quantize::Float8Scale(seen->second);
    TRIREME_RETURN_IF_ERROR(writer.Write(ScaleName(job.name, {WeightQuant::Kind::kFloat8}),
                                         std::as_bytes(std::span(&scale, 1))));
    TRIREME_RETURN_IF_ERROR(
        writer.Write(InputScaleName(job.name), std::as_bytes(std::span(&input_scale, 1))));
    Report(2 * sizeof(float));
    return OkStatus();
  }

  // Layers of one rank that keep an FP8 cache.
  int NumKvScales() const {
    return options_.float8_kv_cache ? config_.num_hidden_layers / config_.mapping.pp_size : 0;
  }

  // The cache holds keys and values as they are: e4m3 reaches far beyond them.
  Status WriteKvScales(SafetensorsWriter& writer) const {
    constexpr float kOne = 1.0f;
    for (int layer = 0; layer < NumKvScales(); ++layer) {
      TRIREME_RETURN_IF_ERROR(writer.Write(KvScaleName(layer), std::as_bytes(std::span(&kOne, 1))));
    }
    return OkStatus();
  }

  void Report(int64_t bytes) {
    MutexLock lock(mutex_);
    done_bytes_ += bytes;
    if (progress_) progress_({done_bytes_, total_bytes_});
  }

  const ConvertOptions& options_;
  const ModelConfig& config_;
  const std::optional<bool> tied_;
  bool head_is_embedding_ = false;
  const std::string& folder_;
  const ConvertProgressFn& progress_;
  std::unique_ptr<TensorSource> source_;
  std::vector<TensorRule> rules_;
  std::map<std::string, Shape> network_shapes_;
  DType dtype_ = DType::kFloat32;
  std::vector<Job> jobs_;
  std::vector<std::unique_ptr<SafetensorsWriter>> writers_;
  int64_t total_bytes_ = 0;
  Mutex mutex_;
  Status error_ GUARDED_BY(mutex_);
  int64_t done_bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace

Status CheckOptions(const ConvertOptions& options) {
  if (options.model_dir.empty()) return InvalidArgument("--model_dir is missing");
  if (options.tp_size < 1 || options.pp_size < 1 || options.tp_size > kMaxRanks / options.pp_size) {
    return InvalidArgument("--tp_size {} x --pp_size {} must be from 1 to {} ranks",
                           options.tp_size, options.pp_size, kMaxRanks);
  }
  if (options.workers < 1 || options.workers > kMaxWorkers) {
    return InvalidArgument("--workers {} must be from 1 to {}", options.workers, kMaxWorkers);
  }
  const std::string& precision = options.weight_only_precision;
  if (!precision.empty() && precision != "int8" && precision != "int4") {
    return InvalidArgument("--weight_only_precision '{}' is unknown; use int8 or int4", precision);
  }
  if (options.group_size < 0 || (options.group_size > 0 && precision != "int4")) {
    return InvalidArgument("--group_size {} goes with --weight_only_precision int4 only",
                           options.group_size);
  }
  if (options.group_size % 32 != 0) {
    return InvalidArgument(
        "--group_size {} is not a multiple of 32, which the kernels read at once",
        options.group_size);
  }
  if (options.float8 && !precision.empty()) {
    return InvalidArgument("weights are either FP8 or {}, not both", precision);
  }
  if (options.dtype != "auto") {
    StatusOr<DType> dtype = ParseDType(options.dtype);
    if (!dtype.ok()) return dtype.status().WithContext("--dtype");
    if (*dtype != DType::kFloat32 && *dtype != DType::kFloat16 && *dtype != DType::kBFloat16) {
      return InvalidArgument("--dtype {} is not one of float32, float16, bfloat16", options.dtype);
    }
  }
  if (options.embedding_sharding_dim != 0 && options.embedding_sharding_dim != 1) {
    return InvalidArgument("--embedding_sharding_dim must be 0 (vocabulary) or 1 (hidden), not {}",
                           options.embedding_sharding_dim);
  }
  return OkStatus();
}

StatusOr<ModelConfig> CheckpointConfigOf(const ConvertOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(Source source, ReadConfig(options));
  return std::move(source.family.config);
}

Status Convert(const ConvertOptions& options, const ConvertProgressFn& progress) {
  TRIREME_ASSIGN_OR_RETURN(const Source source, ReadConfig(options));
  const models::FamilyConfig& family = source.family;
  TRIREME_RETURN_IF_ERROR(CheckOutputFolder(options));
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<StagedFolder> output,
                           StagedFolder::Create(options.output_dir));
  ModelConfig config = family.config;
  if (source.shares_embedding) NoteSharedEmbedding(config);
  if (!options.save_config_only) {
    Converter converter(options, source, output->path(), progress);
    TRIREME_RETURN_IF_ERROR(converter.Run(*family.family));
    if (converter.head_is_embedding()) NoteSharedEmbedding(config);
    TRIREME_RETURN_IF_ERROR(CopyTokenizerFiles(options.model_dir, output->path()));
  }
  TRIREME_RETURN_IF_ERROR(
      WriteFile((std::filesystem::path(output->path()) / "config.json").string(),
                CheckpointConfigJson(config)));
  return output->Commit("config.json");
}

}  // namespace trireme::convert
