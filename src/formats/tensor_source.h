// SPDX-License-Identifier: Apache-2.0
// TensorSource: named tensors that live in one or more files. Immutable and thread-safe; the views
// it hands out stay valid while it lives.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/tensor_view.h"

namespace trireme {

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // Sorted.
  virtual std::vector<std::string> Names() const = 0;
  virtual bool Has(std::string_view name) const = 0;
  // kNotFound names the tensor and the file.
  virtual StatusOr<TensorView> Get(std::string_view name) const = 0;
  // Dtype and shape without touching the bytes: `data` is null.
  virtual StatusOr<TensorView> Describe(std::string_view name) const = 0;
  // Hint: the pages of this tensor are not needed for now. Views of it stay valid.
  virtual void Release(std::string_view name) const {}
};

}  // namespace trireme
