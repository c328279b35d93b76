// SPDX-License-Identifier: Apache-2.0
// The classification extension: the k largest elements of an output instead of all. Pure functions.
#pragma once

#include <span>
#include <string>

#include "server/core/tensor.h"

namespace trireme::server {

// A BYTES tensor [k], or [batch, k] when the first dimension of `output` is a batch, of
// "value:index" or "value:index:label". INVALID_ARGUMENT for types without an order.
StatusOr<Tensor> Classify(const Tensor& output, uint64_t k, bool batched,
                          std::span<const std::string> labels);

}  // namespace trireme::server
