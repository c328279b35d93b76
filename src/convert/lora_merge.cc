// SPDX-License-Identifier: Apache-2.0
#include "convert/lora_merge.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/log.h"
#include "base/log_text.h"
#include "base/mapped_file.h"
#include "base/staged_folder.h"
#include "convert/lora_adapter.h"
#include "formats/hf_folder.h"
#include "formats/safetensors.h"
#include "formats/tokenizer_files.h"

namespace trireme::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr uint64_t kMaxConfigBytes = 16 << 20;

// "org/Model-7B" and a cache's "models--org--Model-7B" -> "model-7b".
std::string LastName(std::string path) {
  while (path.ends_with('/')) path.pop_back();
  path.erase(0, path.rfind('/') + 1);
  if (path.starts_with("models--")) path.erase(0, path.rfind("--") + 2);
  std::ranges::transform(path, path.begin(), [](unsigned char c) { return std::tolower(c); });
  return path;
}

// values[i][j] += scale * sum_r b[i][r] a[r][j], or of [j][i] where transposed.
Status AddUpdate(const LoraAdapter& adapter, const LoraUpdate& update, double scale,
                 const Shape& shape, std::vector<float>& values) {
  TRIREME_ASSIGN_OR_RETURN(const TensorView a_view, adapter.tensors().Get(update.a));
  TRIREME_ASSIGN_OR_RETURN(const TensorView b_view, adapter.tensors().Get(update.b));
  const int64_t rank = a_view.shape[0];
  const int64_t in = a_view.shape[1];
  const int64_t out = b_view.shape[0];
  const Shape want = update.transposed ? Shape{in, out} : Shape{out, in};
  if (shape != want) {
    return InvalidArgument("'{}' of {} times '{}' of {} does not fit the base's {}", update.b,
                           b_view.shape.ToString(), update.a, a_view.shape.ToString(),
                           shape.ToString());
  }
  const std::vector<float> a = ToFloats(a_view);
  const std::vector<float> b = ToFloats(b_view);
  const auto factor = static_cast<float>(update.scale * scale);
  std::vector<float> row(static_cast<size_t>(in));
  for (int64_t o = 0; o < out; ++o) {
    std::fill(row.begin(), row.end(), 0.0f);
    for (int64_t r = 0; r < rank; ++r) {
      const float weight = b[o * rank + r];
      for (int64_t i = 0; i < in; ++i) row[i] += weight * a[r * in + i];
    }
    for (int64_t i = 0; i < in; ++i) {
      values[update.transposed ? i * out + o : o * in + i] += factor * row[i];
    }
  }
  return OkStatus();
}

class Merger {
 public:
  Merger(const LoraMergeOptions& options, const ConvertProgressFn& progress)
      : options_(options), progress_(progress) {}

  Status Run() {
    TRIREME_RETURN_IF_ERROR(CheckOptions(options_));
    if (options_.dtype != "auto") {
      TRIREME_ASSIGN_OR_RETURN(dtype_, ParseDType(options_.dtype));
    }
    TRIREME_ASSIGN_OR_RETURN(base_, OpenHfWeights(options_.base_dir));
    TRIREME_RETURN_IF_ERROR(ReadConfig());
    for (const std::string& dir : options_.lora_dirs) {
      TRIREME_ASSIGN_OR_RETURN(adapters_.emplace_back(), LoraAdapter::Open(dir));
      TRIREME_RETURN_IF_ERROR(CheckTargets(*adapters_.back()).WithContext("'" + dir + "'"));
      WarnOfOtherBase(*adapters_.back());
    }
    TRIREME_ASSIGN_OR_RETURN(output_, StagedFolder::Create(options_.output_dir));
    TRIREME_RETURN_IF_ERROR(WriteWeights());
    TRIREME_RETURN_IF_ERROR(CopyTokenizerFiles(options_.base_dir, output_->path()));
    if (!options_.tokenizer_dir.empty()) {
      TRIREME_RETURN_IF_ERROR(CopyTokenizerFiles(options_.tokenizer_dir, output_->path()));
    }
    TRIREME_RETURN_IF_ERROR(WriteFile(Staged("config.json"), NewConfig()));
    return output_->Commit("config.json");
  }

