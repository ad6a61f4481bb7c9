#include "server/source.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "kernels/status.h"

namespace bertrand {
namespace {

namespace fs = std::filesystem;

class SourceTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(cache_);
    const fs::path model = cache_ / "models--org--name";
    fs::create_directories(model / "refs");
    fs::create_directories(model / "snapshots" / "0123abcd");
    std::ofstream(model / "refs" / "main") << "0123abcd\n";
    setenv("HF_HUB_CACHE", cache_.c_str(), 1);
  }
  void TearDown() override { unsetenv("HF_HUB_CACHE"); }

  const fs::path cache_ = fs::path(testing::TempDir()) / "hub_cache";
};

TEST_F(SourceTest, AFolderIsTakenAsItIs) {
  const auto source = ResolveSource(cache_.string());
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(source->folder, cache_.string());
  EXPECT_EQ(source->revision, "");
}

TEST_F(SourceTest, HubIds) {
  for (const char* id : {"org/name", "org/name@main", "org/name@0123abcd"}) {
    const auto source = ResolveSource(id);
    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_EQ(source->revision, "0123abcd");
    EXPECT_TRUE(fs::is_directory(source->folder));
  }
}

// Every variable that huggingface_hub reads, the stronger first.
TEST_F(SourceTest, WhereTheCacheIs) {
  const auto found = [](const char* variable, const fs::path& value) {
    setenv(variable, value.c_str(), 1);
    const bool ok = ResolveSource("org/name").ok();
    unsetenv(variable);
    return ok;
  };
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"}) {
    unsetenv(name);
  }
  const fs::path home = cache_.parent_path() / "home";
  fs::remove_all(home);
  for (const char* place : {"hf/hub", "xdg/huggingface/hub", ".cache/huggingface/hub"}) {
    fs::create_directories((home / place).parent_path());
    fs::create_directory_symlink(cache_, home / place);
  }
  EXPECT_TRUE(found("HUGGINGFACE_HUB_CACHE", cache_));
  EXPECT_TRUE(found("HF_HOME", home / "hf"));
  EXPECT_TRUE(found("XDG_CACHE_HOME", home / "xdg"));
  EXPECT_FALSE(found("HF_HOME", home / "xdg"));
  const std::string old_home = std::getenv("HOME") == nullptr ? "" : std::getenv("HOME");
  EXPECT_TRUE(found("HOME", home));
  setenv("HOME", home.c_str(), 1);
  EXPECT_TRUE(found("HF_HOME", "~/hf"));
  setenv("HOME", old_home.c_str(), 1);
}

TEST_F(SourceTest, ErrorsSayWhatToDo) {
  const std::string missing = Message(ResolveSource("org/other").status());
  EXPECT_NE(missing.find("does not download"), std::string::npos) << missing;
  EXPECT_NE(missing.find("models--org--other"), std::string::npos) << missing;
  EXPECT_FALSE(ResolveSource("org/name@v9").ok());
  EXPECT_FALSE(ResolveSource("org/name@../../..").ok());
  EXPECT_FALSE(ResolveSource("/no/such/folder").ok());
  EXPECT_FALSE(ResolveSource("").ok());
}

}  // namespace
}  // namespace bertrand
