// SPDX-License-Identifier: Apache-2.0
// Named tensors of requests and responses: a type, a shape and bytes that somebody owns. Values;
// the bytes are immutable once a tensor has been handed on.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/core/piece_stream.h"
#include "trireme/status.h"

namespace trireme::server {

// The numbers are those of the configuration schema.
enum class DataType : uint8_t {
  kInvalid = 0,
  kBool = 1,
  kUint8 = 2,
  kUint16 = 3,
  kUint32 = 4,
  kUint64 = 5,
  kInt8 = 6,
  kInt16 = 7,
  kInt32 = 8,
  kInt64 = 9,
  kFp16 = 10,
  kFp32 = 11,
  kFp64 = 12,
  kBytes = 13,
  kBf16 = 14,
};

std::string_view DataTypeName(DataType type);   // "FP32"; "<invalid>"
DataType ParseDataType(std::string_view name);  // kInvalid for an unknown name
int64_t ElementBytes(DataType type);            // 0 for BYTES, whose elements differ

using Dims = std::vector<int64_t>;

struct Tensor {
  std::string name;
  DataType type = DataType::kInvalid;
  Dims shape;
  // Row-major, little-endian; BYTES elements are a u32 length and their bytes.
  std::string_view data;
  // Keeps `data` alive. Shared, because an input may become an output, and a step's output the
  // inputs of several others, without a copy: the owner is a request's body, a region of shared
  // memory, or a string.
  std::shared_ptr<const void> owner;
  // Of a piece of a longer sequence: the sequence, and whether nothing comes after this piece.
  // Shared: by the pieces.
  std::shared_ptr<PieceStream> stream;
  bool ends_stream = false;
};

// A tensor that owns `bytes`.
Tensor MakeTensor(std::string name, DataType type, Dims shape, std::string bytes);

template <typename T>
Tensor MakeTensorOf(std::string name, DataType type, Dims shape, std::span<const T> values) {
  return MakeTensor(std::move(name), type, std::move(shape),
                    std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes()));
}

// Product of the dimensions; INVALID_ARGUMENT when one is negative or the product overflows.
StatusOr<int64_t> ElementCount(std::span<const int64_t> shape);
std::string ShapeText(std::span<const int64_t> shape);  // "[2,-1]"

void AppendBytesElement(std::string& to, std::string_view element);
// The elements of a BYTES tensor, as views into `data`.
StatusOr<std::vector<std::string_view>> BytesElements(std::string_view data);

// INVALID_ARGUMENT unless `tensor.data` is as long as type and shape say (for BYTES: holds that many
// elements).
Status CheckByteSize(const Tensor& tensor);

}  // namespace trireme::server
