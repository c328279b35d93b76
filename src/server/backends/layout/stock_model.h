// SPDX-License-Identifier: Apache-2.0
// Which models of backend `python` run natively: those of the five-model layout whose Python files are
// the published ones, and those that are engine arguments only. Functions of files.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "server/repository/model_config.h"

namespace trireme::server {

// The backend that executes the model: the one its configuration names or, for a stock model, the
// native one in its place. Parameter `native` decides: `auto` (unset) looks at the files, `on` takes
// the native one whatever they are, `off` never. The log says what was chosen. INVALID_ARGUMENT for
// another value, or `on` for a model that has no native form.
StatusOr<std::string> ChooseBackend(const ModelConfig& config, const std::string& model_dir,
                                    const std::string& version_dir);

// Whether there are Python files in the folder and below, and git's name of each is among `blob_ids`,
// which are sorted; empty files count for nothing. The first that is not goes to `other`.
bool AllFilesAmong(const std::string& folder, std::span<const std::string_view> blob_ids,
                   std::string& other);

}  // namespace trireme::server
