// SPDX-License-Identifier: Apache-2.0
// The files of a model folder that serving needs besides weights. Pure functions.
#pragma once

#include <string>

#include "base/status.h"

namespace trireme {

// Copies tokenizer, template and generation settings from one folder to another, replacing what is
// there; files that `from` lacks are passed over.
Status CopyTokenizerFiles(const std::string& from, const std::string& to);

}  // namespace trireme
