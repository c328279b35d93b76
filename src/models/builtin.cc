// SPDX-License-Identifier: Apache-2.0
#include "models/builtin.h"

namespace trireme::models {

std::vector<std::unique_ptr<const ModelFamily>> BuiltinFamilies() {
  std::vector<std::unique_ptr<const ModelFamily>> families;
  families.push_back(MakeBaichuanFamily());
  families.push_back(MakeBloomFamily());
  families.push_back(MakeChatGlmFamily());
  families.push_back(MakeGemma2Family());
  families.push_back(MakeGlmFamily());
  families.push_back(MakeGpt2Family());
  families.push_back(MakeGptJFamily());
  families.push_back(MakeLlamaFamily());
  families.push_back(MakeMistralFamily());
  families.push_back(MakeMixtralFamily());
  families.push_back(MakePhi3Family());
  families.push_back(MakeQwenFamily());
  families.push_back(MakeQwen2Family());
  families.push_back(MakeQwen3Family());
  families.push_back(MakeQwen3MoeFamily());
  return families;
}

}  // namespace trireme::models
