// SPDX-License-Identifier: Apache-2.0
// Model folders on disk: what a repository holds, which versions, what a configuration leaves open.
// Functions of files; nothing is kept.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/repository/model_config.h"

namespace trireme::server {

struct ModelFolder {
  std::string name;
  std::string dir;
};

// The models under the repository paths, by name. A path that is itself a model folder (it holds
// config.pbtxt or only numbered folders) is one model. NOT_FOUND names a path that is no folder;
// INVALID_ARGUMENT a model that two paths have.
StatusOr<std::vector<ModelFolder>> ScanRepositories(const std::vector<std::string>& paths);

// Numbers of the version folders, ascending. Names that are not plain integers are passed over.
std::vector<int64_t> FindVersions(const std::string& dir);
// The versions the policy wants, ascending; for the specific policy also those that are not there.
std::vector<int64_t> ChooseVersions(const VersionPolicy& policy,
                                    const std::vector<int64_t>& available);

// Changes when a file of the folder is added, removed, resized or touched.
std::string Fingerprint(const std::string& dir);

struct ConfigSource {
  std::string config_name;    // configs/NAME.pbtxt instead of config.pbtxt, when it is there
  bool auto_complete = true;  // false: config.pbtxt must exist and name a backend
  std::string override_json;  // "": none; replaces the file
};
// The folder's configuration with name, backend (from platform, file names or the model's name) and
// version policy filled in. Unfilled `${...}` are logged.
StatusOr<ModelConfig> ReadModelConfig(const ModelFolder& folder, const ConfigSource& source);

}  // namespace trireme::server
