// SPDX-License-Identifier: Apache-2.0
#include "kernels/alibi_slopes.h"

#include <cmath>

namespace trireme::kernels {

std::vector<float> AlibiSlopes(int num_heads) {
  int power = 1;
  while (power * 2 <= num_heads) power *= 2;
  std::vector<float> slopes;
  for (int i = 1; i <= power; ++i) slopes.push_back(std::exp2(-8.0f * i / power));
  for (int i = 1; static_cast<int>(slopes.size()) < num_heads; i += 2) {
    slopes.push_back(std::exp2(-4.0f * i / power));
  }
  return slopes;
}

}  // namespace trireme::kernels
