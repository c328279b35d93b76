// SPDX-License-Identifier: Apache-2.0
#include "tensor/shape.h"

namespace trireme {

std::string Shape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(dims_[i]);
  }
  return text + "]";
}

}  // namespace trireme
