#include "kernels/gemm/gemm_table.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/gemm/hopper_tile.cuh"
#include "kernels/gemm/small_gemm_plan.h"
#include "kernels/status.h"

namespace bertrand::gpu {
namespace {

const GemmTableOrigin kOrigin = {"NVIDIA H100 80GB HBM3, 9.0, 132 multiprocessors",
                                 "cuBLASLt 130101"};

GemmTable SomeTable() {
  GemmTable table;
  table[{128, 3072, 768, DType::kFloat16, Activation::kGeluErf, true, false}] = {
      GemmChoice::Kind::kSmall, 6, 1, {}, 4.25f};
  table[{4096, 768, 3072, DType::kBFloat16, Activation::kNone, true, true}] = {
      GemmChoice::Kind::kLibrary, 0, 1, {1, 2, UINT64_MAX, 4, 5, 6, 7, 0x8000000000000000u}, 31.5f};
  table[{12288, 4096, 1024, DType::kFloat16, Activation::kGeluErf, true, false}] = {
      GemmChoice::Kind::kHopper, 1, 1, {}, 160.0f};
  table[{12288, 3072, 768, DType::kFloat16, Activation::kGeluErf, true, false}] = {
      GemmChoice::Kind::kGraph, 0, 1, {0x8000000000000007u, 0x8000001800000015u}, 120.0f};
  table[{16, 3, 7, DType::kFloat32, Activation::kSigmoid, false, false}] = {};
  table[{16, 32, 64, DType::kFloat16, Activation::kNone, true, true, /*float8=*/true}] = {};
  return table;
}

TEST(GemmBucketTest, WastesAtMostAnEighthUpTo4096) {
  int64_t before = 0;
  int num_buckets = 0;
  for (int64_t m = 1; m <= 2 * kMaxGemmBucket; ++m) {
    const int64_t bucket = GemmBucket(m);
    ASSERT_GE(bucket, before) << m;
    num_buckets += bucket != before;
    before = bucket;
    ASSERT_EQ(GemmBucket(bucket), bucket) << m;
    if (m > kMaxGemmBucket) {
      ASSERT_EQ(bucket, kMaxGemmBucket);
      continue;
    }
    ASSERT_GE(bucket, m);
    if (m > 64 && m <= 4096) {
      ASSERT_LT(bucket - m, m / 8.0) << m;
    }
    if (m > 4096) {
      ASSERT_LT(bucket - m, m / 2.0) << m;
    }
  }
  EXPECT_EQ(num_buckets, 3 + 6 * 8 + 4 * 2);
  EXPECT_EQ(GemmBucket(1), 16);
  EXPECT_EQ(GemmBucket(17), 32);
  EXPECT_EQ(GemmBucket(65), 72);
  EXPECT_EQ(GemmBucket(128), 128);
  EXPECT_EQ(GemmBucket(129), 144);
  EXPECT_EQ(GemmBucket(4097), 6144);
}

TEST(GemmTableTest, IsReadAsItWasWritten) {
  for (const GemmTable& table : {SomeTable(), GemmTable()}) {
    const auto parsed = ParseGemmTable(FormatGemmTable(kOrigin, table), kOrigin);
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(*parsed, table);
  }
}

TEST(GemmTableTest, AnotherDeviceOrLibraryIsAMiss) {
  const std::string text = FormatGemmTable(kOrigin, SomeTable());
  GemmTableOrigin other = kOrigin;
  other.device = "NVIDIA H200, 9.0, 132 multiprocessors";
  EXPECT_FALSE(ParseGemmTable(text, other).has_value());
  EXPECT_NE(GemmTableName(other), GemmTableName(kOrigin));
  other = kOrigin;
  other.library = "cuBLASLt 130101, cuDNN 92000";
  EXPECT_FALSE(ParseGemmTable(text, other).has_value());
  EXPECT_NE(GemmTableName(other), GemmTableName(kOrigin));
  other.library = "cuBLASLt 130200";
  EXPECT_FALSE(ParseGemmTable(text, other).has_value());
  EXPECT_NE(GemmTableName(other), GemmTableName(kOrigin));
}

// Every single byte changed, left out or doubled, and every length.
TEST(GemmTableTest, AnyDamageIsAMiss) {
  const std::string text = FormatGemmTable(kOrigin, SomeTable());
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_FALSE(ParseGemmTable(text.substr(0, i), kOrigin).has_value()) << i;
    std::string damaged = text;
    damaged[i] ^= 1;
    EXPECT_FALSE(ParseGemmTable(damaged, kOrigin).has_value()) << i;
    damaged = text;
    damaged.erase(i, 1);
    EXPECT_FALSE(ParseGemmTable(damaged, kOrigin).has_value()) << i;
    damaged = text;
    damaged.insert(i, 1, text[i]);
    EXPECT_FALSE(ParseGemmTable(damaged, kOrigin).has_value()) << i;
  }
  EXPECT_FALSE(ParseGemmTable(text + "\n", kOrigin).has_value());
}

// `table`'s text with its entries replaced, and a checksum that is right.
std::string WithEntries(const std::string& entries) {
  const std::string empty = FormatGemmTable(kOrigin, {});
  const std::string body = empty.substr(0, empty.rfind("checksum")) + entries;
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char byte : body) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3u;
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016lx", hash);
  return body + "checksum " + digits + "\n";
}

