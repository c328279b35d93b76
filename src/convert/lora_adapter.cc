// SPDX-License-Identifier: Apache-2.0
#include "convert/lora_adapter.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/mapped_file.h"
#include "formats/safetensors.h"
#include "formats/torch_bin.h"

namespace trireme::convert {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 1 << 20;

bool IsTrue(const json& config, const char* key) {
  const auto it = config.find(key);
  return it != config.end() && it->is_boolean() && it->get<bool>();
}

bool IsSet(const json& config, const char* key) {
  const auto it = config.find(key);
  return it != config.end() && !it->is_null() && !(it->is_structured() && it->empty());
}

// What makes an adapter more than scale * B A.
Status CheckKind(const json& config, const std::string& path) {
  const auto type = config.find("peft_type");
  if (type == config.end() || !type->is_string() || type->get<std::string>() != "LORA") {
    return Unimplemented("'{}': peft_type is not LORA; other adapters are not merged", path);
  }
  for (const char* key : {"use_dora", "use_qalora", "use_bdlora", "lora_bias"}) {
    if (IsTrue(config, key)) return Unimplemented("'{}': {} is not supported", path, key);
  }
  for (const char* key : {"layer_replication", "target_parameters", "trainable_token_indices",
                          "alora_invocation_tokens"}) {
    if (IsSet(config, key)) return Unimplemented("'{}': {} is not supported", path, key);
  }
  const auto bias = config.find("bias");
  if (bias != config.end() && bias->is_string() && bias->get<std::string>() != "none") {
    return Unimplemented("'{}': bias '{}' is not supported; only 'none' is", path,
                         bias->get<std::string>());
  }
  return OkStatus();
}

StatusOr<json> ReadConfig(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  json config = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return InvalidArgument("'{}' is not a JSON object", path);
  return config;
}

StatusOr<std::map<std::string, double>> ReadAlphaPattern(const json& config,
                                                         const std::string& path) {
  std::map<std::string, double> pattern;
  const auto found = config.find("alpha_pattern");
  if (found == config.end() || found->is_null()) return pattern;
  if (!found->is_object()) return InvalidArgument("'{}': alpha_pattern is not an object", path);
  for (const auto& [module, alpha] : found->items()) {
    if (!alpha.is_number()) {
      return InvalidArgument("'{}': alpha_pattern of '{}' is not a number", path, module);
    }
    if (module.find_first_of("^$*+?()[]{}|\\") != std::string::npos) {
      return Unimplemented("'{}': alpha_pattern '{}' is a regular expression; names are supported",
                           path, module);
    }
    pattern[module] = alpha.get<double>();
  }
  return pattern;
}

StatusOr<std::unique_ptr<TensorSource>> OpenTensors(const std::string& dir) {
  const std::filesystem::path folder(dir);
  std::error_code ignored;
  const std::string safetensors = (folder / "adapter_model.safetensors").string();
  if (std::filesystem::exists(safetensors, ignored)) return OpenSafetensors(safetensors);
  const std::string bin = (folder / "adapter_model.bin").string();
  if (std::filesystem::exists(bin, ignored)) return OpenTorchBin(bin);
  return NotFound("'{}' holds neither adapter_model.safetensors nor adapter_model.bin", dir);
}

// `module` is `name` or ends with ".name".
bool NamesModule(const std::string& name, const std::string& module) {
  return module == name || module.ends_with("." + name);
}

// "model.q_proj.lora_A.weight" -> {"model.q_proj", "lora_A"}; nothing for a tensor of another kind.
struct LoraName {
  std::string module;
  std::string kind;
};
std::optional<LoraName> SplitLoraName(const std::string& name) {
  const size_t at = name.find(".lora_");
  if (at == std::string::npos) return std::nullopt;
  const size_t end = name.find('.', at + 1);
  return LoraName{name.substr(0, at),
                  name.substr(at + 1, end == std::string::npos ? end : end - at - 1)};
}

}  // namespace

