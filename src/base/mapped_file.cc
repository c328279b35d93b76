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

namespace {

// errno, or 0.
int WriteAll(int fd, std::string_view contents) {
  while (!contents.empty()) {
    const ssize_t put = ::write(fd, contents.data(), contents.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    contents.remove_prefix(static_cast<size_t>(put));
  }
  return 0;
}

// A terminal, pipe or device is written through, never replaced by a file.
Status WriteThrough(const std::string& path, std::string_view contents) {
  FdCloser file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (file.fd < 0) return ErrnoStatus(errno, "cannot open '" + path + "'");
  const int error = WriteAll(file.fd, contents);
  return error == 0 ? OkStatus() : ErrnoStatus(error, "cannot write '" + path + "'");
}

}  // namespace

Status WriteFile(const std::string& name, std::string_view contents) {
  struct stat info;
  const bool exists = ::stat(name.c_str(), &info) == 0;
  if (exists && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
    return WriteThrough(name, contents);
  }
  // What a symbolic link points to is replaced, not the link.
  std::error_code unresolved;
  std::string path = name;
  if (exists) {
    const auto target = std::filesystem::canonical(name, unresolved);
    if (!unresolved) path = target.string();
  }
  const std::string temporary = path + ".tmp" + std::to_string(::getpid());
  {
    FdCloser file{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    if (file.fd < 0) return ErrnoStatus(errno, "cannot create '" + temporary + "'");
    if (const int error = WriteAll(file.fd, contents); error != 0) {
      ::unlink(temporary.c_str());
      return ErrnoStatus(error, "cannot write '" + path + "'");
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