TEST(GemmTableTest, EntriesOutOfRangeAreAMissEvenWithARightChecksum) {
  const std::string tail = " 0 0 0 0 0 0 0 0 0\n";
  const std::string good = "16 8 8 1 0 0 0 0 0 9 8" + tail;
  ASSERT_TRUE(ParseGemmTable(WithEntries(good), kOrigin).has_value());
  const std::vector<std::string> bad_entries = {
      "17 8 8 1 0 0 0 0 0 9 8" + tail,  // no bucket
      "0 8 8 1 0 0 0 0 0 9 8" + tail,   // no rows
      "131072 8 8 1 0 0 0 0 0 9 8" + tail,
      "16 0 8 1 0 0 0 0 0 9 8" + tail,
      "16 8 2147483648 1 0 0 0 0 0 9 8" + tail,
      "16 8 8 3 0 0 0 0 0 9 8" + tail,  // no such type
      "16 8 8 1 7 0 0 0 0 9 8" + tail,  // nor activation
      "16 8 8 1 0 2 0 0 0 9 8" + tail,
      "16 8 8 1 0 0 2 0 0 9 8" + tail,
      "16 8 8 1 0 0 0 2 0 9 8" + tail,
      "16 8 8 1 0 0 0 0 5 9 8" + tail,   // nor kernel
      "16 8 8 1 0 0 0 0 0 10 8" + tail,  // nor tile
      "16 8 8 1 0 0 0 0 0 9 0" + tail,
      "16 8 8 1 0 0 0 0 0 9 9" + tail,
      "-16 8 8 1 0 0 0 0 0 9 8" + tail,
      "16  8 8 1 0 0 0 0 0 9 8" + tail,
      "16 8 8 1 0 0 0 0 0 9 8 7f800000 0 0 0 0 0 0 0 0\n",  // an infinite time
      "16 8 8 1 0 0 0 0 0 9 8 0 0 0 0 0 0 0 0\n",
      "16 8 8 1 0 0 0 0 0 9 8 0 0 0 0 0 0 0 0 0 0\n",
      good + good,
      "\n"};
  for (const std::string& bad : bad_entries) {
    EXPECT_FALSE(ParseGemmTable(WithEntries(bad), kOrigin).has_value()) << bad;
  }
}

