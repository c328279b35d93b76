// SPDX-License-Identifier: Apache-2.0
// safetensors: reading through a memory map, single or sharded, and writing tensor by tensor.
// Sources are immutable and thread-safe; the writer's Write may be called from several threads.
//
// File: u64 header length (little endian), JSON header {name: {dtype, shape, data_offsets}}, bytes.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/tensor_source.h"

namespace trireme {

// Refuses whatever the format forbids: offsets outside the file, tensors that overlap or leave
// bytes unused, sizes that disagree with dtype and shape, a name listed twice.
StatusOr<std::unique_ptr<TensorSource>> OpenSafetensors(const std::string& path);

// `index_path`: a model.safetensors.index.json; its shards lie beside it.
StatusOr<std::unique_ptr<TensorSource>> OpenSafetensorsIndex(const std::string& index_path);

// Declares all tensors first, then takes their bytes in any order, so that memory stays at the
// tensors in flight. The file appears under its name only when Finish succeeds.
class SafetensorsWriter {
 public:
  struct Entry {
    std::string name;
    DType dtype = DType::kFloat32;
    Shape shape;
  };

  // kInt4 has no name in safetensors: declare it as kUInt8 with two values a byte.
  static StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      const std::string& path, std::vector<Entry> entries,
      std::map<std::string, std::string> metadata);
  virtual ~SafetensorsWriter() = default;

  // All bytes of one tensor, once. Thread-safe.
  virtual Status Write(std::string_view name, std::span<const std::byte> bytes) = 0;
  // The next bytes of one tensor, for those made part by part.
  virtual Status Append(std::string_view name, std::span<const std::byte> bytes) = 0;
  // An error names a tensor that was not written.
  virtual Status Finish() = 0;
};

}  // namespace trireme
