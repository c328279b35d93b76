// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files, and rows of token ids as .npy or .csv. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/tensor_view.h"

namespace trireme {

// Versions 1 to 3, little endian; Fortran order is turned into row-major. Memory is bounded by the
// size of the file.
StatusOr<HostTensor> ReadNpy(const std::string& path);
// `what` names the bytes in errors.
StatusOr<HostTensor> ParseNpy(std::span<const std::byte> bytes, std::string_view what);

// Version 1, row-major. NumPy knows no bfloat16, fp8 or int4: those are refused.
Status WriteNpy(const std::string& path, const TensorView& tensor);

using IdRows = std::vector<std::vector<int32_t>>;

// One row per line, ids separated by commas and optional spaces; empty lines are skipped.
StatusOr<IdRows> ParseIdCsv(std::string_view text, std::string_view what);
std::string IdCsv(const IdRows& rows);

// By the name's ending: .csv, or .npy with one or two dimensions of integers.
StatusOr<IdRows> ReadIdRows(const std::string& path);

}  // namespace trireme
