// SPDX-License-Identifier: Apache-2.0
#include "server/repository/model_folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/status.h"
#include "server/repository/read_scheduling.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

// 0: not a version's name.
int64_t VersionOf(const std::string& name) {
  if (name.empty() || name.size() > 18 || name[0] == '0') return 0;
  int64_t version = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), version);
  return error == std::errc() && end == name.data() + name.size() && version > 0 ? version : 0;
}

std::vector<fs::path> Entries(const std::string& dir) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    entries.push_back(it->path());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool IsFolder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool IsModelFolder(const std::string& path) {
  return Exists(fs::path(path) / "config.pbtxt") ||
         (!FindVersions(path).empty() && Exists(fs::path(path) / std::to_string(1)));
}

// Upstream's names of frameworks, from before there were backends.
std::string BackendOfPlatform(const std::string& platform) {
  static const auto* names = new std::map<std::string, std::string>{
      {"tensorrt_plan", "tensorrt"},         {"tensorrt_llm", "llm"},
      {"tensorflow_graphdef", "tensorflow"}, {"tensorflow_savedmodel", "tensorflow"},
      {"onnxruntime_onnx", "onnxruntime"},   {"pytorch_libtorch", "pytorch"}};
  const auto found = names->find(platform);
  return found == names->end() ? "" : found->second;
}

std::string BackendOfFiles(const ModelFolder& folder) {
  constexpr std::pair<const char*, const char*> kFiles[] = {
      {"model.plan", "tensorrt"},         {"model.onnx", "onnxruntime"},   {"model.pt", "pytorch"},
      {"model.pt2", "pytorch"},           {"model.xml", "openvino"},       {"model.py", "python"},
      {"model.savedmodel", "tensorflow"}, {"model.graphdef", "tensorflow"}};
  const std::vector<int64_t> versions = FindVersions(folder.dir);
  if (!versions.empty()) {
    const fs::path lowest = fs::path(folder.dir) / std::to_string(versions.front());
    for (const auto& [file, backend] : kFiles) {
      if (Exists(lowest / file)) return backend;
    }
  }
  const size_t dot = folder.name.rfind('.');
  return dot == std::string::npos ? "" : folder.name.substr(dot + 1);
}

StatusOr<ModelConfig> ReadConfigFile(const ModelFolder& folder, const ConfigSource& source) {
  fs::path path = fs::path(folder.dir) / "config.pbtxt";
  if (!source.config_name.empty()) {
    const fs::path own = fs::path(folder.dir) / "configs" / (source.config_name + ".pbtxt");
    if (Exists(own)) path = own;
  }
  std::vector<std::string> warnings;
  if (!Exists(path)) {
    if (!source.auto_complete) {
      return InvalidArgument("{} does not exist and auto-completion is disabled", path.string());
    }
    return ParseModelConfig("", path.string(), warnings);
  }
  TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  StatusOr<ModelConfig> config = ParseModelConfig(file.text(), path.string(), warnings);
  for (const std::string& warning : warnings) {
    LogWarning("config_placeholder file={} {}", path.string(), warning);
  }
  return config;
}

Status CompleteBackend(const ModelFolder& folder, const ConfigSource& source, ModelConfig& config) {
  if (config.is_ensemble() || !config.backend.empty()) return OkStatus();
  config.backend = BackendOfPlatform(config.platform);
  if (config.backend.empty() && source.auto_complete) config.backend = BackendOfFiles(folder);
  if (!config.backend.empty()) return OkStatus();
  return InvalidArgument(
      "Could not determine backend for model '{}' with no backend in model configuration. Expected "
      "model name of the form 'model.<backend_name>'; or set 'backend' in its config.pbtxt",
      folder.name);
}

