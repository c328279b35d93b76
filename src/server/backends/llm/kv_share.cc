// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/kv_share.h"

#include <filesystem>

#include "base/mapped_file.h"
#include "server/backends/layout/stock_model.h"
#include "server/core/model.h"
#include "server/repository/model_folder.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

// Whether a folder holds a model that loads an engine.
bool IsTextModel(const fs::path& folder) {
  const StatusOr<std::string> text = ReadFile(folder / "config.pbtxt", 4 << 20);
  if (!text.ok()) return false;
  std::vector<std::string> warnings;  // named when the model is loaded
  StatusOr<ModelConfig> config = ParseModelConfig(*text, folder.string(), warnings);
  const std::vector<int64_t> versions = FindVersions(folder);
  if (!config.ok() || versions.empty()) return false;
  if (config->backend.empty() && config->platform == "tensorrt_llm") config->backend = "llm";
  const StatusOr<std::string> backend =
      ChooseBackend(*config, folder, folder / std::to_string(versions.back()));
  return backend.ok() && (*backend == "llm" || *backend == "tensorrtllm" || *backend == "vllm");
}

}  // namespace

int NumTextModelsToLoad(const BackendContext& context) {
  int count = 1;
  if (context.model_dir.empty()) return count;
  const fs::path own = fs::path(context.model_dir).lexically_normal();
  std::error_code error;
  for (fs::directory_iterator it(own.parent_path(), error), end; !error && it != end;
       it.increment(error)) {
    const fs::path folder = it->path().lexically_normal();
    if (folder.filename() == own.filename() || !IsTextModel(folder)) continue;
    if (!context.caller.FindModel(folder.filename(), -1).ok()) ++count;
  }
  return count;
}

}  // namespace trireme::server
