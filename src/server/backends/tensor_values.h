// SPDX-License-Identifier: Apache-2.0
// Typed access to the bytes of tensors, for backends. Pure functions.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "server/core/tensor.h"

namespace trireme::server {

// A copy, because the bytes of a request need not be aligned.
template <typename T>
std::vector<T> ValuesOf(const Tensor& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), tensor.data.data(), values.size() * sizeof(T));
  return values;
}

// Calls `visit` with a value of the C++ type of a numeric tensor type (FP16 and BF16 excepted);
// false for other types.
template <typename Visit>
bool VisitNumeric(DataType type, Visit visit) {
  switch (type) {
    case DataType::kUint8: return visit(uint8_t{}), true;
    case DataType::kUint16: return visit(uint16_t{}), true;
    case DataType::kUint32: return visit(uint32_t{}), true;
    case DataType::kUint64: return visit(uint64_t{}), true;
    case DataType::kInt8: return visit(int8_t{}), true;
    case DataType::kInt16: return visit(int16_t{}), true;
    case DataType::kInt32: return visit(int32_t{}), true;
    case DataType::kInt64: return visit(int64_t{}), true;
    case DataType::kFp32: return visit(float{}), true;
    case DataType::kFp64: return visit(double{}), true;
    default: return false;
  }
}

}  // namespace trireme::server
