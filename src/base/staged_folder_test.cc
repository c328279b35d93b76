// SPDX-License-Identifier: Apache-2.0
#include "base/staged_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "base/mapped_file.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

class StagedFolderTest : public testing::Test {
 protected:
  StagedFolderTest()
      : root_(fs::temp_directory_path() / fmt::format("trireme_staged_{}", ::getpid())) {
    fs::create_directories(root_);
  }
  ~StagedFolderTest() override { fs::remove_all(root_); }

  std::string Path(const std::string& name) const { return (root_ / name).string(); }
  void Put(const std::string& path, std::string_view text) {
    ASSERT_TRUE(WriteFile(path, text).ok());
  }

  fs::path root_;
};

TEST_F(StagedFolderTest, AbandonedLeavesNothing) {
  {
    auto staged = StagedFolder::Create(Path("a/b/c"));
    ASSERT_TRUE(staged.ok()) << staged.status().ToString();
    Put((*staged)->path() + "/weights", "w");
    EXPECT_TRUE(fs::exists(Path("a/b/c")));
  }
  EXPECT_TRUE(fs::is_empty(root_));
}

TEST_F(StagedFolderTest, AbandonedLeavesWhatWasThere) {
  fs::create_directories(Path("a"));
  Put(Path("a/config.json"), "old");
  {
    auto staged = StagedFolder::Create(Path("a"));
    ASSERT_TRUE(staged.ok());
    Put((*staged)->path() + "/config.json", "new");
  }
  EXPECT_EQ(ReadFile(Path("a/config.json")).value(), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(Path("a")), {}), 1);
}

// A process that was killed leaves its folder; the next one to work there takes it away, and only it.
TEST_F(StagedFolderTest, WhatAKilledProcessLeftIsRemoved) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto staged = StagedFolder::Create(Path("a"));
    ::_exit(staged.ok() && WriteFile(staged.value().release()->path() + "/weights", "w").ok() ? 0
                                                                                              : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_EQ(std::distance(fs::directory_iterator(Path("a")), {}), 1);
  fs::create_directories(Path("a/.staging.1.0"));  // of a process that is there
  fs::create_directories(Path("a/.stagings"));
  auto own = StagedFolder::Create(Path("a"));
  ASSERT_TRUE(own.ok());
  auto other = StagedFolder::Create(Path("a"));
  ASSERT_TRUE(other.ok());
  for (const auto& entry : fs::directory_iterator(Path("a"))) {
    EXPECT_FALSE(entry.path().filename().string().starts_with(fmt::format(".staging.{}.", child)));
  }
  EXPECT_TRUE(fs::exists(Path("a/.staging.1.0")));
  EXPECT_TRUE(fs::exists(Path("a/.stagings")));
  EXPECT_TRUE(fs::exists((*own)->path()));
}

TEST_F(StagedFolderTest, CommitReplacesWhatWasMadeAndKeepsTheRest) {
  fs::create_directories(Path("a"));
  Put(Path("a/config.json"), "old");
  Put(Path("a/weights"), "old");
  Put(Path("a/notes"), "mine");
  {
    auto staged = StagedFolder::Create(Path("a/"));
    ASSERT_TRUE(staged.ok());
    Put((*staged)->path() + "/config.json", "new");
    Put((*staged)->path() + "/weights", "new");
    ASSERT_TRUE((*staged)->Commit("config.json").ok());
  }
  EXPECT_EQ(ReadFile(Path("a/config.json")).value(), "new");
  EXPECT_EQ(ReadFile(Path("a/weights")).value(), "new");
  EXPECT_EQ(ReadFile(Path("a/notes")).value(), "mine");
  EXPECT_EQ(std::distance(fs::directory_iterator(Path("a")), {}), 3);
}

TEST_F(StagedFolderTest, CommitWithoutTheLastFileKeepsTheOldOne) {
  fs::create_directories(Path("a"));
  Put(Path("a/config.json"), "old");
  auto staged = StagedFolder::Create(Path("a"));
  ASSERT_TRUE(staged.ok());
  Put((*staged)->path() + "/cache", "new");
  ASSERT_TRUE((*staged)->Commit("config.json").ok());
  EXPECT_EQ(ReadFile(Path("a/config.json")).value(), "old");
  EXPECT_EQ(ReadFile(Path("a/cache")).value(), "new");
}

TEST_F(StagedFolderTest, ATargetThatIsAFileIsAnError) {
  Put(Path("file"), "");
  EXPECT_FALSE(StagedFolder::Create(Path("file")).ok());
  EXPECT_FALSE(StagedFolder::Create("").ok());
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), {}), 1);
}

}  // namespace
}  // namespace trireme
