// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/staging_ring.h"

#include "device/cuda/cuda_status.h"

namespace trireme::cuda {

StatusOr<StagingRing> StagingRing::Create(int64_t num_bytes) {
  StagingRing ring;
  for (Entry& entry : ring.entries_) {
    TRIREME_ASSIGN_OR_RETURN(entry.bytes, PinnedBuffer::Allocate(num_bytes, "staging memory"));
    TRIREME_ASSIGN_OR_RETURN(entry.copied, Event::Create());
  }
  return ring;
}

StatusOr<std::byte*> StagingRing::Next(int64_t num_bytes) {
  current_ = (current_ + 1) % entries_.size();
  Entry& entry = entries_[current_];
  if (entry.used) TRIREME_RETURN_IF_ERROR(entry.copied.Synchronize());
  entry.used = false;
  if (entry.bytes.size() < num_bytes) {
    TRIREME_ASSIGN_OR_RETURN(entry.bytes,
                             PinnedBuffer::Allocate(num_bytes * 3 / 2, "staging memory"));
  }
  return entry.bytes.data();
}

Status StagingRing::Copy(int64_t offset, int64_t num_bytes, void* target, const Stream& stream) {
  Entry& entry = entries_[current_];
  TRIREME_CUDA_RETURN_IF_ERROR(
      cudaMemcpyAsync(target, entry.bytes.data() + offset, static_cast<size_t>(num_bytes),
                      cudaMemcpyHostToDevice, stream.get()),
      "copying to the GPU");
  entry.used = true;
  return entry.copied.Record(stream);
}

}  // namespace trireme::cuda
