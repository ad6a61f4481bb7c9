#include <gmock/gmock.h>

#include "kernels/attention/attention.h"
#include "tests/kernels/attention_problem.h"

namespace bertrand {
namespace {

using simt::BFloat16;
using simt::Half;

class AttentionKernelTest : public AttentionProblemTest {
 protected:
  // An H100 that is small enough for these batches to fill it: tall tiles are chosen.
  void UseSmallDevice() {
    simt::DeviceInfo device = simt::ProfileH100();
    device.multiprocessors = 1;
    set_device(device);
  }

  absl::Status Attend(const gpu::AttentionParams& params) override {
    return gpu::Attention(params, stream());
  }
};

EMULATED_SUITE(AttentionKernelTest);

// Around tiles of keys and of rows, and around a warp's rows.
const std::vector<int> kRagged = {1, 17, 0, 63, 64, 65, 15, 16, 127, 128, 0, 129, 130};

TEST_P(AttentionKernelTest, RaggedBatches) {
  ExpectMatchesReference<Half>(kRagged, 1, 64);
  ExpectMatchesReference<BFloat16>(kRagged, 1, 32);
  ExpectMatchesReference<float>(kRagged, 1, 32);
  ExpectMatchesReference<Half>({0, 0, 7, 0}, 2, 64);
  ExpectMatchesReference<float>({0, 0, 7, 0}, 2, 64);
}

TEST_P(AttentionKernelTest, TallTiles) {
  UseSmallDevice();
  ExpectMatchesReference<Half>({300, 127, 128, 129}, 2, 64);
  ExpectMatchesReference<BFloat16>({257, 260}, 2, 32);
  ExpectMatchesReference<Half>({130, 128, 256}, 2, 128);
#ifndef __CUDACC__
  const auto reports = device().TakeReports();
  ASSERT_EQ(reports.size(), 1);
  // A tile for every 128 tokens and one for every sequence, of two heads.
  EXPECT_EQ(reports[0].second.counters.blocks, 2 * ((5 + 4) + (4 + 2) + (4 + 3)));
  // Heads of 128 have 8 warps of 16 rows, the others 4 of 32.
  EXPECT_EQ(reports[0].second.counters.threads, 2 * (128 * ((5 + 4) + (4 + 2)) + 256 * (4 + 3)));
#endif
}

TEST_P(AttentionKernelTest, HeadSizesOnTensorCores) {
  for (const int64_t head_size : {8, 16, 24, 40, 48, 72, 80, 96, 120, 128}) {
    ExpectMatchesReference<Half>({19, 70}, 2, head_size);
  }
  ExpectMatchesReference<BFloat16>({19, 70}, 2, 104);
}

TEST_P(AttentionKernelTest, HeadSizesInFloat) {
  for (const int64_t head_size : {1, 3, 20, 33, 64, 65, 80, 128, 130, 192, 255, 256}) {
    ExpectMatchesReference<float>({19, 70}, 2, head_size);
  }
  for (const int64_t head_size : {7, 36, 100, 136, 250, 256}) {
    ExpectMatchesReference<Half>({19, 70}, 2, head_size);
  }
  ExpectMatchesReference<BFloat16>({5, 66}, 1, 90);
}

// The search for a block's sequence: one look of a warp, two, three.
TEST_P(AttentionKernelTest, ManySequences) {
  std::vector<int> lengths;
  for (int i = 0; i < 1100; ++i) lengths.push_back(i % 7 == 0 ? 0 : i % 3);
  ExpectMatchesReference<Half>(lengths, 1, 8);
  lengths.resize(32);
  ExpectMatchesReference<float>(lengths, 1, 8);
  lengths.resize(33);
  ExpectMatchesReference<Half>(lengths, 1, 8);
}

// Scores of several hundred: nearly all weight is on one key, and exponentials without the maximum
// taken away would overflow. Values of thousands.
TEST_P(AttentionKernelTest, LargeMagnitudes) {
  ExpectMatchesReference<Half>({150, 3}, 1, 64, 30);
  ExpectMatchesReference<BFloat16>({150, 3}, 1, 64, 30);
  ExpectMatchesReference<float>({150, 3}, 1, 64, 30);
}

// A maximum that rises from tile to tile: all that was summed up is scaled down, time and again.
TEST_P(AttentionKernelTest, RisingScores) {
  const Sizes sizes = {200, 1, 32};
  std::vector<float> values = Random(static_cast<size_t>(200 * 3 * 32), 0, 1);
  for (size_t t = 0; t < 200; ++t) {
    for (size_t c = 0; c < 32; ++c) values[(3 * t + 1) * 32 + c] *= static_cast<float>(t) / 20;
  }
  const std::vector<int> cu_seqlens = {0, 200};
  const DeviceTensor<float> floats(stream(), {200, 3, 1, 32}, values);
  const std::vector<double> exact = Exact(floats.values(), cu_seqlens, sizes, 1);
  // Scores of up to 320: 320 roundings of a weight.
  EXPECT_LE(MaxError(Run(floats, cu_seqlens, sizes, 1), exact), 640 * 0x1p-24);
  const DeviceTensor<Half> halves(stream(), {200, 3, 1, 32}, values);
  ExpectAtMostTwice(Run(halves, cu_seqlens, sizes, 1),
                    Naive<Half>(halves.values(), cu_seqlens, sizes, 1),
                    Exact(halves.values(), cu_seqlens, sizes, 1));
}

// In captured graphs there is room for more: rows beyond the last sequence are not written, and the
// tail of cu_seqlens repeats the last value.
TEST_P(AttentionKernelTest, RowsBeyondTheSequencesStay) {
  const std::vector<int> cu_seqlens = {0, 3, 70, 70, 70};
  const DeviceTensor<int> lengths(stream(), {5}, cu_seqlens);
  const DeviceTensor<Half> qkv(stream(), {200, 3, 2, 16}, Random(200 * 96));
  const DeviceTensor<Half> out(stream(), {200, 2, 16}, std::vector<float>(200 * 32, 77));
  ASSERT_OK(gpu::Attention({qkv.view(), lengths.view(), 0.25f, out.view()}, stream()));
  const std::vector<float> actual = out.Download();
  EXPECT_THAT(std::vector<float>(actual.begin() + 70 * 32, actual.end()), testing::Each(77));
  EXPECT_THAT(std::vector<float>(actual.begin(), actual.begin() + 70 * 32),
              testing::Each(testing::Le(1)));
}

TEST_P(AttentionKernelTest, SequencesDoNotDependOnTheirBatch) {
  const Sizes all = {217, 2, 64}, last = {67, 2, 64};
  const DeviceTensor<Half> qkv(stream(), {217, 3, 2, 64}, Random(217 * 384));
  const std::vector<float> together = Run(qkv, {0, 150, 217}, all, 0.125f);
  const std::vector<float> rest(qkv.values().begin() + 150 * 384, qkv.values().end());
  const DeviceTensor<Half> part(stream(), {67, 3, 2, 64}, rest);
  const std::vector<float> alone = Run(part, {0, 67}, last, 0.125f);
  ASSERT_EQ(together.size(), 217 * 128);
  EXPECT_EQ(std::vector<float>(together.begin() + 150 * 128, together.end()), alone);
}

TEST_P(AttentionKernelTest, UnalignedTensorsAreRight) {
  const Sizes sizes = {20, 1, 16};
  std::vector<float> values = Random(20 * 48 + 1);
  const DeviceTensor<Half> room(stream(), {20 * 48 + 1}, values), out(stream(), {20 * 16 + 1});
  const DeviceTensor<int> lengths(stream(), {2}, std::vector<int>{0, 20});
  ASSERT_OK(
      gpu::Attention({TensorView(room.data() + 1, DType::kFloat16, {20, 3, 1, 16}), lengths.view(),
                      0.25f, TensorView(out.data(), DType::kFloat16, {20, 1, 16})},
                     stream()));
  std::vector<Half> actual(20 * 16);
  ASSERT_TRUE(ReadBack(stream(), actual.data(), out.data(), DType::kFloat16, actual.size()));
  const std::vector<double> exact =
      Exact({room.values().begin() + 1, room.values().end()}, {0, 20}, sizes, 0.25f);
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(ToHostFloat(actual[i]), exact[i], 2 * kRoundingOf<Half>);
  }
}

TEST_P(AttentionKernelTest, WritesFloat8) {
  for (const int64_t head_size : {24, 64, 136}) ExpectWritesFloat8<Half>(head_size);
  ExpectWritesFloat8<BFloat16>(128);
}

TEST_P(AttentionKernelTest, RefusesFloat8ItCannotWrite) {
  const std::vector<int> cu_seqlens = CuSeqlens({5});
  const DeviceTensor<int> lengths(stream(), {2}, cu_seqlens);
  const DeviceTensor<float> scale(stream(), {1}, Random(1));
  const DeviceTensor<simt::Float8> out(stream(), {5, 1, 12}), fits(stream(), {5, 1, 16});
  const DeviceTensor<Half> odd(stream(), {5, 3, 1, 12}, Random(180));
  const DeviceTensor<float> wide(stream(), {5, 3, 1, 16}, Random(240));
  const auto message = [this](const gpu::AttentionParams& params) {
    return Message(gpu::Attention(params, stream()));
  };
  EXPECT_THAT(message({.qkv = odd.view(),
                       .cu_seqlens = lengths.view(),
                       .out = out.view(),
                       .out_scale = scale.view()}),
              testing::HasSubstr("float8 wants aligned 16-bit heads of a multiple of 8"));
  EXPECT_THAT(message({.qkv = wide.view(),
                       .cu_seqlens = lengths.view(),
                       .out = fits.view(),
                       .out_scale = scale.view()}),
              testing::HasSubstr("float8 wants"));
}

TEST_P(AttentionKernelTest, RefusesWhatItCannotDo) {
  const DeviceTensor<Half> qkv(stream(), {4, 3, 2, 8}, Random(4 * 48)), out(stream(), {4, 2, 8}),
      wide(stream(), {1, 3, 1, 257}), wide_out(stream(), {1, 1, 257});
  const DeviceTensor<float> floats(stream(), {4, 2, 8});
  const DeviceTensor<int> lengths(stream(), {2}, std::vector<int>{0, 4});
  const auto message = [this](const gpu::AttentionParams& params) {
    const absl::Status status = gpu::Attention(params, stream());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return Message(status);
  };
  const gpu::AttentionParams good = {qkv.view(), lengths.view(), 1, out.view()};
  gpu::AttentionParams params = good;
  params.qkv = out.view();
  EXPECT_THAT(message(params), testing::HasSubstr("qkv is float16[4,2,8], expected [tokens,3,"));
  params = good;
  params.out = floats.view();
  EXPECT_THAT(message(params),
              testing::HasSubstr("out is float32[4,2,8], qkv is float16[4,3,2,8]"));
  params = good;
  params.cu_seqlens = floats.view();
  EXPECT_THAT(message(params), testing::HasSubstr("cu_seqlens is float32[4,2,8]"));
  params = good;
  params.scale = 0;
  EXPECT_THAT(message(params), testing::HasSubstr("scale is 0"));
  params.scale = std::nanf("");
  EXPECT_THAT(message(params), testing::HasSubstr("scale is nan"));
  EXPECT_THAT(message({wide.view(), lengths.view(), 1, wide_out.view()}),
              testing::HasSubstr("head_size is 1 to 256"));
  params = good;
  params.qkv = TensorView(qkv.data(), DType::kFloat16, {1 << 20, 3, 8, 128});
  EXPECT_THAT(message(params), testing::HasSubstr("2^31 - 1 values at most"));
  params = good;
  params.qkv = TensorView(qkv.data(), DType::kFloat16, {0, 3, 2, 8});
  params.out = TensorView(out.data(), DType::kFloat16, {0, 2, 8});
  EXPECT_TRUE(gpu::Attention(params, stream()).ok());
}

#ifndef __CUDACC__
// What one launch over sequences of 128 tokens asks of the device.
template <typename T>
simt::emulator::LaunchReport Count(int64_t sequences, int64_t heads, int64_t head_size,
                                   gpu::AttentionTile tile = gpu::AttentionTile::kAuto) {
  const auto device = simt::Device::Emulated(simt::ProfileH100());
  device->set_emulation({.count_requests = true});
  const auto stream = std::move(device->CreateStream()).value();
  const int64_t tokens = 128 * sequences;
  const DeviceTensor<T> qkv(
      *stream, {tokens, 3, heads, head_size},
      std::vector<float>(static_cast<size_t>(3 * tokens * heads * head_size)));
  const DeviceTensor<T> out(*stream, {tokens, heads, head_size});
  const DeviceTensor<int> lengths(*stream, {sequences + 1},
                                  CuSeqlens(std::vector<int>(static_cast<size_t>(sequences), 128)));
  EXPECT_TRUE(gpu::Attention({qkv.view(), lengths.view(), 1, out.view(), tile}, *stream).ok());
  return device->TakeReports().at(0).second;
}

void ExpectNoConflicts(const simt::emulator::LaunchReport& report) {
  EXPECT_FALSE(report.sites.empty());
  for (const simt::emulator::SiteCount& site : report.sites) {
    EXPECT_EQ(site.passes, site.ideal) << site.site.file << ":" << site.site.line;
  }
}

TEST(AttentionKernelCounts, TensorCores) {
  for (const int64_t head_size : {32, 64, 128}) {
    const simt::emulator::LaunchReport report = Count<Half>(2, 2, head_size);
    ExpectNoConflicts(report);
    // Two products for each of 128 x 128 scores of 2 sequences and heads; an Mma is 16 x 8 x 16.
    const int64_t scores = 4 * 128 * 128;
    EXPECT_EQ(report.counters.mma, 2 * scores * head_size / (16 * 8 * 16));
    // An exponential a score, and a twelfth for the rest.
    EXPECT_GE(report.counters.special, scores);
    EXPECT_LE(report.counters.special, scores + scores / 12 + scores / 64);
    // Q once, K and V once for each 64 rows; out once. Beside that only cu_seqlens.
    const int64_t row_sectors = 2 * 256 * head_size * 2 / 32;  // of one operand
    EXPECT_GE(report.counters.load_sectors, 5 * row_sectors);
    EXPECT_LE(report.counters.load_sectors, 5 * row_sectors + 12 * 4 * 3);
    EXPECT_EQ(report.counters.store_sectors, row_sectors);
  }
}

// Of shared memory tall tiles read half as much, for heads whose warps have 32 rows; of global
// memory keys and values once, not for each 64 rows.
TEST(AttentionKernelCounts, TallTiles) {
  for (const int64_t head_size : {32, 64, 128}) {
    const auto low = Count<Half>(2, 2, head_size, gpu::AttentionTile::kLow);
    const auto tall = Count<Half>(2, 2, head_size, gpu::AttentionTile::kTall);
    ExpectNoConflicts(tall);
    EXPECT_EQ(tall.counters.mma, low.counters.mma);
    // Of 128 keys a warp reads 16 times what it reads of each group's queries once.
    EXPECT_EQ(tall.counters.ldmatrix * 17, low.counters.ldmatrix * (head_size <= 64 ? 9 : 17));
    const int64_t row_sectors = 2 * 256 * head_size * 2 / 32;
    EXPECT_LE(tall.counters.load_sectors, 3 * row_sectors + 8 * 8 * 3);
  }
}

TEST(AttentionKernelCounts, Floats) {
  for (const int64_t head_size : {32, 64, 128, 256}) {
    ExpectNoConflicts(Count<float>(1, 2, head_size));
  }
  ExpectNoConflicts(Count<Half>(1, 1, 192));
}
#endif

}  // namespace
}  // namespace bertrand
