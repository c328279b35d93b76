// SPDX-License-Identifier: Apache-2.0
#include "server/backends/layout/stock_model.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/status.h"
#include "server/backends/layout/git_blob_id.h"
#include "server/backends/layout/stock_blobs.h"
#include "server/backends/llm/vllm_engine_args.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

// What a model of the layout is, by the tensors only it has; "" for any other.
std::string NativeBackend(const ModelConfig& config) {
  if (config.FindInput("QUERY") != nullptr && config.FindOutput("INPUT_ID") != nullptr) {
    return "llm_preprocessing";
  }
  if (config.FindInput("TOKENS_BATCH") != nullptr && config.FindOutput("OUTPUT") != nullptr) {
    return "llm_postprocessing";
  }
  if (config.FindInput("input_ids") != nullptr && config.FindOutput("output_ids") != nullptr) {
    return "tensorrtllm";
  }
  if (config.FindInput("text_input") != nullptr && config.FindInput("max_tokens") != nullptr &&
      config.FindOutput("text_output") != nullptr) {
    return "llm_bls";
  }
  return "";
}

bool HasModelFile(const std::string& version_dir) {
  std::error_code ignored;
  return fs::exists(fs::path(version_dir) / "model.py", ignored);
}

}  // namespace

bool AllFilesAmong(const std::string& folder, std::span<const std::string_view> blob_ids,
                   std::string& other) {
  int count = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() != ".py") continue;
    const StatusOr<std::string> text = ReadFile(it->path(), 4 << 20);
    if (text.ok() && text->empty()) continue;
    if (!text.ok() || !std::ranges::binary_search(blob_ids, GitBlobId(*text))) {
      other = it->path();
      return false;
    }
    ++count;
  }
  return count > 0 && !error;
}

StatusOr<std::string> ChooseBackend(const ModelConfig& config, const std::string& model_dir,
                                    const std::string& version_dir) {
  if (config.is_ensemble()) return std::string("ensemble");
  const auto parameter = config.parameters.find("native");
  const std::string native = parameter == config.parameters.end() ? "" : parameter->second;
  if (native != "" && native != "auto" && native != "on" && native != "off") {
    return InvalidArgument("model '{}': parameter 'native' takes auto, on or off, not '{}'",
                           config.name, native);
  }
  if (config.backend != "python") return config.backend;
  if (!HasModelFile(version_dir) && !FindVllmEngineArgs(model_dir, version_dir).empty()) {
    LogInfo("backend_chosen model={} backend=vllm reason=\"engine arguments and no model.py\"",
            config.name);
    return std::string("vllm");
  }
  const std::string stock = NativeBackend(config);
  if (native == "on") {
    if (stock.empty()) {
      return InvalidArgument(
          "model '{}': parameter 'native' is on, but its tensors are those of no model of the "
          "five-model layout",
          config.name);
    }
    LogInfo("backend_chosen model={} backend={} reason=\"parameter native is on\"", config.name,
            stock);
    return stock;
  }
  std::string other;
  if (native != "off" && !stock.empty() && AllFilesAmong(version_dir, kStockBlobs, other)) {
    LogInfo("backend_chosen model={} backend={} reason=\"its files are the published ones\"",
            config.name, stock);
    return stock;
  }
  if (!stock.empty()) {
    LogInfo("backend_chosen model={} backend=python reason=\"{}\"", config.name,
            native == "off" ? "parameter native is off"
                            : other +
                                  " is no published file; parameter native: on would run it "
                                  "natively");
  }
  return config.backend;
}

}  // namespace trireme::server
