// SPDX-License-Identifier: Apache-2.0
// A folder's new contents, made out of sight and moved into place when complete: a failure leaves
// what was there before. Main thread only.
//
// The work happens in TARGET/.staging.PID.N, inside the target because that is on its file system
// even when the target is a mount point. What a process left that was killed goes with the next one
// made there.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace trireme {

class StagedFolder {
 public:
  // Makes `target` when there is none.
  static StatusOr<std::unique_ptr<StagedFolder>> Create(const std::string& target);
  // Removes what was not committed, and the folders that Create made as far as they are empty.
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::string& path() const { return path_; }

  // Moves every file into the target. `last`, when it was made, vanishes from the target first and
  // comes last: a target that holds it is complete.
  Status Commit(std::string_view last);

 private:
  explicit StagedFolder(std::string target) : target_(std::move(target)) {}

  const std::string target_;
  std::string path_;
  int lock_ = -1;                  // says that the folder is in use
  std::vector<std::string> made_;  // folders above the staging one, outermost first
};

}  // namespace trireme
