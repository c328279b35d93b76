// SPDX-License-Identifier: Apache-2.0
// Weights saved by torch.save: the zip form and the older one. Tensors are used in place from the
// map. No code of the file is run: only tensors are rebuilt, every other opcode or global is
// refused by name. The source is immutable and thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/mapped_tensors.h"
#include "formats/tensor_source.h"

namespace trireme {

// The file must hold a dictionary from names to tensors; other values in it are skipped.
// Tensors that are not contiguous are copied when first asked for.
StatusOr<std::unique_ptr<TensorSource>> OpenTorchBin(const std::string& path);

// `index_path`: a pytorch_model.bin.index.json; its shards lie beside it.
StatusOr<std::unique_ptr<TensorSource>> OpenTorchBinIndex(const std::string& index_path);

// The tensor table of a whole file held in memory.
StatusOr<std::vector<TensorRecord>> ReadTorchBinTable(std::span<const std::byte> file);

}  // namespace trireme
