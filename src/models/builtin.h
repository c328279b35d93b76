// SPDX-License-Identifier: Apache-2.0
// The families that come with Trireme: one file and one line each. Pure functions.
#pragma once

#include <memory>
#include <vector>

#include "trireme/model_family.h"

namespace trireme::models {

std::unique_ptr<const ModelFamily> MakeLlamaFamily();
std::unique_ptr<const ModelFamily> MakeQwen2Family();

std::vector<std::unique_ptr<const ModelFamily>> BuiltinFamilies();

}  // namespace trireme::models
