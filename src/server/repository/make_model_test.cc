// SPDX-License-Identifier: Apache-2.0
#include "server/repository/make_model.h"

#include <gtest/gtest.h>

#include "base/log.h"

namespace trireme::server {
namespace {

using Kind = InstanceGroup::Kind;

InstanceGroup Placed(InstanceGroup group, int num_gpus) {
  EXPECT_TRUE(SetLogLevel("error").ok());
  const Status status = PlaceGroup(num_gpus, "m", group);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return group;
}

TEST(PlaceGroupTest, GpuGroupsNameTheirGpus) {
  EXPECT_EQ(Placed({.kind = Kind::kGpu}, 3).gpus, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(Placed({.kind = Kind::kGpu, .count = 3, .gpus = {1, 2}}, 3).gpus,
            (std::vector<int>{1, 2}));
  EXPECT_EQ(Placed({.kind = Kind::kAuto}, 1).kind, Kind::kGpu);
  EXPECT_EQ(Placed({.kind = Kind::kAuto, .gpus = {4}}, 1).kind, Kind::kCpu);
  EXPECT_EQ(Placed({.kind = Kind::kModel}, 1).kind, Kind::kModel);
}

TEST(PlaceGroupTest, WithoutGpusAsManyInstancesRunOnTheCpu) {
  for (const int num_gpus : {0, -1}) {
    const InstanceGroup group = Placed({.kind = Kind::kGpu, .count = 3, .gpus = {1, 2}}, num_gpus);
    EXPECT_EQ(group.kind, Kind::kCpu);
    EXPECT_EQ(group.count, 6);
    EXPECT_TRUE(group.gpus.empty());
  }
  EXPECT_EQ(Placed({.kind = Kind::kAuto}, 0).kind, Kind::kCpu);
}

TEST(PlaceGroupTest, AGpuThatIsNotThereIsAnError) {
  InstanceGroup group{.name = "g", .kind = Kind::kGpu, .gpus = {0, 2}};
  EXPECT_EQ(PlaceGroup(2, "m", group).message(),
            "instance group 'g' of model 'm' names GPU 2; the machine has GPUs 0 to 1");
}

}  // namespace
}  // namespace trireme::server