class GemmTableFileTest : public testing::Test {
 protected:
  GemmTableFileTest() : folder_(testing::TempDir() + "gemm_table_test") {
    std::filesystem::remove_all(folder_);
  }
  ~GemmTableFileTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(GemmTableFileTest, IsKeptAndReplaced) {
  const std::string path = folder_ + "/deeper/" + GemmTableName(kOrigin);
  EXPECT_FALSE(LoadGemmTable(path, kOrigin).has_value());
  ASSERT_TRUE(SaveGemmTable(path, kOrigin, {}).ok());
  ASSERT_TRUE(SaveGemmTable(path, kOrigin, SomeTable()).ok());
  EXPECT_EQ(LoadGemmTable(path, kOrigin), SomeTable());
  // Nothing is left beside it.
  const auto files = std::filesystem::directory_iterator(folder_ + "/deeper");
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST_F(GemmTableFileTest, DamagedHugeAndUnreadableFilesAreMisses) {
  std::filesystem::create_directories(folder_);
  const std::string path = folder_ + "/table";
  std::ofstream(path) << "bertrand-gemm 1\n";
  EXPECT_FALSE(LoadGemmTable(path, kOrigin).has_value());
  std::filesystem::resize_file(path, 5 << 20);
  EXPECT_FALSE(LoadGemmTable(path, kOrigin).has_value());
  EXPECT_FALSE(LoadGemmTable(folder_, kOrigin).has_value());
}

TEST_F(GemmTableFileTest, AFolderThatCannotBeMadeIsAnError) {
  std::ofstream(folder_) << "a file";
  const absl::Status status = SaveGemmTable(folder_ + "/table", kOrigin, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << Message(status);
}

// A full disk, as a limit on a file's size; a folder in the file's place.
TEST_F(GemmTableFileTest, WhatCannotBeWrittenLeavesTheOldFileAndNothingElse) {
  const std::string path = folder_ + "/table";
  ASSERT_TRUE(SaveGemmTable(path, kOrigin, SomeTable()).ok());
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small = {16, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const absl::Status full = SaveGemmTable(path, kOrigin, {});
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(full.code(), absl::StatusCode::kUnavailable) << Message(full);
  EXPECT_EQ(LoadGemmTable(path, kOrigin), SomeTable());
  std::filesystem::create_directories(folder_ + "/folder/full");
  const absl::Status replaced = SaveGemmTable(folder_ + "/folder", kOrigin, {});
  EXPECT_EQ(replaced.code(), absl::StatusCode::kUnavailable) << Message(replaced);
  const auto files = std::filesystem::directory_iterator(folder_);
  EXPECT_EQ(std::distance(begin(files), end(files)), 2);
}

TEST(GemmTableTest, HopperHasFewerTilesThanSmallGemm) {
  const GemmKey key = {128, 64, 64};
  for (const int tile : {kNumHopperTiles - 1, kNumHopperTiles}) {
    const GemmTable table = {{key, {GemmChoice::Kind::kHopper, tile}}};
    EXPECT_EQ(ParseGemmTable(FormatGemmTable(kOrigin, table), kOrigin).has_value(),
              tile < kNumHopperTiles);
  }
}

TEST(GemmChoiceTest, SaysWhatItIs) {
  EXPECT_EQ(ToString({GemmChoice::Kind::kSmall, 6, 1}), "small_gemm 64x64");
  EXPECT_EQ(ToString({GemmChoice::Kind::kSmall, 7, 8}), "small_gemm 64x128, 8 splits");
  EXPECT_EQ(ToString({GemmChoice::Kind::kLibrary}), "library");
  EXPECT_EQ(ToString({GemmChoice::Kind::kFloat}), "float_gemm");
  EXPECT_EQ(ToString({GemmChoice::Kind::kHopper, 0}), "hopper_gemm 128x256");
  EXPECT_EQ(ToString({GemmChoice::Kind::kGraph, 0, 1, {}, 2.5f}), "cuDNN's graph, 2.500000 us");
}

}  // namespace
}  // namespace bertrand::gpu
