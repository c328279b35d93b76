// SPDX-License-Identifier: Apache-2.0
// Borrowed, contiguous, row-major tensors: plain data, no ownership.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace trireme {

// Read-only view of a contiguous row-major tensor owned elsewhere.
struct TensorView {
  DType dtype = DType::kFloat32;
  Shape shape;
  const std::byte* data = nullptr;

  int64_t num_bytes() const { return DTypeBytes(dtype, shape.num_elements()); }
  std::span<const std::byte> bytes() const { return {data, static_cast<size_t>(num_bytes())}; }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(data);
  }
};

// A tensor that owns its bytes. Move-only.
class HostTensor {
 public:
  HostTensor() = default;
  HostTensor(DType dtype, Shape shape)
      : dtype_(dtype),
        shape_(shape),
        bytes_(static_cast<size_t>(DTypeBytes(dtype, shape.num_elements()))) {}
  HostTensor(HostTensor&&) noexcept = default;
  HostTensor& operator=(HostTensor&&) noexcept = default;

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::span<std::byte> bytes() { return bytes_; }
  TensorView view() const { return {dtype_, shape_, bytes_.data()}; }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(bytes_.data());
  }

 private:
  DType dtype_ = DType::kFloat32;
  Shape shape_;
  std::vector<std::byte> bytes_;
};

// Reads element `index` of a float tensor of any supported float dtype, or converts a whole one.
float LoadAsFloat(const TensorView& tensor, int64_t index);
std::vector<float> ToFloats(const TensorView& tensor);

// Converts `count` elements between float dtypes (float32, float16, bfloat16, fp8, float64).
void ConvertFloats(DType from, const std::byte* source, DType to, std::byte* target, int64_t count);

}  // namespace trireme
