#include "server/source.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "kernels/status.h"

namespace bertrand {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<ResolvedSource> Resolve(const std::string& source) {
  return ResolveSource(source, [](const std::string&) {});
}

// The cache alone: downloads are tests/e2e/hub_test.py's.
class SourceTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(cache_);
    const fs::path model = cache_ / "models--org--name";
    fs::create_directories(model / "refs");
    fs::create_directories(model / "snapshots" / "0123abcd");
    std::ofstream(model / "refs" / "main") << "0123abcd\n";
    setenv("HF_HUB_CACHE", cache_.c_str(), 1);
    setenv("HF_HUB_OFFLINE", "1", 1);
  }
  void TearDown() override {
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HUB_OFFLINE");
  }

  const fs::path cache_ = fs::path(testing::TempDir()) / "hub_cache";
};

TEST_F(SourceTest, AFolderIsTakenAsItIs) {
  const auto source = Resolve(cache_.string());
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(source->folder, cache_.string());
  EXPECT_EQ(source->revision, "");
}

TEST_F(SourceTest, HubIds) {
  for (const char* id : {"org/name", "org/name@main", "org/name@0123abcd"}) {
    const auto source = Resolve(id);
    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_EQ(source->revision, "0123abcd");
    EXPECT_TRUE(fs::is_directory(source->folder));
  }
}

// Every variable that huggingface_hub reads, the stronger first.
TEST_F(SourceTest, WhereTheCacheIs) {
  const auto found = [](const char* variable, const fs::path& value) {
    setenv(variable, value.c_str(), 1);
    const bool ok = Resolve("org/name").ok();
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
  const std::string missing = Message(Resolve("org/other").status());
  EXPECT_NE(missing.find("HF_HUB_OFFLINE"), std::string::npos) << missing;
  EXPECT_NE(missing.find("models--org--other"), std::string::npos) << missing;
  EXPECT_FALSE(Resolve("org/name@v9").ok());
  EXPECT_FALSE(Resolve("org/name@../../..").ok());
  EXPECT_FALSE(Resolve("org/name@/etc").ok());
  EXPECT_FALSE(Resolve("/no/such/folder").ok());
  EXPECT_FALSE(Resolve("").ok());
}

TEST(HubOptionsTest, EverythingThatHuggingFaceHubReads) {
  for (const char* name : {"HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN",
                           "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"}) {
    unsetenv(name);
  }
  const fs::path home = fs::path(testing::TempDir()) / "hub_home";
  fs::create_directories(home);
  setenv("HF_HOME", home.c_str(), 1);
  std::ofstream(home / "token") << " hf_stored\n";
  EXPECT_EQ(HubOptions::FromEnvironment().endpoint, "https://huggingface.co");
  EXPECT_EQ(HubOptions::FromEnvironment().token, "hf_stored");
  EXPECT_FALSE(HubOptions::FromEnvironment().offline);
  setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1", 1);
  EXPECT_EQ(HubOptions::FromEnvironment().token, "");
  setenv("HF_TOKEN", "hf_a\r\nInjected: header", 1);
  EXPECT_EQ(HubOptions::FromEnvironment().token, "hf_aInjected:header");
  setenv("HF_ENDPOINT", "http://mirror:8080//", 1);
  EXPECT_EQ(HubOptions::FromEnvironment().endpoint, "http://mirror:8080");
  setenv("TRANSFORMERS_OFFLINE", "yes", 1);
  EXPECT_TRUE(HubOptions::FromEnvironment().offline);
  for (const char* name : {"HF_HOME", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_TOKEN", "HF_ENDPOINT",
                           "TRANSFORMERS_OFFLINE"}) {
    unsetenv(name);
  }
}

TEST(UrlEncodedTest, KeepsWhatUrlsMayHave) {
  EXPECT_EQ(UrlEncoded("refs/pr/1"), "refs%2Fpr%2F1");
  EXPECT_EQ(UrlEncoded("a b/\xC3\xA9.json", "/"), "a%20b/%C3%A9.json");
}

}  // namespace
}  // namespace bertrand
