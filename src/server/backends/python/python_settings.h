// SPDX-License-Identifier: Apache-2.0
// How models of backend `python` are run: from --backend-config and the model's parameters. Pure
// functions of them and of the files they name.
#pragma once

#include <map>
#include <string>

#include "server/repository/model_config.h"

namespace trireme::server {

struct PythonSettings {
  std::string interpreter = "python3";
  std::string modules;  // folder of trireme_model_process.py and of backends/
  int64_t start_timeout_ms = 600'000;
  int64_t end_timeout_ms = 30'000;
};

std::string ProcessScript(const PythonSettings& settings);

// INVALID_ARGUMENT and UNIMPLEMENTED name the setting or parameter; NOT_FOUND the file that is
// missing and how to get it.
StatusOr<PythonSettings> ReadPythonSettings(const std::map<std::string, std::string>& settings,
                                            const ModelConfig& config,
                                            const std::string& model_dir);

}  // namespace trireme::server
