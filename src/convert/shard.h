// SPDX-License-Identifier: Apache-2.0
// Which part of a tensor each rank holds, and how to cut it. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tensor/tensor_view.h"
#include "trireme/model_family.h"
#include "trireme/status.h"

namespace trireme::convert {

// Rows [begin, end) of the whole tensor; rows past its end are zeros (vocabulary padding).
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// A rank's share: the row ranges one after the other, columns [column_begin, column_end).
struct Slice {
  std::vector<RowRange> rows;
  int64_t column_begin = 0;
  int64_t column_end = 1;
  Shape shape;
};

// The tensor's name in the file of `rank`, layers renumbered within their pipeline stage; unset when
// the rank does not hold it.
StatusOr<std::optional<std::string>> NameOnRank(const TensorRule& rule, const ModelConfig& config,
                                                int rank);

// `whole` if it is what the configuration makes of the rule, else INVALID_ARGUMENT with both.
StatusOr<Shape> CheckedShape(const TensorRule& rule, const ModelConfig& config, const Shape& whole);

// The share of rank config.mapping.rank.
StatusOr<Slice> SliceOf(const TensorRule& rule, const ModelConfig& config, const Shape& whole);

// Cuts a slice out of the stacked parts, transposed, reordered and edited as the rule says, some rows
// at a time, so that memory stays small whatever the tensor's size. Borrows rule and parts.
class SliceMaker {
 public:
  SliceMaker(const TensorRule& rule, const std::vector<TensorView>& parts, const Shape& whole,
             const Slice& slice)
      : rule_(rule), parts_(parts), whole_(whole), slice_(slice) {}

  // Of all matrices, when the slice stacks several.
  int64_t num_rows() const {
    return slice_.shape.rank() == 3 ? slice_.shape[0] * slice_.shape[1] : slice_.shape[0];
  }
  // Rows [begin, end) of the slice.
  HostTensor Rows(int64_t begin, int64_t end, DType dtype) const;

 private:
  // Rows [begin, end) of the whole tensor, columns [column, column + count).
  void ReadRows(int64_t begin, int64_t end, int64_t column, int64_t count, DType dtype,
                std::byte* to) const;
  // The same of the sources as they are stacked, before their rows are reordered.
  void ReadStacked(int64_t begin, int64_t end, int64_t column, int64_t count, DType dtype,
                   std::byte* to) const;
  void ReadEdited(int64_t begin, int64_t end, DType dtype, std::byte* to) const;

  const TensorRule& rule_;
  const std::vector<TensorView>& parts_;
  const Shape whole_;
  const Slice slice_;
};

}  // namespace trireme::convert
