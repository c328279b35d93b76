// SPDX-License-Identifier: Apache-2.0
// The tensor table of one mapped file, checked once, and the TensorSource over it that the file
// formats share. Internal to formats/.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"
#include "formats/tensor_source.h"

namespace trireme {

// Bytes of a tensor as a file claims them; an error when the product overflows or a dimension is
// negative, so that every later computation on the shape is safe.
StatusOr<uint64_t> CheckedTensorBytes(DType dtype, const Shape& shape);

struct TensorRecord {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  uint64_t begin = 0;  // first byte in the file
  // Elements between neighbours per dimension; empty: contiguous row-major.
  std::vector<int64_t> strides;
};

// A source over `file`. Every record must have been checked to lie inside the file. Tensors whose
// bytes are strided or not aligned to their element are copied when first asked for.
std::unique_ptr<TensorSource> MakeMappedTensors(MappedFile file, std::vector<TensorRecord> records);

}  // namespace trireme
