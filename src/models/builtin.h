// SPDX-License-Identifier: Apache-2.0
// The families that come with Trireme: one file and one line each. Pure functions.
#pragma once

#include <memory>
#include <vector>

#include "trireme/model_family.h"

namespace trireme::models {

std::unique_ptr<const ModelFamily> MakeBaichuanFamily();
std::unique_ptr<const ModelFamily> MakeBloomFamily();
std::unique_ptr<const ModelFamily> MakeChatGlmFamily();
std::unique_ptr<const ModelFamily> MakeGemma2Family();
std::unique_ptr<const ModelFamily> MakeGlmFamily();
std::unique_ptr<const ModelFamily> MakeGpt2Family();
std::unique_ptr<const ModelFamily> MakeGptJFamily();
std::unique_ptr<const ModelFamily> MakeLlamaFamily();
std::unique_ptr<const ModelFamily> MakeMistralFamily();
std::unique_ptr<const ModelFamily> MakeMixtralFamily();
std::unique_ptr<const ModelFamily> MakePhi3Family();
std::unique_ptr<const ModelFamily> MakeQwenFamily();
std::unique_ptr<const ModelFamily> MakeQwen2Family();
std::unique_ptr<const ModelFamily> MakeQwen3Family();
std::unique_ptr<const ModelFamily> MakeQwen3MoeFamily();

std::vector<std::unique_ptr<const ModelFamily>> BuiltinFamilies();

}  // namespace trireme::models