 private:
  // A tensor of the output: where its values start from.
  struct Entry {
    std::string name;
    const TensorSource* source = nullptr;
    std::string source_name;
    DType dtype = DType::kFloat32;
    Shape shape;
  };

  Status ReadConfig() {
    const std::string path = (fs::path(options_.base_dir) / "config.json").string();
    TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
    config_ = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!config_.is_object()) return InvalidArgument("'{}' is not a JSON object", path);
    if (config_.contains("quantization_config")) {
      return Unimplemented(
          "'{}' has a 'quantization_config'; adapters are merged into float models", path);
    }
    return OkStatus();
  }

  std::string Staged(std::string_view name) const {
    return (fs::path(output_->path()) / name).string();
  }

  // The shapes of a model's relatives fit too, but the sum would mean nothing. Names are all that
  // there is to tell by: of the folder, of what the base calls itself, of a cache's snapshot.
  void WarnOfOtherBase(const LoraAdapter& adapter) const {
    if (adapter.base_name().empty()) return;
    const std::string wanted = LastName(adapter.base_name());
    const auto own = config_.find("_name_or_path");
    std::string names;
    if (own != config_.end() && own->is_string()) names = LastName(own->get<std::string>());
    std::error_code ignored;
    for (const fs::path& part : fs::weakly_canonical(options_.base_dir, ignored)) {
      names += "/" + LastName(part.string());
    }
    if (("/" + names + "/").find("/" + wanted + "/") != std::string::npos) return;
    LogWarning("lora_base_differs adapter={} made_for={} base={} reason={}", adapter.dir(),
               Quoted(adapter.base_name()), options_.base_dir,
               Quoted("merged into another model than it was made for, an adapter spoils it"));
  }

  Status CheckTargets(const LoraAdapter& adapter) const {
    for (const auto& [name, update] : adapter.updates()) {
      if (base_->Has(name) || adapter.replacements().contains(name)) continue;
      return InvalidArgument(
          "the base has no tensor '{}' to update; is this adapter of another model, or the tensor "
          "tied to the embedding?",
          name);
    }
    return OkStatus();
  }

  // The adapter that replaces a tensor whole, the last one of several.
  const LoraAdapter* ReplacerOf(const std::string& name) const {
    for (auto adapter = adapters_.rbegin(); adapter != adapters_.rend(); ++adapter) {
      if ((*adapter)->replacements().contains(name)) return adapter->get();
    }
    return nullptr;
  }

  StatusOr<std::vector<Entry>> Entries() const {
    std::set<std::string> names;
    for (const std::string& name : base_->Names()) names.insert(name);
    for (const auto& adapter : adapters_) {
      for (const auto& [name, source] : adapter->replacements()) names.insert(name);
    }
    std::vector<Entry> entries;
    for (const std::string& name : names) {
      Entry entry{.name = name, .source = base_.get(), .source_name = name};
      std::optional<DType> own;
      if (base_->Has(name)) {
        TRIREME_ASSIGN_OR_RETURN(const TensorView view, base_->Describe(name));
        own = view.dtype;
      }
      if (const LoraAdapter* replacer = ReplacerOf(name)) {
        entry.source = &replacer->tensors();
        entry.source_name = replacer->replacements().at(name);
      }
      TRIREME_ASSIGN_OR_RETURN(const TensorView view, entry.source->Describe(entry.source_name));
      entry.shape = view.shape;
      entry.dtype = own.value_or(view.dtype);
      // Buffers of integers and booleans stay what they are.
      if (IsFloat(view.dtype) && options_.dtype != "auto") entry.dtype = dtype_;
      if (!IsFloat(view.dtype)) entry.dtype = view.dtype;
      entries.push_back(std::move(entry));
    }
    return entries;
  }

  Status WriteWeights() {
    TRIREME_ASSIGN_OR_RETURN(const std::vector<Entry> entries, Entries());
    std::vector<SafetensorsWriter::Entry> table;
    int64_t total = 0;
    for (const Entry& entry : entries) {
      table.push_back({entry.name, entry.dtype, entry.shape});
      total += DTypeBytes(entry.dtype, entry.shape.num_elements());
    }
    TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsWriter> writer,
                             SafetensorsWriter::Create(Staged("model.safetensors"),
                                                       std::move(table), {{"format", "pt"}}));
    int64_t done = 0;
    for (const Entry& entry : entries) {
      TRIREME_RETURN_IF_ERROR(WriteEntry(entry, *writer).WithContext(entry.name));
      done += DTypeBytes(entry.dtype, entry.shape.num_elements());
      if (progress_) progress_({done, total});
    }
    return writer->Finish();
  }

  Status WriteEntry(const Entry& entry, SafetensorsWriter& writer) const {
    TRIREME_ASSIGN_OR_RETURN(const TensorView view, entry.source->Get(entry.source_name));
    std::vector<float> values;
    // What replaces a tensor replaces what earlier adapters made of it.
    bool begun = entry.source == base_.get();
    for (const auto& adapter : adapters_) {
      begun = begun || entry.source == &adapter->tensors();
      const auto update = adapter->updates().find(entry.name);
      if (!begun || update == adapter->updates().end()) continue;
      if (values.empty()) values = ToFloats(view);
      TRIREME_RETURN_IF_ERROR(
          AddUpdate(*adapter, update->second, options_.scale, entry.shape, values));
    }
    const auto bytes_of = [](const TensorView& v) {
      return std::span(v.data, static_cast<size_t>(v.num_bytes()));
    };
    if (values.empty() && view.dtype == entry.dtype) {
      TRIREME_RETURN_IF_ERROR(writer.Write(entry.name, bytes_of(view)));
    } else {
      HostTensor result(entry.dtype, entry.shape);
      const bool merged = !values.empty();
      ConvertFloats(merged ? DType::kFloat32 : view.dtype,
                    merged ? reinterpret_cast<const std::byte*>(values.data()) : view.data,
                    entry.dtype, result.bytes().data(), entry.shape.num_elements());
      TRIREME_RETURN_IF_ERROR(writer.Write(entry.name, result.bytes()));
    }
    entry.source->Release(entry.source_name);
    return OkStatus();
  }

  // The base's configuration with the dtype and the vocabulary of what was written.
  std::string NewConfig() const {
    ordered_json config = config_;
    if (options_.dtype != "auto") {
      const bool older = config.contains("torch_dtype") || !config.contains("dtype");
      config[older ? "torch_dtype" : "dtype"] = DTypeName(dtype_);
    }
    for (const auto& adapter : adapters_) {
      for (const auto& [name, source] : adapter->replacements()) {
        const StatusOr<TensorView> view = adapter->tensors().Describe(source);
        const bool embedding = name.ends_with("embed_tokens.weight") ||
                               name.ends_with("wte.weight") ||
                               name.ends_with("word_embeddings.weight");
        if (view.ok() && embedding) config["vocab_size"] = view->shape[0];
        // A head of its own is not tied to the embedding any more.
        if (name == "lm_head.weight" && !base_->Has(name)) config["tie_word_embeddings"] = false;
      }
    }
    return config.dump(2) + "\n";
  }

  const LoraMergeOptions& options_;
  const ConvertProgressFn& progress_;
  DType dtype_ = DType::kFloat32;
  std::unique_ptr<TensorSource> base_;
  ordered_json config_;
  std::vector<std::unique_ptr<LoraAdapter>> adapters_;
  std::unique_ptr<StagedFolder> output_;
};

}  // namespace

Status CheckOptions(const LoraMergeOptions& options) {
  if (options.base_dir.empty()) return InvalidArgument("--base_dir is missing");
  if (options.lora_dirs.empty()) return InvalidArgument("--lora_dir is missing");
  if (options.output_dir.empty()) return InvalidArgument("--output_dir is missing");
  if (!std::isfinite(options.scale)) return InvalidArgument("--scale is not a finite number");
  std::error_code ignored;
  if (fs::equivalent(options.base_dir, options.output_dir, ignored)) {
    return InvalidArgument("--output_dir '{}' is the base's own folder; choose another",
                           options.output_dir);
  }
  for (const char* dtype : {"auto", "float32", "float16", "bfloat16"}) {
    if (options.dtype == dtype) return OkStatus();
  }
  return InvalidArgument("--dtype {} is not one of float32, float16, bfloat16", options.dtype);
}

Status MergeLora(const LoraMergeOptions& options, const ConvertProgressFn& progress) {
  return Merger(options, progress).Run();
}

}  // namespace trireme::convert
