#include "server/cores.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace bertrand {
namespace {

class CgroupTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  const std::string root_ = testing::TempDir() + "/cgroup_" +
                            testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(CgroupTest, Version2TakesTheLeastOfAllLevels) {
  Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  Write("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(CgroupCores(root_, "0::/a/b\n"), 1.5);
  EXPECT_EQ(CgroupCores(root_, "0::/\n"), 4);
}

TEST_F(CgroupTest, Version2SeenFromAContainer) {
  Write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(CgroupCores(root_, "0::/kubepods/pod1/of/the/host\n"), 0.5);
}

TEST_F(CgroupTest, Version1) {
  Write("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "300000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupCores(root_, "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n"), 3);
  EXPECT_EQ(CgroupCores(root_, "4:cpu,cpuacct:/\n"), std::nullopt);
}

TEST(Cores, NoneKnown) {
  EXPECT_EQ(CgroupCores("/nowhere", ""), std::nullopt);
  EXPECT_EQ(CgroupCores("/nowhere", "garbage\n::\n0::/x"), std::nullopt);
  EXPECT_GE(AvailableCores(), 1);
}

}  // namespace
}  // namespace bertrand