StatusOr<std::unique_ptr<LoraAdapter>> LoraAdapter::Open(const std::string& dir) {
  const std::string path = (std::filesystem::path(dir) / "adapter_config.json").string();
  TRIREME_ASSIGN_OR_RETURN(const json config, ReadConfig(path));
  TRIREME_RETURN_IF_ERROR(CheckKind(config, path));
  std::unique_ptr<LoraAdapter> adapter(new LoraAdapter);
  adapter->dir_ = dir;
  const auto base = config.find("base_model_name_or_path");
  if (base != config.end() && base->is_string()) adapter->base_name_ = base->get<std::string>();
  const auto alpha = config.find("lora_alpha");
  if (alpha == config.end() || !alpha->is_number()) {
    return InvalidArgument("'{}' has no number 'lora_alpha'", path);
  }
  adapter->alpha_ = alpha->get<double>();
  adapter->rank_stabilised_ = IsTrue(config, "use_rslora");
  adapter->fan_in_fan_out_ = IsTrue(config, "fan_in_fan_out");
  TRIREME_ASSIGN_OR_RETURN(adapter->alpha_pattern_, ReadAlphaPattern(config, path));
  TRIREME_ASSIGN_OR_RETURN(adapter->tensors_, OpenTensors(dir));
  TRIREME_RETURN_IF_ERROR(adapter->SortTensors().WithContext("'" + dir + "'"));
  return adapter;
}

bool LoraAdapter::TakeWholeTensor(const std::string& name, const std::string& full) {
  constexpr std::string_view kSaved = ".modules_to_save";
  // A module's weight from below its adapter, saved where it may differ from the base's (a resized
  // embedding); a trained one goes before it.
  for (const std::string_view below : {".base_layer", ".original_module"}) {
    if (const size_t at = name.find(below); at != std::string::npos) {
      replacements_.try_emplace(std::string(name).erase(at, below.size()), full);
      return true;
    }
  }
  if (SplitLoraName(name)) return false;
  std::string base = name;
  if (const size_t at = base.find(kSaved); at != std::string::npos) base.erase(at, kSaved.size());
  replacements_[base] = full;
  return true;
}

Status LoraAdapter::SortTensors() {
  constexpr std::string_view kPrefix = "base_model.model.";
  for (const std::string& full : tensors_->Names()) {
    const std::string name = full.starts_with(kPrefix) ? full.substr(kPrefix.size()) : full;
    if (TakeWholeTensor(name, full)) continue;
    const std::optional<LoraName> lora = SplitLoraName(name);
    LoraUpdate& update = updates_[lora->module + ".weight"];
    const bool embedding = lora->kind.starts_with("lora_embedding_");
    if (lora->kind == "lora_A" || lora->kind == "lora_embedding_A") {
      update.a = full;
    } else if (lora->kind == "lora_B" || lora->kind == "lora_embedding_B") {
      update.b = full;
    } else {
      return Unimplemented("tensor '{}' is of a kind that is not supported", full);
    }
    update.transposed = fan_in_fan_out_ || embedding;
    update.scale = alpha_;
    for (const auto& [module, alpha] : alpha_pattern_) {
      if (NamesModule(module, lora->module)) update.scale = alpha;
    }
  }
  for (auto& [name, update] : updates_) {
    if (update.a.empty() || update.b.empty()) {
      return InvalidArgument("'{}' has only one of lora_A and lora_B", name);
    }
    TRIREME_ASSIGN_OR_RETURN(const TensorView a, tensors_->Describe(update.a));
    TRIREME_ASSIGN_OR_RETURN(const TensorView b, tensors_->Describe(update.b));
    if (a.shape.rank() != 2 || b.shape.rank() != 2 || a.shape[0] != b.shape[1] || a.shape[0] < 1 ||
        !IsFloat(a.dtype) || !IsFloat(b.dtype)) {
      return InvalidArgument("'{}' of {} and '{}' of {} are no low-rank pair", update.a,
                             a.shape.ToString(), update.b, b.shape.ToString());
    }
    const auto rank = static_cast<double>(a.shape[0]);
    update.scale /= rank_stabilised_ ? std::sqrt(rank) : rank;
  }
  return OkStatus();
}

}  // namespace trireme::convert
