// SPDX-License-Identifier: Apache-2.0
// Read-only memory-mapped file and whole-file helpers. MappedFile is immutable once open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace trireme {

// A read-only mapping of a whole file. Move-only. The bytes stay valid while the object lives.
class MappedFile {
 public:
  static StatusOr<MappedFile> Open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::string& path() const { return path_; }

  // Tells the kernel that [offset, offset + size) will be read soon / is not needed for now.
  void WillNeed(size_t offset, size_t size) const;
  void DontNeed(size_t offset, size_t size) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

// Reads a whole regular file of at most `max_bytes`.
StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes = 1ull << 32);

// Writes through a temporary file in the same folder and a rename: readers see all or nothing.
Status WriteFile(const std::string& path, std::string_view contents);

Status MakeDirectories(const std::string& path);

}  // namespace trireme
