// SPDX-License-Identifier: Apache-2.0
// Element types of tensors and their names in each naming scheme. Pure functions.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace trireme {

enum class DType : uint8_t {
  kFloat32,
  kFloat16,
  kBFloat16,
  kFloat8E4M3,  // OCP FP8 with one NaN pattern and no infinity ("fn")
  kInt8,
  kInt4,  // two values a byte, low nibble first, two's complement
  kUInt8,
  kInt16,
  kInt32,
  kInt64,
  kBool,
  kFloat64,
};

// Bits of one element; kInt4 is the one type under a byte.
int DTypeBits(DType dtype);

// Bytes of `count` packed elements, rounded up to a whole byte.
int64_t DTypeBytes(DType dtype, int64_t count);

// "float32", "bfloat16", "fp8", "int8", ...: the names of checkpoint and engine config.json.
std::string_view DTypeName(DType dtype);
// Accepts the names above and torch's ("torch.bfloat16", "half", "fp16", "bf16", "fp32").
StatusOr<DType> ParseDType(std::string_view name);

// "F32", "BF16", "F8_E4M3", ...: the names of safetensors headers. kInt4 has none.
std::string_view SafetensorsDTypeName(DType dtype);
StatusOr<DType> ParseSafetensorsDType(std::string_view name);

inline bool IsFloat(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16 ||
         dtype == DType::kFloat8E4M3 || dtype == DType::kFloat64;
}

}  // namespace trireme
