// SPDX-License-Identifier: Apache-2.0
// How the weight of one linear layer is stored. Plain data.
#pragma once

#include <string>

#include "tensor/dtype.h"

namespace trireme {

// A weight W [out, in] stored as q with W[o, i] = q[o, i] * scale[o, i / group_size].
struct WeightQuant {
  enum class Kind {
    kNone,    // the weight is float of the model's dtype
    kInt8,    // int8 values
    kInt4,    // int4 values, two a byte along `in`, low nibble first
    kFloat8,  // e4m3 values
  };
  Kind kind = Kind::kNone;
  // Values along `in` that share one scale; 0 means the whole row (per output channel).
  int group_size = 0;

  friend bool operator==(const WeightQuant&, const WeightQuant&) = default;
};

}  // namespace trireme
