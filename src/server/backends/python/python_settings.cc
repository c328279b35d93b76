// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/python_settings.h"

#include <charconv>
#include <filesystem>
#include <set>

#include "base/log.h"
#include "base/status.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

StatusOr<int64_t> Seconds(const std::string& key, const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value > 0 && value <= 86400) {
    return value * 1000;
  }
  return InvalidArgument("--backend-config=python,{} takes seconds from 1 to 86400, not '{}'", key,
                         text);
}

// Installed: PREFIX/bin/trireme and PREFIX/share/trireme/python; in a build folder likewise.
std::string OwnModules() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return (program.parent_path().parent_path() / "share" / "trireme" / "python").string();
}

// A Python environment is a folder with bin/python3 or bin/python.
StatusOr<std::string> InterpreterOf(std::string path, const std::string& model_dir) {
  constexpr std::string_view kModelDir = "$$TRITON_MODEL_DIRECTORY";
  if (const size_t at = path.find(kModelDir); at != std::string::npos) {
    path.replace(at, kModelDir.size(), model_dir);
  }
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored)) {
    return Unimplemented(
        "EXECUTION_ENV_PATH names the archive {}; unpack it into a folder and name that", path);
  }
  for (const char* name : {"python3", "python"}) {
    const fs::path interpreter = fs::path(path) / "bin" / name;
    if (fs::exists(interpreter, ignored)) return interpreter.string();
  }
  return NotFound("EXECUTION_ENV_PATH: {} is no Python environment (it has no bin/python3)", path);
}

}  // namespace

std::string ProcessScript(const PythonSettings& settings) {
  return settings.modules + "/trireme_model_process.py";
}

StatusOr<PythonSettings> ReadPythonSettings(const std::map<std::string, std::string>& settings,
                                            const ModelConfig& config,
                                            const std::string& model_dir) {
  // Of Triton's shared memory pools and threads, which are not needed here; and of all backends.
  static const auto* without_effect = new std::set<std::string>{
      "shm-default-byte-size",  "shm-growth-byte-size", "shm-region-prefix-name",
      "shm_message_queue_size", "thread-pool-size",     "cmdline",
      "backend-directory",      "auto-complete-config", "min-compute-capability",
      "default-max-batch-size"};
  PythonSettings python;
  python.modules = OwnModules();
  for (const auto& [key, value] : settings) {
    if (key == "interpreter") {
      python.interpreter = value;
    } else if (key == "module-directory") {
      python.modules = value;
    } else if (key == "stub-timeout-seconds") {
      TRIREME_ASSIGN_OR_RETURN(python.end_timeout_ms, Seconds(key, value));
    } else if (key == "initialize-timeout-seconds") {
      TRIREME_ASSIGN_OR_RETURN(python.start_timeout_ms, Seconds(key, value));
    } else if (without_effect->count(key) > 0) {
      LogDebug("backend_config_without_effect backend=python key={}", key);
    } else {
      return InvalidArgument(
          "--backend-config=python,{}: no such setting; there are interpreter, module-directory, "
          "initialize-timeout-seconds and stub-timeout-seconds",
          key);
    }
  }
  const auto interpreter = config.parameters.find("interpreter");
  const auto environment = config.parameters.find("EXECUTION_ENV_PATH");
  if (environment != config.parameters.end()) {
    TRIREME_ASSIGN_OR_RETURN(python.interpreter, InterpreterOf(environment->second, model_dir));
  } else if (interpreter != config.parameters.end()) {
    python.interpreter = interpreter->second;
  }
  std::error_code ignored;
  if (fs::exists(ProcessScript(python), ignored)) return python;
  return NotFound(
      "backend 'python' needs {}, which is installed beside the program; "
      "--backend-config=python,module-directory=DIR names another place",
      ProcessScript(python));
}

}  // namespace trireme::server
