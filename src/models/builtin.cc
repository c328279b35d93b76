// SPDX-License-Identifier: Apache-2.0
#include "models/builtin.h"

namespace trireme::models {

std::vector<std::unique_ptr<const ModelFamily>> BuiltinFamilies() {
  std::vector<std::unique_ptr<const ModelFamily>> families;
  families.push_back(MakeLlamaFamily());
  families.push_back(MakeQwen2Family());
  return families;
}

}  // namespace trireme::models
