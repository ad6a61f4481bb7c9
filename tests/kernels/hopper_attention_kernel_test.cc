// hopper_attention over the emulator, and on a device of capability 9.0, against float64.

#include <gmock/gmock.h>

#include "kernels/attention/hopper_attention.h"
#include "tests/kernels/attention_problem.h"

namespace bertrand {
namespace {

using simt::BFloat16;
using simt::Half;
using testing::HasSubstr;

// Under every thread order.
class HopperAttentionKernelTest : public AttentionProblemTest {
 protected:
  void SetUp() override {
    AttentionProblemTest::SetUp();
    const simt::DeviceInfo& info = device().info();
    if (!info.runs_hopper()) GTEST_SKIP() << info.name << " or its code is not of 9.0a";
  }
  // Few multiprocessors, so that a block has several tiles.
  void SetMultiprocessors(int count) {
    simt::DeviceInfo profile = simt::ProfileH100();
    profile.multiprocessors = count;
    set_device(profile);
  }

  absl::Status Attend(const gpu::AttentionParams& params) override {
    EXPECT_TRUE(gpu::HopperAttentionSupports(device().info(), params));
    return gpu::HopperAttention(params, stream());
  }
};
EMULATED_SUITE(HopperAttentionKernelTest);

// What does not depend on an order.
class HopperAttentionOnceTest : public HopperAttentionKernelTest {};
INSTANTIATE_TEST_SUITE_P(Once, HopperAttentionOnceTest, testing::Values(OneEmulatedCase()));

// Around a warpgroup's rows and a tile; the last sequence ends with the batch, and so does the box.
const std::vector<int> kRagged = {1, 0, 63, 64, 65, 0, 127, 128, 129, 1};

TEST_P(HopperAttentionKernelTest, RaggedBatches) {
  SetMultiprocessors(3);
  ExpectMatchesReference<Half>(kRagged, 1, 64);
  ExpectMatchesReference<BFloat16>({0, 0, 130, 0, 7, 0}, 2, 128);
}

// Keys and values stay for a head's next tiles, or not, where there are too many; the ring and the
// stages go round.
TEST_P(HopperAttentionKernelTest, LongSequences) {
  SetMultiprocessors(1);
  ExpectMatchesReference<BFloat16>({270, 30}, 2, 64);
  ExpectMatchesReference<Half>({400}, 1, 128);
}

TEST_P(HopperAttentionOnceTest, LongerThanTheRing) {
  for (const int multiprocessors : {1, 3}) {
    SetMultiprocessors(multiprocessors);
    ExpectMatchesReference<Half>({513, 512}, 1, 64);
    ExpectMatchesReference<BFloat16>({384, 385}, 1, 128);
  }
}

// A block for every tile, and more blocks than tiles.
TEST_P(HopperAttentionOnceTest, EveryLengthAroundTiles) {
  for (const int length : {1, 63, 64, 65, 127, 128, 129, 191, 192, 193}) {
    ExpectMatchesReference<Half>({length}, 2, 64);
    ExpectMatchesReference<BFloat16>({length, 3}, 1, 128);
  }
}

TEST_P(HopperAttentionOnceTest, HeadSizes) {
  for (const int64_t head_size : {8, 32, 48, 72, 96, 120}) {
    ExpectMatchesReference<Half>({19, 70, 0, 131}, 2, head_size);
  }
}

// Looks at 32 runs of sequences: one, two and three times. Each tile is somebody's, and one's only.
TEST_P(HopperAttentionOnceTest, ManySequences) {
  std::vector<int> lengths;
  for (int i = 0; i < 1100; ++i) lengths.push_back(i % 7 == 0 ? 0 : i % 3);
  SetMultiprocessors(7);
  ExpectMatchesReference<Half>(lengths, 1, 8);
  lengths.resize(33);
  lengths[20] = 300;
  ExpectMatchesReference<Half>(lengths, 2, 8);
  lengths.resize(32);
  ExpectMatchesReference<Half>(lengths, 3, 8);
}

TEST_P(HopperAttentionOnceTest, LargeMagnitudes) {
  ExpectMatchesReference<Half>({150, 3}, 1, 64, 30);
  ExpectMatchesReference<BFloat16>({150, 3}, 1, 64, 30);
}

// A maximum that rises from tile to tile: all that was summed up is scaled down, time and again.
TEST_P(HopperAttentionOnceTest, RisingScores) {
  const Sizes sizes = {400, 1, 64};
  std::vector<float> values = Random(static_cast<size_t>(400 * 3 * 64), 0, 1);
  for (size_t t = 0; t < 400; ++t) {
    for (size_t c = 0; c < 64; ++c) values[(3 * t + 1) * 64 + c] *= static_cast<float>(t) / 40;
  }
  const DeviceTensor<Half> qkv(stream(), {400, 3, 1, 64}, values);
  ExpectAtMostTwice(Run(qkv, {0, 400}, sizes, 1), Naive<Half>(qkv.values(), {0, 400}, sizes, 1),
                    Exact(qkv.values(), {0, 400}, sizes, 1));
}

TEST_P(HopperAttentionKernelTest, WritesFloat8) {
  ExpectWritesFloat8<Half>(64);
  ExpectWritesFloat8<BFloat16>(72);
}

// What follows a sequence in its last tile of keys is its neighbour's, and may be anything.
TEST_P(HopperAttentionKernelTest, NeighboursAreNotSeen) {
  for (const int64_t head_size : {64, 128}) {
    std::vector<float> values = Random(static_cast<size_t>(140 * 3 * head_size));
    const Sizes sizes = {140, 1, head_size};
    const auto row = [&](int64_t token) { return values.begin() + 3 * token * head_size; };
    const DeviceTensor<Half> alone(stream(), {70, 3, 1, head_size},
                                   std::vector<float>(row(0), row(70)));
    std::fill(row(70), values.end(), std::nanf(""));
    const DeviceTensor<Half> qkv(stream(), {140, 3, 1, head_size}, values);
    const std::vector<float> together = Run(qkv, {0, 70, 140}, sizes, 0.125f);
    ASSERT_EQ(together.size(), static_cast<size_t>(140 * head_size));
    EXPECT_EQ(std::vector<float>(together.begin(), together.begin() + 70 * head_size),
              Run(alone, {0, 70}, {70, 1, head_size}, 0.125f));
    EXPECT_TRUE(std::isnan(together.back()));
  }
}

// In captured graphs there is room for more: rows beyond the last sequence are not written, and the
// tail of cu_seqlens repeats the last value.
TEST_P(HopperAttentionOnceTest, RowsBeyondTheSequencesStay) {
  const DeviceTensor<int> lengths(stream(), {5}, std::vector<int>{0, 3, 70, 70, 70});
  std::vector<float> values = Random(200 * 96);
  std::fill(values.begin() + 70 * 96, values.end(), HUGE_VALF);
  const DeviceTensor<Half> qkv(stream(), {200, 3, 2, 16}, values);
  const DeviceTensor<Half> out(stream(), {200, 2, 16}, std::vector<float>(200 * 32, 77));
  ASSERT_OK(gpu::HopperAttention({qkv.view(), lengths.view(), 0.25f, out.view()}, stream()));
  const std::vector<float> actual = out.Download();
  EXPECT_THAT(std::vector<float>(actual.begin() + 70 * 32, actual.end()), testing::Each(77));
  EXPECT_THAT(std::vector<float>(actual.begin(), actual.begin() + 70 * 32),
              testing::Each(testing::Le(1)));
}

// The kernel before may still be writing qkv while barriers are made.
TEST_P(HopperAttentionKernelTest, WaitsForTheKernelBefore) {
  const DeviceTensor<int> lengths(stream(), {3}, std::vector<int>{0, 60, 61});
  const DeviceTensor<Half> qkv(stream(), {61, 3, 3, 64}, Random(61 * 9 * 64));
  const DeviceTensor<Half> between(stream(), {61, 3, 1, 64}), out(stream(), {61, 1, 64});
  const TensorView first_out(between.data(), DType::kFloat16, {61, 3, 64});
  ASSERT_OK(gpu::HopperAttention({qkv.view(), lengths.view(), 0.25f, first_out}, stream()));
  ASSERT_OK(gpu::HopperAttention({between.view(), lengths.view(), 0.25f, out.view()}, stream()));
  EXPECT_EQ(out.Download().size(), 61u * 64u);
}

#ifndef __CUDACC__
// Work is cut by 64 rows and 64 keys; keys and values of a head are loaded once for all its tiles,
// while they fit in the ring; blocks have equal work.
TEST_P(HopperAttentionOnceTest, WorkAndTraffic) {
  const auto count = [this](const std::vector<int>& lengths) {
    const std::vector<int> cu_seqlens = CuSeqlens(lengths);
    const Sizes sizes = {cu_seqlens.back(), 2, 64};
    const DeviceTensor<Half> qkv(stream(), {sizes.tokens, 3, 2, 64},
                                 Random(static_cast<size_t>(sizes.tokens * 384)));
    device().TakeReports();
    Run(qkv, cu_seqlens, sizes, 0.125f);
    return device().TakeReports().at(0).second.counters;
  };
  SetMultiprocessors(1);
  constexpr int64_t kMmas = 2 * 2 * 64 * 64 * 64 / (16 * 8 * 16);  // of 64 rows and keys, two heads
  constexpr int64_t kTileBytes = 128 * 64 * 2;
  EXPECT_EQ(count({1}).mma, kMmas);
  EXPECT_EQ(count({192}).mma, 9 * kMmas);
  EXPECT_EQ(count({64, 0, 129}).mma, (1 + 9) * kMmas);
  EXPECT_EQ(count({512}).async_bytes, 2 * (4 + 8) * kTileBytes);
  EXPECT_EQ(count({513}).async_bytes, 2 * (5 + 5 * 10) * kTileBytes);
  // Without its neighbours a tile loads its own.
  SetMultiprocessors(1000);
  EXPECT_EQ(count({512}).async_bytes, 2 * (4 + 4 * 8) * kTileBytes);
}
#endif

TEST_P(HopperAttentionOnceTest, RefusesWhatItCannotDo) {
  const DeviceTensor<int> lengths(stream(), {2}, std::vector<int>{0, 5});
  const auto message = [&](const TensorView& qkv, const TensorView& out) {
    const gpu::AttentionParams params = {qkv, lengths.view(), 0.25f, out};
    EXPECT_FALSE(gpu::HopperAttentionSupports(device().info(), params));
    return Message(gpu::HopperAttention(params, stream()));
  };
  const DeviceTensor<float> floats(stream(), {5, 3, 1, 16}, Random(240)),
      floats_out(stream(), {5, 1, 16});
  EXPECT_THAT(message(floats.view(), floats_out.view()), HasSubstr("aligned 16-bit heads"));
  for (const int64_t head_size : {12, 136}) {
    const DeviceTensor<Half> qkv(stream(), {5, 3, 1, head_size},
                                 Random(static_cast<size_t>(15 * head_size))),
        out(stream(), {5, 1, head_size});
    EXPECT_THAT(message(qkv.view(), out.view()), HasSubstr("a multiple of 8 up to 128"));
  }
  const DeviceTensor<Half> qkv(stream(), {5, 3, 1, 16}, Random(240)), out(stream(), {6, 1, 16});
  EXPECT_THAT(message(qkv.view(), TensorView(out.data() + 1, DType::kFloat16, {5, 1, 16})),
              HasSubstr("HopperAttention"));
  EXPECT_THAT(Message(gpu::HopperAttention({qkv.view(), lengths.view(), 0, out.view()}, stream())),
              HasSubstr("HopperAttention: out is"));
#ifndef __CUDACC__
  set_device(simt::ProfileA100());
  const DeviceTensor<int> there(stream(), {2}, std::vector<int>{0, 5});
  const DeviceTensor<Half> elsewhere(stream(), {5, 3, 1, 16}, Random(240)),
      elsewhere_out(stream(), {5, 1, 16});
  EXPECT_THAT(Message(gpu::HopperAttention(
                  {elsewhere.view(), there.view(), 0.25f, elsewhere_out.view()}, stream())),
              HasSubstr("capability 9.0"));
#endif
}

TEST_P(HopperAttentionOnceTest, NothingDoesNothing) {
  const DeviceTensor<int> none(stream(), {1}, std::vector<int>{0});
  ASSERT_OK(gpu::HopperAttention({TensorView(nullptr, DType::kFloat16, {0, 3, 1, 64}), none.view(),
                                  0.25f, TensorView(nullptr, DType::kFloat16, {0, 1, 64})},
                                 stream()));
  const DeviceTensor<int> empty(stream(), {3}, std::vector<int>{0, 0, 0});
  const DeviceTensor<Half> qkv(stream(), {5, 3, 1, 64}, Random(15 * 64)),
      out(stream(), {5, 1, 64}, std::vector<float>(5 * 64, 7));
  ASSERT_OK(gpu::HopperAttention({qkv.view(), empty.view(), 0.25f, out.view()}, stream()));
  EXPECT_THAT(out.Download(), testing::Each(7));
}

}  // namespace
}  // namespace bertrand
