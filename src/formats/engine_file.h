// SPDX-License-Identifier: Apache-2.0
// The engine container: one memory-mappable file that also works alone. EngineFile is immutable
// and thread-safe; the writer's Write may be called from several threads.
//
//   [0, 8)        "TRIREME\n"
//   [8, 12)       u32 format version, little endian
//   [12, 16)      u32 CRC-32C of [16, 24 + n)
//   [16, 24)      u64 length of the JSON header
//   [24, 24 + n)  JSON header: where config, plan and each tensor lie, and the CRC-32C of each
//   ...           config text, plan text (both JSON, readable as they are)
//   ...           tensors, each at a multiple of 256 bytes
//
// Open checks header, configuration and plan. Tensors are checked by Verify alone: the CPU maps them
// and reads a page when a step first needs it, which a check at every start would undo.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace trireme {

inline constexpr uint32_t kEngineFormatVersion = 2;
inline constexpr uint64_t kEngineAlignment = 256;

struct EngineTensor {
  std::string name;
  std::string layout;  // "row_major", ...: the meaning of the bytes
  DType dtype = DType::kFloat32;
  Shape shape;             // logical
  uint64_t num_bytes = 0;  // as stored: a packed layout may pad
};

struct EngineTensorEntry : EngineTensor {
  uint64_t offset = 0;  // in the file, a multiple of kEngineAlignment
  uint32_t crc32c = 0;  // of its bytes
};

class EngineFileWriter {
 public:
  static StatusOr<std::unique_ptr<EngineFileWriter>> Create(const std::string& path,
                                                            std::string_view config_json,
                                                            std::string_view plan_json,
                                                            std::vector<EngineTensor> table);
  virtual ~EngineFileWriter() = default;

  // All bytes of one tensor, once. Thread-safe.
  virtual Status Write(std::string_view name, std::span<const std::byte> bytes) = 0;
  // An error names a tensor that was not written; else the file appears under its name.
  virtual Status Finish() = 0;
};

class EngineFile {
 public:
  static StatusOr<std::unique_ptr<EngineFile>> Open(const std::string& path);
  virtual ~EngineFile() = default;

  virtual std::string_view config_json() const = 0;
  virtual std::string_view plan_json() const = 0;
  // In file order.
  virtual std::span<const EngineTensorEntry> tensors() const = 0;
  // Null when there is none of that name.
  virtual const EngineTensorEntry* Find(std::string_view name) const = 0;
  // 256-byte-aligned in memory too. Valid while this object lives.
  virtual StatusOr<std::span<const std::byte>> Bytes(std::string_view name) const = 0;
  // Reads all bytes of the tensor and holds them against their checksum. INVALID_ARGUMENT names the tensor
  // and the remedy.
  virtual Status Verify(std::string_view name) const = 0;
  // Hints that the tensor's pages will be read soon, or are not needed for now.
  virtual void Prefetch(std::string_view name) const = 0;
  virtual void Release(std::string_view name) const = 0;
};

}  // namespace trireme
