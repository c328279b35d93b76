// SPDX-License-Identifier: Apache-2.0
// A batched request taken apart into its rows. Pure functions.
#pragma once

#include <string_view>
#include <vector>

#include "server/core/inference.h"

namespace trireme::server {

// The inputs of one element of a batch, without the batch dimension. The bytes stay where they are.
using InputRow = std::vector<Tensor>;

const Tensor* FindTensor(const InputRow& row, std::string_view name);

// The rows of a validated request: `batch_size` of them, or with `batched` false the one it is.
StatusOr<std::vector<InputRow>> SplitRows(const InferRequest& request, bool batched);

}  // namespace trireme::server
