// hopper_gemm over the emulator, and on a device of capability 9.0, against float64.

#include <gmock/gmock.h>

#include "kernels/gemm/hopper_gemm.h"
#include "tests/kernels/gemm_problem.h"
#ifndef __CUDACC__
#include "kernels/gemm/hopper_gemm.cuh"
#endif

namespace bertrand::gpu {
namespace {

using testing::HasSubstr;

// Under every thread order.
class HopperGemmKernelTest : public EmulatedTest {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    const simt::DeviceInfo& info = device().info();
    if (!info.runs_hopper()) GTEST_SKIP() << info.name << " or its code is not of 9.0a";
  }
  // Fewer multiprocessors, so that a block has several tiles.
  void SetMultiprocessors(int count) {
    simt::DeviceInfo profile = simt::ProfileH100();
    profile.multiprocessors = count;
    set_device(profile);
  }
  template <typename T>
  void ExpectRight(const Shape& shape, int tile, Activation activation, bool bias, bool residual) {
    SCOPED_TRACE(testing::Message() << "tile " << tile);
    const Problem<T> problem(stream(), shape, random_);
    const GemmParams params = problem.Params(activation, bias, residual);
    ASSERT_TRUE(HopperGemmSupports(device().info(), params));
    ASSERT_OK(HopperGemm(params, tile, stream()));
    problem.ExpectRight(params);
  }
};
EMULATED_SUITE(HopperGemmKernelTest);

// What does not depend on an order.
class HopperGemmOnceTest : public HopperGemmKernelTest {};
INSTANTIATE_TEST_SUITE_P(Once, HopperGemmOnceTest, testing::Values(OneEmulatedCase()));

// More k than the ring has stages, a part of the last; several tiles for a block; rows and columns
// beyond the last tile.
TEST_P(HopperGemmKernelTest, TilesFollowEachOther) {
  SetMultiprocessors(2);
  for (int tile = 0; tile < kNumHopperTiles; ++tile) {
    const int stages = HopperStages(kHopperTileColumns[tile]);
    const Shape shape = {129, kHopperTileColumns[tile] + 40, (stages + 1) * 64 + 24};
    ExpectRight<simt::Half>(shape, tile, Activation::kGeluErf, true, false);
    ExpectRight<simt::BFloat16>(shape, tile, Activation::kNone, true, true);
  }
}

TEST_P(HopperGemmKernelTest, OneStageOfManyTiles) {
  SetMultiprocessors(1);
  ExpectRight<simt::BFloat16>({259, 264, 8}, 1, Activation::kNone, true, false);
}

TEST_P(HopperGemmOnceTest, RowsAroundTiles) {
  for (const int m : {1, 63, 64, 65, 127, 128, 130}) {
    ExpectRight<simt::Half>({m, 48, 72}, m % 2, Activation::kGeluErf, true, false);
    ExpectRight<simt::BFloat16>({m, 136, 64}, m % 2, Activation::kNone, false, false);
  }
}

TEST_P(HopperGemmOnceTest, EveryEpilogue) {
  for (const Activation activation : {Activation::kNone, Activation::kGeluErf}) {
    for (const bool bias : {false, true}) {
      for (const bool residual : {false, true}) {
        if (residual && activation != Activation::kNone) continue;
        ExpectRight<simt::Half>({70, 72, 40}, 1, activation, bias, residual);
        ExpectRight<simt::BFloat16>({70, 72, 40}, 1, activation, bias, residual);
      }
    }
  }
}

// More rows of tiles than a band has.
TEST_P(HopperGemmOnceTest, Bands) {
  SetMultiprocessors(3);
  ExpectRight<simt::Half>({17 * 128 + 5, 136, 8}, 1, Activation::kNone, true, false);
}

TEST_P(HopperGemmOnceTest, YMayBeTheResidual) {
  const Problem<simt::Half> problem(stream(), {70, 40, 72}, random_);
  GemmParams params = problem.Params(Activation::kNone, true, true);
  params.y = params.residual;
  ASSERT_OK(HopperGemm(params, 0, stream()));
  problem.ExpectRight(params, problem.residual().Download());
}

// The kernel before may still be writing x while weights are loaded.
TEST_P(HopperGemmKernelTest, WaitsForTheKernelBefore) {
  SetMultiprocessors(2);
  const Problem<simt::Half> first(stream(), {140, 40, 72}, random_);
  const Problem<simt::Half> second(stream(), {140, 24, 40}, random_);
  GemmParams params = second.Params(Activation::kNone, true, false);
  ASSERT_OK(HopperGemm(first.Params(Activation::kNone, true, false), 0, stream()));
  params.x = first.y().view();
  ASSERT_OK(HopperGemm(params, 1, stream()));
  EXPECT_EQ(second.y().Download().size(), 140u * 24u);
}

#ifndef __CUDACC__
// Phi's tail against erfc in float64, from zero to where float16 ends.
TEST(HopperGemmTest, GeluIsExactBelowEveryRounding) {
  for (double x = -6; x <= 6; x += 1.0 / 512) {
    const double exact = x * std::erfc(-x / std::sqrt(2.0)) / 2;
    EXPECT_NEAR(GeluByTail(static_cast<float>(x)), exact, std::abs(exact) * 0x1p-17) << x;
  }
  for (const float x : {6.5f, 20.0f, 40.0f, 1e4f, 1e30f}) {
    EXPECT_EQ(GeluByTail(x), x);
    EXPECT_NEAR(GeluByTail(-x), 0, 1e-9) << x;
  }
  EXPECT_EQ(GeluByTail(0.0f), 0.0f);
  EXPECT_TRUE(std::isnan(GeluByTail(std::nanf(""))));
  EXPECT_FALSE(std::isfinite(GeluByTail(HUGE_VALF)));
  EXPECT_FALSE(std::isfinite(GeluByTail(-HUGE_VALF)));
}
#endif

TEST_P(HopperGemmOnceTest, RefusesWhatItCannotDo) {
  const Problem<simt::Half> problem(stream(), {2, 8, 24}, random_);
  const GemmParams good = problem.Params(Activation::kNone, true, true);
  EXPECT_TRUE(HopperGemmSupports(device().info(), good));
  EXPECT_THAT(Message(HopperGemm(good, kNumHopperTiles, stream())), HasSubstr("tile 2 of 2"));
  const auto refused = [this](const GemmParams& params) {
    EXPECT_FALSE(HopperGemmSupports(device().info(), params));
    EXPECT_THAT(Message(HopperGemm(params, 0, stream())), HasSubstr("rows of 16-byte multiples"));
  };
  GemmParams params = good;
  params.activation = Activation::kGeluTanh;
  refused(params);
  params.activation = Activation::kGeluErf;
  refused(params);
  params.residual = {};
  EXPECT_TRUE(HopperGemmSupports(device().info(), params));
  params = good;
  params.bias = {good.bias.as<char>() + 8, DType::kFloat16, {8}};
  refused(params);
  const Problem<simt::Half> odd(stream(), {2, 8, 25}, random_),
      narrow(stream(), {2, 12, 24}, random_);
  const Problem<float> floats(stream(), {2, 8, 24}, random_);
  refused(odd.Params(Activation::kNone, false, false));
  refused(narrow.Params(Activation::kNone, false, false));
  refused(floats.Params(Activation::kNone, false, false));
#ifndef __CUDACC__
  set_device(simt::ProfileA100());
  const Problem<simt::Half> elsewhere(stream(), {2, 8, 24}, random_);
  refused(elsewhere.Params(Activation::kNone, true, true));
#endif
}

TEST_P(HopperGemmOnceTest, NoRowsDoNothing) {
  const Problem<simt::Half> problem(stream(), {1, 8, 8}, random_);
  GemmParams params = problem.Params(Activation::kNone, true, false);
  params.x = {nullptr, DType::kFloat16, {0, 8}};
  params.y = {nullptr, DType::kFloat16, {0, 8}};
  ASSERT_OK(HopperGemm(params, 0, stream()));
}

}  // namespace
}  // namespace bertrand::gpu
