// SPDX-License-Identifier: Apache-2.0
#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <utility>

namespace trireme {
namespace {

// Closes a descriptor at the end of its scope.
struct FdCloser {
  int fd;
  ~FdCloser() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  FdCloser file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return ErrnoStatus(errno, "cannot open '" + path + "'");
  struct stat info;
  if (::fstat(file.fd, &info) != 0) return ErrnoStatus(errno, "cannot stat '" + path + "'");
  if (!S_ISREG(info.st_mode)) return InvalidArgument("'{}' is not a regular file", path);
  MappedFile mapped;
  mapped.path_ = path;
  mapped.size_ = static_cast<size_t>(info.st_size);
  if (mapped.size_ == 0) return mapped;
  void* data = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_SHARED, file.fd, 0);
  if (data == MAP_FAILED) return ErrnoStatus(errno, "cannot map '" + path + "'");
  mapped.data_ = static_cast<const std::byte*>(data);
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

namespace {
void Advise(const std::byte* data, size_t limit, size_t offset, size_t size, int advice) {
  if (data == nullptr || offset >= limit) return;
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page * page;
  const size_t end = std::min(limit, offset + size);
  // Advice only; a kernel that declines costs speed, not correctness.
  (void)::madvise(const_cast<std::byte*>(data) + begin, end - begin, advice);
}
}  // namespace

void MappedFile::WillNeed(size_t offset, size_t size) const {
  Advise(data_, size_, offset, size, MADV_WILLNEED);
}

void MappedFile::DontNeed(size_t offset, size_t size) const {
  Advise(data_, size_, offset, size, MADV_DONTNEED);
}

StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) {
  FdCloser file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return ErrnoStatus(errno, "cannot open '" + path + "'");
  struct stat info;
  if (::fstat(file.fd, &info) != 0) return ErrnoStatus(errno, "cannot stat '" + path + "'");
  if (S_ISDIR(info.st_mode)) return InvalidArgument("'{}' is a directory, not a file", path);
  if (static_cast<uint64_t>(info.st_size) > max_bytes) {
    return InvalidArgument("'{}' has {} bytes; at most {} are read", path, info.st_size, max_bytes);
  }
  std::string contents;
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = ::read(file.fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "cannot read '" + path + "'");
    if (got == 0) return contents;
    if (contents.size() + static_cast<size_t>(got) > max_bytes) {
      return InvalidArgument("'{}' has more than {} bytes", path, max_bytes);
    }
    contents.append(buffer, static_cast<size_t>(got));
  }
}

Status WriteFile(const std::string& path, std::string_view contents) {
  const std::string temporary = path + ".tmp" + std::to_string(::getpid());
  {
    FdCloser file{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    if (file.fd < 0) return ErrnoStatus(errno, "cannot create '" + temporary + "'");
    size_t done = 0;
    while (done < contents.size()) {
      const ssize_t put = ::write(file.fd, contents.data() + done, contents.size() - done);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) {
        const int error = errno;
        ::unlink(temporary.c_str());
        return ErrnoStatus(error, "cannot write '" + path + "'");
      }
      done += static_cast<size_t>(put);
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return ErrnoStatus(error, "cannot replace '" + path + "'");
  }
  return OkStatus();
}

Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return ErrnoStatus(error.value(), "cannot create directory '" + path + "'");
  return OkStatus();
}

}  // namespace trireme
