// SPDX-License-Identifier: Apache-2.0
#include "formats/blob_writer.h"

#include <utility>

namespace trireme {

BlobWriter::BlobWriter(std::unique_ptr<OutputFile> file, Slots slots)
    : file_(std::move(file)), slots_(std::move(slots)) {}

StatusOr<uint64_t> BlobWriter::Claim(std::string_view name, size_t num_bytes, bool whole) {
  MutexLock lock(mutex_);
  const auto it = slots_.find(name);
  if (it == slots_.end()) {
    return NotFound("tensor '{}' was not declared for '{}'", name, file_->path());
  }
  Slot& slot = it->second;
  if (whole && num_bytes != slot.num_bytes) {
    return InvalidArgument("tensor '{}' of '{}' takes {} bytes, got {}", name, file_->path(),
                           slot.num_bytes, num_bytes);
  }
  if (num_bytes > slot.num_bytes - slot.written) {
    return FailedPrecondition("tensor '{}' of '{}' is written twice", name, file_->path());
  }
  const uint64_t offset = slot.offset + slot.written;
  slot.written += num_bytes;
  return offset;
}

Status BlobWriter::Write(std::string_view name, std::span<const std::byte> bytes) {
  TRIREME_ASSIGN_OR_RETURN(const uint64_t offset, Claim(name, bytes.size(), /*whole=*/true));
  return file_->WriteAt(offset, bytes);
}

Status BlobWriter::Append(std::string_view name, std::span<const std::byte> bytes) {
  TRIREME_ASSIGN_OR_RETURN(const uint64_t offset, Claim(name, bytes.size(), /*whole=*/false));
  return file_->WriteAt(offset, bytes);
}

Status BlobWriter::CheckComplete() {
  MutexLock lock(mutex_);
  for (const auto& [name, slot] : slots_) {
    if (slot.written != slot.num_bytes) {
      return FailedPrecondition("{} of {} bytes of tensor '{}' of '{}' were written", slot.written,
                                slot.num_bytes, name, file_->path());
    }
  }
  return OkStatus();
}

Status BlobWriter::Finish() {
  TRIREME_RETURN_IF_ERROR(CheckComplete());
  return file_->Commit();
}

}  // namespace trireme
