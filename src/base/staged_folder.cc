// SPDX-License-Identifier: Apache-2.0
#include "base/staged_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "base/mapped_file.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = ".staging.";

// `folder` and those above it that do not exist, outermost first.
std::vector<std::string> MissingFolders(fs::path folder) {
  std::vector<std::string> missing;
  std::error_code error;
  folder = fs::absolute(folder, error).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // "a/b/"
  while (!folder.empty() && !fs::exists(folder, error) && folder != folder.parent_path()) {
    missing.push_back(folder.string());
    folder = folder.parent_path();
  }
  std::reverse(missing.begin(), missing.end());
  return missing;
}

// A descriptor that holds the folder's lock until it is closed, by the process' end if need be; -1
// where another holds it or the file system knows no such locks.
int LockFolder(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return -1;
  if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return descriptor;
  ::close(descriptor);
  return -1;
}

// Staging folders of processes that were ended before they could clean up. One is taken for such
// only when it can be locked and its process is not there: between making a folder and locking it
// its maker has but its number to show.
void RemoveStale(const std::string& target) {
  std::error_code error;
  std::vector<fs::path> staging;
  for (const fs::directory_entry& entry : fs::directory_iterator(target, error)) {
    if (entry.path().filename().string().starts_with(kPrefix)) staging.push_back(entry.path());
  }
  for (const fs::path& path : staging) {
    const int process = std::atoi(path.filename().c_str() + kPrefix.size());
    const bool is_there = process <= 0 || ::kill(process, 0) == 0 || errno != ESRCH;
    const int lock = is_there ? -1 : LockFolder(path.string());
    if (lock < 0) continue;
    fs::remove_all(path, error);
    ::close(lock);
  }
}

Status Move(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (!error) return OkStatus();
  return ErrnoStatus(error.value(), "cannot place '" + to.string() + "'");
}

}  // namespace

StatusOr<std::unique_ptr<StagedFolder>> StagedFolder::Create(const std::string& target) {
  static std::atomic<int> counter{0};
  if (target.empty()) return InvalidArgument("the output folder has no name");
  std::unique_ptr<StagedFolder> folder(new StagedFolder(target));
  RemoveStale(target);
  folder->made_ = MissingFolders(target);
  folder->path_ =
      (fs::path(target) / fmt::format("{}{}.{}", kPrefix, ::getpid(), counter.fetch_add(1)))
          .string();
  TRIREME_RETURN_IF_ERROR(MakeDirectories(folder->path_));
  folder->lock_ = LockFolder(folder->path_);
  return folder;
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  if (lock_ >= 0) ::close(lock_);
  // rmdir takes empty folders only.
  for (auto made = made_.rbegin(); made != made_.rend(); ++made) ::rmdir(made->c_str());
}

Status StagedFolder::Commit(std::string_view last) {
  const fs::path staged_last = fs::path(path_) / last;
  const fs::path target_last = fs::path(target_) / last;
  std::error_code error;
  const bool has_last = fs::exists(staged_last, error);
  if (has_last) fs::remove(target_last, error);
  if (error) {
    return ErrnoStatus(error.value(), "cannot replace '" + target_last.string() + "'");
  }
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_, error)) {
    files.push_back(entry.path());
  }
  if (error) return ErrnoStatus(error.value(), "cannot list '" + path_ + "'");
  for (const fs::path& file : files) {
    if (file == staged_last) continue;
    TRIREME_RETURN_IF_ERROR(Move(file, fs::path(target_) / file.filename()));
  }
  return has_last ? Move(staged_last, target_last) : OkStatus();
}

}  // namespace trireme
