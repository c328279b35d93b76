// SPDX-License-Identifier: Apache-2.0
#include "server/core/tensor_rows.h"

#include "base/status.h"

namespace trireme::server {
namespace {

// Ends of the rows in the bytes of a BYTES tensor.
StatusOr<std::vector<size_t>> BytesRowEnds(const Tensor& tensor, size_t num_rows) {
  TRIREME_ASSIGN_OR_RETURN(const auto elements, BytesElements(tensor.data));
  const size_t per_row = elements.size() / num_rows;
  std::vector<size_t> ends;
  for (size_t row = 1; row <= num_rows; ++row) {
    if (per_row == 0) {
      ends.push_back(0);
      continue;
    }
    const std::string_view last = elements[row * per_row - 1];
    ends.push_back(static_cast<size_t>(last.data() + last.size() - tensor.data.data()));
  }
  return ends;
}

}  // namespace

const Tensor* FindTensor(const InputRow& row, std::string_view name) {
  for (const Tensor& tensor : row) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

StatusOr<std::vector<InputRow>> SplitRows(const InferRequest& request, bool batched) {
  if (!batched) return std::vector<InputRow>{request.inputs};
  const auto num_rows = static_cast<size_t>(request.batch_size);
  std::vector<InputRow> rows(num_rows);
  for (const Tensor& input : request.inputs) {
    std::vector<size_t> ends;
    if (input.type == DataType::kBytes) {
      TRIREME_ASSIGN_OR_RETURN(ends, BytesRowEnds(input, num_rows));
    } else {
      const size_t row_bytes = input.data.size() / num_rows;
      for (size_t row = 1; row <= num_rows; ++row) ends.push_back(row * row_bytes);
    }
    size_t begin = 0;
    for (size_t row = 0; row < num_rows; ++row) {
      Tensor& part = rows[row].emplace_back(input);
      part.shape.erase(part.shape.begin());
      part.data = input.data.substr(begin, ends[row] - begin);
      begin = ends[row];
    }
  }
  return rows;
}

}  // namespace trireme::server
