// SPDX-License-Identifier: Apache-2.0
// A file of known size written piece by piece under a temporary name and renamed when complete.
// WriteAt is thread-safe. Internal to formats/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace trireme {

class OutputFile {
 public:
  // Reserves `size` bytes, so that a full disk is known before the work starts.
  static StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path, uint64_t size);
  // Deletes the temporary file unless Commit succeeded.
  ~OutputFile();

  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  Status WriteAt(uint64_t offset, std::span<const std::byte> bytes);
  Status WriteAt(uint64_t offset, std::string_view text) {
    return WriteAt(offset, std::as_bytes(std::span(text.data(), text.size())));
  }
  // Closes the file and renames it into place.
  Status Commit();

  const std::string& path() const { return path_; }

 private:
  OutputFile(std::string path, std::string temporary, int fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

  const std::string path_;
  const std::string temporary_;
  int fd_;
};

}  // namespace trireme
