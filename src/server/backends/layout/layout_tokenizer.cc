// SPDX-License-Identifier: Apache-2.0
#include "server/backends/layout/layout_tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/status.h"
#include "server/backends/llm/llm_parameters.h"
#include "server/repository/model_folder.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

std::string ParameterOf(const ModelConfig& config, const std::string& name) {
  const auto found = config.parameters.find(name);
  return found == config.parameters.end() ? "" : found->second;
}

// Where the layout's text model has its engine: as its configuration says, or in its newest version.
StatusOr<std::string> EngineOfLayout(const std::string& model_dir) {
  const fs::path core = fs::path(model_dir).parent_path() / "tensorrt_llm";
  std::error_code ignored;
  const fs::path file = core / "config.pbtxt";
  if (fs::exists(file, ignored)) {
    TRIREME_ASSIGN_OR_RETURN(const MappedFile text, MappedFile::Open(file));
    std::vector<std::string> warnings;  // named when that model is loaded
    TRIREME_ASSIGN_OR_RETURN(const ModelConfig config,
                             ParseModelConfig(text.text(), file.string(), warnings));
    for (const char* key : {"tokenizer_dir", "gpt_model_path", "engine_dir"}) {
      if (const std::string dir = ParameterOf(config, key); !dir.empty()) return dir;
    }
  }
  const std::vector<int64_t> versions = FindVersions(core);
  if (!versions.empty()) return (core / std::to_string(versions.back())).string();
  return NotFound("there is no model 'tensorrt_llm' beside {}", model_dir);
}

StatusOr<std::string> TokenizerFolder(const BackendContext& context) {
  for (const char* key : {"tokenizer_dir", "gpt_model_path", "engine_dir"}) {
    if (const std::string dir = ParameterOf(context.config, key); !dir.empty()) return dir;
  }
  return EngineOfLayout(context.model_dir);
}

Status CheckTensors(const ModelConfig& config, const std::vector<TensorConfig>& declared,
                    std::span<const TensorConfig> known, std::string_view kind) {
  for (const TensorConfig& tensor : known.empty() ? std::vector<TensorConfig>() : declared) {
    const auto found = std::ranges::find(known, tensor.name, &TensorConfig::name);
    if (found == known.end()) {
      return InvalidArgument(
          "model '{}' declares {} '{}', which the native {} does not know; parameter native: off "
          "runs its model.py instead",
          config.name, kind, tensor.name, config.backend);
    }
    if (found->type != tensor.type) {
      return InvalidArgument("model '{}' declares {} '{}' as {}, but it is {}", config.name, kind,
                             tensor.name, DataTypeName(tensor.type), DataTypeName(found->type));
    }
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::shared_ptr<const Tokenizer>> LoadLayoutTokenizer(const BackendContext& context) {
  TRIREME_ASSIGN_OR_RETURN(const std::string folder, TokenizerFolder(context));
  StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(folder);
  if (!tokenizer.ok()) {
    return tokenizer.status().WithContext(fmt::format(
        "model '{}': no tokenizer in {}; set tokenizer_dir", context.config.name, folder));
  }
  LogInfo("layout_tokenizer model={} path={}", context.config.name, folder);
  return std::shared_ptr<const Tokenizer>(std::move(*tokenizer));
}

StatusOr<bool> FlagParameter(const ModelConfig& config, const std::string& name, bool fallback) {
  const std::string value = ParameterOf(config, name);
  if (value.empty()) return fallback;
  StatusOr<bool> flag = ParseFlag(value);
  if (flag.ok()) return flag;
  return flag.status().WithContext(fmt::format("model '{}': parameter '{}'", config.name, name));
}

Status CheckLayoutConfig(const ModelConfig& config, std::span<const LayoutParameter> parameters,
                         std::span<const TensorConfig> inputs,
                         std::span<const TensorConfig> outputs) {
  for (const auto& [key, value] : config.parameters) {
    if (value.empty() || key == "native") continue;
    const auto known = std::ranges::find(parameters, std::string_view(key), [](const auto& one) {
      return std::string_view(one.name);
    });
    if (known == parameters.end() || !known->works) {
      return Unimplemented("model '{}': parameter '{}' does not exist yet; leave it out",
                           config.name, key);
    }
  }
  TRIREME_RETURN_IF_ERROR(CheckTensors(config, config.inputs, inputs, "input"));
  return CheckTensors(config, config.outputs, outputs, "output");
}

}  // namespace trireme::server
