// SPDX-License-Identifier: Apache-2.0
// Named byte ranges of an output file, each written exactly once, whole or part by part. Thread-safe. Internal to
// formats/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "base/status.h"
#include "formats/output_file.h"

namespace trireme {

class BlobWriter {
 public:
  struct Slot {
    uint64_t offset = 0;  // in the file
    uint64_t num_bytes = 0;
    uint64_t written = 0;  // bytes so far
  };
  using Slots = std::map<std::string, Slot, std::less<>>;

  BlobWriter(std::unique_ptr<OutputFile> file, Slots slots);

  Status Write(std::string_view name, std::span<const std::byte> bytes);
  // The next part of a blob; its parts come one after the other.
  Status Append(std::string_view name, std::span<const std::byte> bytes);
  // An error names a blob that was not written.
  Status CheckComplete();
  Status Finish();
  // For what stands outside the blobs.
  OutputFile& file() { return *file_; }

 private:
  // Counts the bytes as written and returns where they go. `whole`: they must be all of the blob.
  StatusOr<uint64_t> Claim(std::string_view name, size_t num_bytes, bool whole) EXCLUDES(mutex_);

  const std::unique_ptr<OutputFile> file_;
  Mutex mutex_;
  Slots slots_ GUARDED_BY(mutex_);
};

}  // namespace trireme