Status ReadLabels(const ModelFolder& folder, ModelConfig& config) {
  for (const TensorConfig& output : config.outputs) {
    if (output.label_filename.empty()) continue;
    const fs::path path = fs::path(folder.dir) / output.label_filename;
    TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    std::string_view text = file.text();
    std::vector<std::string>& labels = config.labels[output.name];
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      labels.emplace_back(line.substr(0, line.find_last_not_of("\r") + 1));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
    }
  }
  return OkStatus();
}

}  // namespace

std::vector<int64_t> FindVersions(const std::string& dir) {
  std::vector<int64_t> versions;
  for (const fs::path& entry : Entries(dir)) {
    const int64_t version = VersionOf(entry.filename());
    if (version > 0 && IsFolder(entry)) versions.push_back(version);
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

std::vector<int64_t> ChooseVersions(const VersionPolicy& policy,
                                    const std::vector<int64_t>& available) {
  if (policy.kind == VersionPolicy::Kind::kAll) return available;
  if (policy.kind == VersionPolicy::Kind::kSpecific) {
    std::vector<int64_t> wanted = policy.versions;
    std::sort(wanted.begin(), wanted.end());
    wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
    return wanted;
  }
  const size_t keep = std::min(available.size(), static_cast<size_t>(policy.num_latest));
  return {available.end() - static_cast<std::ptrdiff_t>(keep), available.end()};
}

StatusOr<std::vector<ModelFolder>> ScanRepositories(const std::vector<std::string>& paths) {
  std::map<std::string, std::string> found;
  const auto add = [&](const fs::path& dir) -> Status {
    const std::string name = dir.filename();
    const auto [entry, added] = found.emplace(name, dir);
    if (added) return OkStatus();
    return InvalidArgument("model '{}' is in two repositories: {} and {}", name, entry->second,
                           dir.string());
  };
  for (const std::string& path : paths) {
    if (!IsFolder(path)) return NotFound("model repository {} is not a folder", path);
    const fs::path root = fs::path(path).lexically_normal();
    if (IsModelFolder(path)) {
      TRIREME_RETURN_IF_ERROR(add(root.has_filename() ? root : root.parent_path()));
      continue;
    }
    for (const fs::path& entry : Entries(root)) {
      const std::string name = entry.filename();
      if (IsFolder(entry) && name[0] != '.') TRIREME_RETURN_IF_ERROR(add(entry));
    }
  }
  std::vector<ModelFolder> folders;
  for (const auto& [name, dir] : found) folders.push_back({name, dir});
  return folders;
}

std::string Fingerprint(const std::string& dir) {
  std::string text;
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::recursive_directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    files.push_back(it->path());
    if (files.size() > 100000) break;
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    const auto time = fs::last_write_time(file, error).time_since_epoch().count();
    const uintmax_t size = IsFolder(file) ? 0 : fs::file_size(file, error);
    text += fmt::format("{} {} {}\n", file.string(), IsFolder(file) ? 0 : time, size);
  }
  return text;
}

StatusOr<ModelConfig> ReadModelConfig(const ModelFolder& folder, const ConfigSource& source) {
  StatusOr<ModelConfig> config = source.override_json.empty()
                                     ? ReadConfigFile(folder, source)
                                     : ParseModelConfigJson(source.override_json);
  if (!config.ok()) return config;
  if (config->name.empty()) config->name = folder.name;
  if (config->name != folder.name) {
    return InvalidArgument(
        "unexpected directory name '{}' for model '{}', directory name must "
        "equal model name",
        folder.name, config->name);
  }
  TRIREME_RETURN_IF_ERROR(CompleteBackend(folder, source, *config));
  TRIREME_RETURN_IF_ERROR(ReadLabels(folder, *config));
  if (config->sequence_batching) {
    TRIREME_RETURN_IF_ERROR(CompleteInitialStates(folder.dir, *config->sequence_batching));
  }
  for (const std::string& field : config->without_effect) {
    LogWarning("config_without_effect model={} field=\"{}\"", config->name, field);
  }
  return config;
}

}  // namespace trireme::server
