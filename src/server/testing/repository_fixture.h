// SPDX-License-Identifier: Apache-2.0
// A model repository in a temporary folder, for tests.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>

namespace trireme::server::testing {

class TestRepository {
 public:
  TestRepository() {
    static std::atomic<int> count{0};
    path_ = std::filesystem::temp_directory_path() /
            fmt::format("trireme_repository_{}_{}", ::getpid(), count++);
    std::filesystem::create_directories(path_);
  }
  ~TestRepository() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  void Add(const std::string& model, const std::string& config, const std::string& version = "1") {
    std::filesystem::create_directories(path_ / model / version);
    Write(model + "/config.pbtxt", config);
  }
  void Write(const std::string& file, const std::string& content) {
    std::filesystem::create_directories((path_ / file).parent_path());
    std::ofstream(path_ / file) << content;
  }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// What the client examples call `simple`: int32[16], batches up to 8.
inline std::string SimpleConfig(const std::string& more = "") {
  return "backend: 'add_sub' max_batch_size: 8 "
         "input [{name: 'INPUT0' data_type: TYPE_INT32 dims: [16]}, "
         "{name: 'INPUT1' data_type: TYPE_INT32 dims: [16]}] "
         "output [{name: 'OUTPUT0' data_type: TYPE_INT32 dims: [16]}, "
         "{name: 'OUTPUT1' data_type: TYPE_INT32 dims: [16]}] " +
         more;
}

inline std::string IdentityConfig(const std::string& type, const std::string& dims = "[-1]",
                                  const std::string& more = "") {
  return fmt::format(
      "backend: 'identity' input {{name: 'INPUT0' data_type: {0} dims: {1}}} "
      "output {{name: 'OUTPUT0' data_type: {0} dims: {1}}} {2}",
      type, dims, more);
}

inline std::string RepeatConfig() {
  return "backend: 'repeat' model_transaction_policy {decoupled: true} "
         "input [{name: 'IN' data_type: TYPE_INT32 dims: [-1]}, "
         "{name: 'DELAY' data_type: TYPE_UINT32 dims: [-1]}, "
         "{name: 'WAIT' data_type: TYPE_UINT32 dims: [1] optional: true}] "
         "output [{name: 'OUT' data_type: TYPE_INT32 dims: [1]}, "
         "{name: 'IDX' data_type: TYPE_UINT32 dims: [1]}]";
}

}  // namespace trireme::server::testing
