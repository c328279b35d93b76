// SPDX-License-Identifier: Apache-2.0
#include "base/staged_folder.h"

#include <gtest/gtest.h>
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
