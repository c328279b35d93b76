// SPDX-License-Identifier: Apache-2.0
#include "server/core/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"

namespace trireme::server {
namespace {

// The regions of Python models are not for clients.
constexpr std::string_view kReservedKey = "triton_python_backend_shm_region_";

// The whole mapping, from the start of the page the region begins on.
struct Mapping {
  void* address = MAP_FAILED;
  size_t bytes = 0;
  ~Mapping() {
    if (address != MAP_FAILED) ::munmap(address, bytes);
  }
};

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

StatusOr<SharedSpan> Map(const SharedRegionInfo& info) {
  Descriptor file{::shm_open(info.key.c_str(), O_RDWR, 0)};
  if (file.fd < 0) {
    return InvalidArgument("Unable to open shared memory region: '{}'", info.key);
  }
  struct stat state {};
  if (::fstat(file.fd, &state) != 0 || state.st_size < 0) {
    return InvalidArgument("Unable to get the size of shared memory region: '{}'", info.key);
  }
  const auto size = static_cast<uint64_t>(state.st_size);
  // Touching pages behind the end of the object would kill the process.
  if (info.byte_size == 0 || info.offset > size || info.byte_size > size - info.offset) {
    return InvalidArgument(
        "failed to register shared memory region '{}': invalid args: offset {} and byte size {} "
        "reach past the {} bytes of key '{}'",
        info.name, info.offset, info.byte_size, size, info.key);
  }
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = info.offset / page * page;
  auto mapping = std::make_shared<Mapping>();
  mapping->bytes = info.offset - begin + info.byte_size;
  mapping->address = ::mmap(nullptr, mapping->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd,
                            static_cast<off_t>(begin));
  if (mapping->address == MAP_FAILED) {
    return InvalidArgument("Unable to map shared memory region: '{}'", info.key);
  }
  char* first = static_cast<char*>(mapping->address) + (info.offset - begin);
  return SharedSpan{{first, info.byte_size}, mapping};
}

}  // namespace

Status SharedMemory::CheckAllowed() const {
  if (allowed_) return OkStatus();
  return Unimplemented(
      "Client shared memory is disabled; start the server with --allow-client-shm=true");
}

Status SharedMemory::Register(const SharedRegionInfo& info) {
  TRIREME_RETURN_IF_ERROR(CheckAllowed());
  if (info.name.empty()) return InvalidArgument("a shared memory region needs a name");
  const std::string_view key(info.key);
  if (key.substr(key.starts_with('/') ? 1 : 0).starts_with(kReservedKey)) {
    return InvalidArgument(
        "cannot register shared memory region '{}' with key '{}': it is reserved "
        "for Python models",
        info.name, info.key);
  }
  MutexLock lock(mutex_);
  if (regions_.count(info.name) > 0) {
    return AlreadyExists("shared memory region '{}' already in manager", info.name);
  }
  TRIREME_ASSIGN_OR_RETURN(SharedSpan span, Map(info));
  regions_[info.name] = {info, std::move(span)};
  return OkStatus();
}

Status SharedMemory::Unregister(const std::string& name) {
  TRIREME_RETURN_IF_ERROR(CheckAllowed());
  MutexLock lock(mutex_);
  if (name.empty()) {
    regions_.clear();
  } else {
    regions_.erase(name);
  }
  return OkStatus();
}

StatusOr<std::vector<SharedRegionInfo>> SharedMemory::List(const std::string& name) const {
  TRIREME_RETURN_IF_ERROR(CheckAllowed());
  MutexLock lock(mutex_);
  if (!name.empty() && regions_.count(name) == 0) {
    return NotFound("Unable to find system shared memory region: '{}'", name);
  }
  std::vector<SharedRegionInfo> list;
  for (const auto& [key, region] : regions_) {
    if (name.empty() || key == name) list.push_back(region.info);
  }
  return list;
}

StatusOr<SharedSpan> SharedMemory::Find(const std::string& name, uint64_t offset,
                                        uint64_t byte_size) const {
  TRIREME_RETURN_IF_ERROR(CheckAllowed());
  MutexLock lock(mutex_);
  const auto found = regions_.find(name);
  if (found == regions_.end()) {
    return NotFound("Unable to find shared memory region: '{}'", name);
  }
  const SharedSpan& span = found->second.span;
  if (offset > span.bytes.size() || byte_size > span.bytes.size() - offset) {
    return InvalidArgument(
        "Invalid offset + byte size for shared memory region: '{}': {} + {} is past its {} bytes",
        name, offset, byte_size, span.bytes.size());
  }
  return SharedSpan{span.bytes.subspan(offset, byte_size), span.owner};
}

}  // namespace trireme::server
