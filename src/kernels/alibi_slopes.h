// SPDX-License-Identifier: Apache-2.0
// Slopes of ALiBi (Press, Smith, Lewis 2022). Pure function.
#pragma once

#include <vector>

namespace trireme::kernels {

// 2^(-8 i / n), i = 1 .. n, for a power of two of heads, else the sequence of the next lower power
// of two followed by every other slope of the next higher one.
std::vector<float> AlibiSlopes(int num_heads);

}  // namespace trireme::kernels
