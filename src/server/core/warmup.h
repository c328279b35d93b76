// SPDX-License-Identifier: Apache-2.0
// Runs a model's warm-up samples, before anybody can find it.
#pragma once

#include <string>

#include "server/core/model.h"

namespace trireme::server {

// On every instance; the first sample that fails is the error. Files are those of warmup/ in the
// model's folder.
Status WarmUp(Model& model, const std::string& model_dir);

}  // namespace trireme::server
