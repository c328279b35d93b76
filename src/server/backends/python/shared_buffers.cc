// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/shared_buffers.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/memory_info.h"
#include "base/status.h"

namespace trireme::server {
namespace {

constexpr uint64_t kMinBufferBytes = 1 << 20;
constexpr uint64_t kKeptBytes = 256 << 20;  // of free buffers
constexpr size_t kMaxTheirBuffers = 4096;
constexpr uint64_t kPage = 4096;

}  // namespace

void Descriptor::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

StatusOr<std::shared_ptr<SharedMapping>> SharedMapping::Map(int fd, uint64_t bytes) {
  void* const address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return ErrnoStatus(errno, "mapping shared memory");
  return std::shared_ptr<SharedMapping>(new SharedMapping(static_cast<char*>(address), bytes));
}

SharedMapping::~SharedMapping() { ::munmap(data_, bytes_); }

StatusOr<OwnBuffers::Lease> OwnBuffers::Acquire(uint64_t bytes) {
  const uint64_t most = std::max<uint64_t>(4 * bytes, 4 * kMinBufferBytes);
  auto best = buffers_.end();
  for (auto it = buffers_.begin(); it != buffers_.end(); ++it) {
    const uint64_t size = it->second.mapping->size();
    if (!it->second.free || size < bytes || size > most) continue;
    if (best == buffers_.end() || size < best->second.mapping->size()) best = it;
  }
  if (best != buffers_.end()) {
    best->second.free = false;
    const SharedMapping& mapping = *best->second.mapping;
    return Lease{best->first, mapping.data(), mapping.size(), Descriptor()};
  }
  const uint64_t size = std::max(kMinBufferBytes, (bytes + kPage - 1) / kPage * kPage);
  if (std::cmp_greater(size, AvailableMemoryBytes())) {
    return ResourceExhausted("{} bytes of tensors for a model process do not fit into memory",
                             bytes);
  }
  Descriptor file(::memfd_create("trireme", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK) != 0) {
    return ErrnoStatus(errno, "making shared memory for a model process");
  }
  TRIREME_ASSIGN_OR_RETURN(auto mapping, SharedMapping::Map(file.get(), size));
  const uint64_t number = next_++;
  char* const data = mapping->data();
  buffers_[number] = {std::move(mapping), false};
  return Lease{number, data, size, std::move(file)};
}

void OwnBuffers::Release(uint64_t number) {
  const auto found = buffers_.find(number);
  if (found != buffers_.end()) found->second.free = true;
}

std::vector<uint64_t> OwnBuffers::Trim() {
  std::vector<uint64_t> dropped;
  while (true) {
    uint64_t total = 0;
    auto largest = buffers_.end();
    for (auto it = buffers_.begin(); it != buffers_.end(); ++it) {
      if (!it->second.free) continue;
      total += it->second.mapping->size();
      if (largest == buffers_.end() ||
          it->second.mapping->size() > largest->second.mapping->size()) {
        largest = it;
      }
    }
    if (total <= kKeptBytes) return dropped;
    dropped.push_back(largest->first);
    buffers_.erase(largest);
  }
}

Status TheirBuffers::Add(uint64_t number, uint64_t bytes, const Descriptor& descriptor) {
  struct stat state {};
  const int seals = ::fcntl(descriptor.get(), F_GET_SEALS);
  const bool fixed = seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
  if (!fixed || ::fstat(descriptor.get(), &state) != 0 || bytes == 0 ||
      std::cmp_greater(bytes, state.st_size)) {
    return InvalidArgument("the model process shares memory that is not {} bytes for good", bytes);
  }
  if (mappings_.size() >= kMaxTheirBuffers || mappings_.count(number) > 0) {
    return InvalidArgument("the model process shares buffer {} twice, or too many", number);
  }
  TRIREME_ASSIGN_OR_RETURN(mappings_[number], SharedMapping::Map(descriptor.get(), bytes));
  return OkStatus();
}

std::shared_ptr<SharedMapping> TheirBuffers::Find(uint64_t number) const {
  const auto found = mappings_.find(number);
  return found == mappings_.end() ? nullptr : found->second;
}

}  // namespace trireme::server
