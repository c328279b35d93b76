// SPDX-License-Identifier: Apache-2.0
#include "formats/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <utility>

namespace trireme {
namespace {

// Two writers of one path in one process must not share a temporary file.
std::string TemporaryName(const std::string& path) {
  static std::atomic<uint64_t> counter{0};
  return fmt::format("{}.tmp{}.{}", path, ::getpid(), counter.fetch_add(1));
}

Status Reserve(int fd, uint64_t size) {
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) return ErrnoStatus(errno, "ftruncate");
  if (size == 0) return OkStatus();
  if (::fallocate(fd, 0, 0, static_cast<off_t>(size)) == 0) return OkStatus();
  // File systems without reservation report a full disk while writing instead.
  if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR) return OkStatus();
  return ErrnoStatus(errno, "fallocate");
}

}  // namespace

StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path, uint64_t size) {
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return InvalidArgument("'{}' is no regular file, and writing it needs one", path);
  }
  std::string temporary = TemporaryName(path);
  const int fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, "cannot create '" + temporary + "'");
  std::unique_ptr<OutputFile> file(new OutputFile(path, std::move(temporary), fd));
  if (const Status status = Reserve(fd, size); !status.ok()) {
    return status.WithContext(fmt::format("cannot reserve {} bytes for '{}'", size, path));
  }
  return file;
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

Status OutputFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoStatus(errno, "cannot write '" + path_ + "'");
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return OkStatus();
}

Status OutputFile::Commit() {
  if (fd_ < 0) return FailedPrecondition("'{}' was already finished", path_);
  // close() is where some file systems report a full disk.
  const int closed = ::close(std::exchange(fd_, -1));
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    return ErrnoStatus(error, "cannot complete '" + path_ + "'");
  }
  return OkStatus();
}

}  // namespace trireme
