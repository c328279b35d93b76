// SPDX-License-Identifier: Apache-2.0
#include "tensor/tensor_view.h"

#include <cstring>

#include "base/check.h"
#include "tensor/float_formats.h"

namespace trireme {
namespace {

// Calls `visit` with a value of the C++ type of a float dtype.
template <typename Visitor>
void VisitFloat(DType dtype, Visitor visit) {
  switch (dtype) {
    case DType::kFloat32: return visit(float{});
    case DType::kFloat16: return visit(float16_t{});
    case DType::kBFloat16: return visit(bfloat16_t{});
    case DType::kFloat8E4M3: return visit(float8_e4m3_t{});
    case DType::kFloat64: return visit(double{});
    default: TRIREME_CHECK(IsFloat(dtype));
  }
}

float Load(const float* p) { return *p; }
float Load(const double* p) { return static_cast<float>(*p); }
template <typename T>
float Load(const T* p) {
  return ToFloat(*p);
}
void Store(float x, float* p) { *p = x; }
void Store(float x, double* p) { *p = x; }
void Store(float x, float16_t* p) { *p = ToFloat16(x); }
void Store(float x, bfloat16_t* p) { *p = ToBFloat16(x); }
void Store(float x, float8_e4m3_t* p) { *p = ToFloat8E4M3(x); }

}  // namespace

float LoadAsFloat(const TensorView& tensor, int64_t index) {
  float value = 0;
  VisitFloat(tensor.dtype, [&]<typename T>(T) { value = Load(tensor.as<T>() + index); });
  return value;
}

void ConvertFloats(DType from, const std::byte* source, DType to, std::byte* target,
                   int64_t count) {
  if (from == to) {
    std::memcpy(target, source, static_cast<size_t>(DTypeBytes(from, count)));
    return;
  }
  VisitFloat(from, [&]<typename From>(From) {
    VisitFloat(to, [&]<typename To>(To) {
      const From* in = reinterpret_cast<const From*>(source);
      To* out = reinterpret_cast<To*>(target);
      for (int64_t i = 0; i < count; ++i) Store(Load(in + i), out + i);
    });
  });
}

std::vector<float> ToFloats(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.shape.num_elements()));
  ConvertFloats(tensor.dtype, tensor.data, DType::kFloat32,
                reinterpret_cast<std::byte*>(values.data()), tensor.shape.num_elements());
  return values;
}

}  // namespace trireme
