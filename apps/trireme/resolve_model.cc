// SPDX-License-Identifier: Apache-2.0
#include "resolve_model.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/staged_folder.h"
#include "base/status.h"
#include "base/version.h"
#include "convert/convert.h"
#include "engine/engine_folder.h"
#include "formats/engine_file.h"
#include "progress.h"
#include "trireme/builder.h"
#ifdef TRIREME_HAS_CUDA
#include "device/cuda/device_info.h"
#endif

namespace trireme::cli {
namespace {

namespace fs = std::filesystem;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// FNV-1a (Fowler, Noll, Vo), 64 bit: names a cache entry, defends against nothing.
uint64_t Hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
  return hash;
}

// Name, size and time of every file of a folder: a changed model makes another engine.
std::string Fingerprint(const fs::path& folder) {
  std::vector<std::string> lines;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (!entry.is_regular_file(error)) continue;
    lines.push_back(fmt::format("{} {} {}", entry.path().filename().string(),
                                entry.file_size(error),
                                entry.last_write_time(error).time_since_epoch().count()));
  }
  std::sort(lines.begin(), lines.end());
  std::string text = fs::weakly_canonical(folder, error).string();
  for (const std::string& line : lines) text += "\n" + line;
  return text;
}

enum class FolderKind { kEngine, kCheckpoint, kHuggingFace, kOther };

FolderKind KindOf(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "rank0.engine", error)) return FolderKind::kEngine;
  const StatusOr<std::string> text = ReadFile((folder / "config.json").string(), 16 << 20);
  if (!text.ok()) return FolderKind::kOther;
  const nlohmann::json config = nlohmann::json::parse(*text, nullptr, false);
  if (!config.is_object()) return FolderKind::kOther;
  if (config.contains("architectures")) return FolderKind::kHuggingFace;
  return config.contains("architecture") ? FolderKind::kCheckpoint : FolderKind::kOther;
}

Status BuildInto(const std::string& checkpoint, const std::string& engine,
                 const ResolveOptions& options) {
  BuildOptions build;
  build.checkpoint_dir = checkpoint;
  build.output_dir = engine;
  build.device = ResolveDevice(options.device);
  build.dtype = options.dtype;
  Progress progress;
  return BuildEngine(build, [&](const BuildProgress& p) {
    progress.Update(p.stage, p.counts_bytes ? "bytes" : "layers", p.done, p.total);
  });
}

Status ConvertInto(const std::string& model, const std::string& checkpoint,
                   const ResolveOptions& options) {
  convert::ConvertOptions convert_options;
  convert_options.model_dir = model;
  convert_options.output_dir = checkpoint;
  convert_options.dtype = options.dtype;
  convert_options.weight_only_precision = options.weight_only_precision;
  Progress progress;
  return convert::Convert(convert_options, [&](const convert::ConvertProgress& p) {
    progress.Update("converting", "bytes", p.done_bytes, p.total_bytes);
  });
}

// Builds an engine of `folder` into the cache, or finds the one made before.
StatusOr<std::string> CachedEngine(const fs::path& folder, FolderKind kind,
                                   const ResolveOptions& options, const ModelPlaces& places) {
  if (places.engine_cache.empty()) {
    return FailedPrecondition("no folder for the engine cache: set HOME or TRIREME_CACHE");
  }
  const std::string key =
      fmt::format("{}\n{} {} {} {} {}", Fingerprint(folder), ResolveDevice(options.device),
                  options.dtype, options.weight_only_precision, Version(), kEngineFormatVersion);
  const fs::path target = fs::path(places.engine_cache) /
                          fmt::format("{}-{:016x}", folder.filename().string(), Hash(key));
  if (KindOf(target) == FolderKind::kEngine && fs::exists(target / "config.json")) {
    LogInfo("engine_cache_hit path={}", target.string());
    return target.string();
  }
  // Made aside and renamed, so that two starts do not mix.
  LogInfo("engine_cache_miss building={}", target.string());
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<StagedFolder> work,
                           StagedFolder::Create(places.engine_cache));
  const fs::path made = fs::path(work->path()) / "engine";
  fs::path checkpoint = folder;
  if (kind == FolderKind::kHuggingFace) {
    checkpoint = fs::path(work->path()) / "checkpoint";
    TRIREME_RETURN_IF_ERROR(ConvertInto(folder.string(), checkpoint.string(), options));
  }
  TRIREME_RETURN_IF_ERROR(BuildInto(checkpoint.string(), made.string(), options));
  std::error_code error;
  fs::remove_all(target, error);
  fs::rename(made, target, error);
  if (error) {
    return ErrnoStatus(error.value(), "cannot place the engine at '" + target.string() + "'");
  }
  return target.string();
}

// Flags that shape an engine built here must not contradict one that is there.
Status CheckEngineFits(const std::string& path, const ResolveOptions& options) {
  if (options.device == "auto" && options.dtype == "auto" &&
      options.weight_only_precision.empty()) {
    return OkStatus();
  }
  TRIREME_ASSIGN_OR_RETURN(const engine::LoadedEngine engine, engine::OpenEngine(path));
  if (options.device != "auto" && options.device != engine.plan.device) {
    return InvalidArgument(
        "--device {}: the engine '{}' is built for {}; build another with `trireme build --device "
        "{}`, or leave the flag out",
        options.device, path, engine.plan.device, options.device);
  }
  const std::string_view dtype = DTypeName(engine.plan.dtype);
  if (options.dtype != "auto" && options.dtype != dtype) {
    return InvalidArgument(
        "--dtype {}: the engine '{}' is {}; build another with `trireme build --gemm_plugin {}`, "
        "or leave the flag out",
        options.dtype, path, dtype, options.dtype);
  }
  const std::string& algo = engine.model.quantization.quant_algo;
  const std::string_view begin = options.weight_only_precision == "int8" ? "W8A16" : "W4A16";
  if (options.weight_only_precision.empty() || algo.starts_with(begin)) return OkStatus();
  return InvalidArgument(
      "--weight_only_precision {}: the weights of the engine '{}' are {}; quantize them with "
      "`trireme convert --use_weight_only`, or leave the flag out",
      options.weight_only_precision, path, algo.empty() ? dtype : std::string_view(algo));
}

// The newest snapshot of org/name, or nothing.
std::optional<fs::path> FindSnapshot(const std::string& name, const ModelPlaces& places) {
  const size_t slash = name.find('/');
  const fs::path repo = fs::path(places.huggingface_hub) /
                        ("models--" + name.substr(0, slash) + "--" + name.substr(slash + 1));
  std::error_code error;
  const StatusOr<std::string> main = ReadFile((repo / "refs" / "main").string(), 256);
  if (main.ok() && main->find('/') == std::string::npos) {
    std::string revision = *main;
    while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back()))) {
      revision.pop_back();
    }
    const fs::path snapshot = repo / "snapshots" / revision;
    if (!revision.empty() && fs::is_directory(snapshot, error)) return snapshot;
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(repo / "snapshots", error)) {
    if (entry.is_directory(error)) return entry.path();
  }
  return std::nullopt;
}

bool LooksLikeHubName(const std::string& model) {
  const size_t slash = model.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < model.size() &&
         model.find('/', slash + 1) == std::string::npos && model.find("..") == std::string::npos &&
         model[0] != '.';
}

}  // namespace

ModelPlaces PlacesFromEnvironment() {
  ModelPlaces places;
  const std::string home = Environment("HOME");
  const std::string cache = !Environment("XDG_CACHE_HOME").empty() ? Environment("XDG_CACHE_HOME")
                            : home.empty()                         ? ""
                                                                   : home + "/.cache";
  if (const std::string hub = Environment("HF_HUB_CACHE"); !hub.empty()) {
    places.huggingface_hub = hub;
  } else if (const std::string hf_home = Environment("HF_HOME"); !hf_home.empty()) {
    places.huggingface_hub = hf_home + "/hub";
  } else if (!cache.empty()) {
    places.huggingface_hub = cache + "/huggingface/hub";
  }
  if (const std::string own = Environment("TRIREME_CACHE"); !own.empty()) {
    places.engine_cache = own + "/engines";
  } else if (!cache.empty()) {
    places.engine_cache = cache + "/trireme/engines";
  }
  return places;
}

Status CheckOptions(const ResolveOptions& options) {
  const std::string& device = options.device;
  if (device != "auto" && device != "cpu" && device != "cuda") {
    return InvalidArgument("--device '{}' is unknown; use cpu, cuda or auto", device);
  }
#ifndef TRIREME_HAS_CUDA
  if (device == "cuda") {
    return Unimplemented(
        "--device cuda: this program was built without CUDA; build it with -D TRIREME_CUDA=ON");
  }
#endif
  for (const char* known : {"auto", "float32", "float16", "bfloat16"}) {
    if (options.dtype != known) continue;
    const std::string& precision = options.weight_only_precision;
    if (precision.empty() || precision == "int8" || precision == "int4") return OkStatus();
    return InvalidArgument("--weight_only_precision '{}' is unknown; use int8 or int4", precision);
  }
  return InvalidArgument("--dtype '{}' is unknown; use float32, float16, bfloat16 or auto",
                         options.dtype);
}

std::string ResolveDevice(const std::string& device) {
  if (device != "auto") return device;
#ifdef TRIREME_HAS_CUDA
  if (cuda::GetDeviceInfo().ok()) return "cuda";
#endif
  return "cpu";
}

StatusOr<std::string> ResolveEngine(const std::string& model, const ResolveOptions& options,
                                    const ModelPlaces& places) {
  std::error_code error;
  fs::path folder = model;
  if (!fs::exists(folder, error) && LooksLikeHubName(model)) {
    const std::optional<fs::path> snapshot = FindSnapshot(model, places);
    if (!snapshot) {
      return NotFound(
          "'{}' is neither a folder nor in the local Hugging Face cache; download it with "
          "`huggingface-cli download {}`",
          model, model);
    }
    folder = *snapshot;
  }
  if (!fs::exists(folder, error)) return NotFound("no model at '{}'", model);
  const bool is_file = !fs::is_directory(folder, error);  // one bare engine
  const FolderKind kind = is_file ? FolderKind::kEngine : KindOf(folder);
  if (kind == FolderKind::kCheckpoint && !options.weight_only_precision.empty()) {
    return InvalidArgument(
        "--weight_only_precision: '{}' is a checkpoint, whose weights are quantized by `trireme "
        "convert --use_weight_only`",
        model);
  }
  switch (kind) {
    case FolderKind::kEngine:
      TRIREME_RETURN_IF_ERROR(CheckEngineFits(folder.string(), options));
      return folder.string();
    case FolderKind::kCheckpoint:
    case FolderKind::kHuggingFace: return CachedEngine(folder, kind, options, places);
    case FolderKind::kOther: break;
  }
  return InvalidArgument(
      "'{}' is no model: it holds neither rank0.engine nor a config.json of a checkpoint or of a "
      "Hugging Face model",
      model);
}

}  // namespace trireme::cli
