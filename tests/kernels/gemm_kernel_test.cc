// The GEMMs of kernels/gemm, against float64.

#include <gmock/gmock.h>

#include <algorithm>

#include "kernels/bias_activation/bias_activation_reference.h"
#include "kernels/gemm/gemm.h"
#include "tests/kernels/gemm_problem.h"

namespace bertrand::gpu {
namespace {

using testing::HasSubstr;

SmallGemmPlan Plan(const GemmParams& params, int tile, int splits) {
  return CutSmallGemm(params.m(), params.n(), params.k(), tile, splits, 132);
}

// With a fresh workspace of exactly the bytes that the plan asks for.
absl::Status RunSmall(const GemmParams& params, const SmallGemmPlan& plan, simt::Stream& stream) {
  if (plan.splits == 1) return SmallGemm(params, plan, nullptr, stream);
  auto workspace = stream.device().Allocate(
      static_cast<size_t>(SmallGemmWorkspaceBytes(params.m(), params.n(), plan.splits)));
  BERTRAND_RETURN_IF_ERROR(workspace.status());
  return SmallGemm(params, plan, workspace->data(), stream);
}

// Under every thread order.
class GemmKernelTest : public EmulatedTest {};
EMULATED_SUITE(GemmKernelTest);

// What does not depend on an order.
class GemmKernelOnceTest : public EmulatedTest {
 protected:
#ifdef __CUDACC__
  void SetOrder(const EmulatedCase&) {}
#else
  void SetOrder(const EmulatedCase& order) {
    device().set_emulation({.order = order.order, .seed = order.seed});
  }
#endif
};
INSTANTIATE_TEST_SUITE_P(Once, GemmKernelOnceTest, testing::Values(OneEmulatedCase()));

TEST_P(GemmKernelTest, EveryTile) {
  for (int tile = 0; tile < kNumGemmTiles; ++tile) {
    SCOPED_TRACE(testing::Message() << "tile " << tile);
    // A row more than a tile, fewer columns, and k-tiles beyond the ring with a part left over.
    const GemmTile& shape = kGemmTiles[tile];
    const Shape sizes = {shape.m + 1, shape.n - 4, (shape.stages + 1) * shape.k + 24};
    const Problem<simt::Half> problem(stream(), sizes, random_);
    const GemmParams params = problem.Params(Activation::kNone, true, true);
    ASSERT_OK(RunSmall(params, Plan(params, tile, 1), stream()));
    problem.ExpectRight(params);
  }
}

// Weights are fetched before the wait, what a kernel writes is not; nor is y written before.
TEST_P(GemmKernelTest, WaitsForTheKernelBefore) {
  const Problem<simt::Half> problem(stream(), {20, 72, 264}, random_);
  const GemmParams params = problem.Params(Activation::kNone, true, true);
  for (int tile = 0; tile < kNumGemmTiles; ++tile) {
    for (const int splits : {1, 2}) {
      SCOPED_TRACE(testing::Message() << "tile " << tile << ", " << splits << " splits");
      ASSERT_OK(problem.WriteByKernel(stream()));
      ASSERT_OK(RunSmall(params, Plan(params, tile, splits), stream()));
      problem.ExpectRight(params);
    }
  }
}

// Products of e4m3 by the fallback and by the library's stand-in, against float64 of the same
// values: float's sums, one rounding of the result.
TEST_P(GemmKernelOnceTest, Float8) {
  const Shape sizes = {70, 80, 208};
  const auto floats = [this](int64_t count, float scale) {
    return RandomFloats(random_, count, scale);
  };
  const DeviceTensor<simt::Float8> x(stream(), {sizes.m, sizes.k}, floats(sizes.m * sizes.k, 448)),
      weight(stream(), {sizes.n, sizes.k}, floats(sizes.n * sizes.k, 448));
  const DeviceTensor<simt::Half> bias(stream(), {sizes.n}, floats(sizes.n, 1)),
      residual(stream(), {sizes.m, sizes.n}, floats(sizes.m * sizes.n, 1)),
      y(stream(), {sizes.m, sizes.n});
  const DeviceTensor<float> x_scale(stream(), {1}, std::vector<float>{0.004f}),
      weight_scale(stream(), {1}, std::vector<float>{0.0005f});
  GemmParams params;
  params.x = x.view();
  params.weight = weight.view();
  params.bias = bias.view();
  params.activation = Activation::kGeluErf;
  params.residual = residual.view();
  params.y = y.view();
  params.x_scale = x_scale.view();
  params.weight_scale = weight_scale.view();
  std::vector<double> exact;
  for (int i = 0; i < sizes.m * sizes.n; ++i) {
    double sum = 0;
    for (int j = 0; j < sizes.k; ++j) {
      sum += double{x.values()[static_cast<size_t>(i / sizes.n * sizes.k + j)]} *
             weight.values()[static_cast<size_t>(i % sizes.n * sizes.k + j)];
    }
    sum = sum * 0.004f * 0.0005f + bias.values()[static_cast<size_t>(i % sizes.n)];
    exact.push_back(ActivationReference(Activation::kGeluErf, sum) +
                    residual.values()[static_cast<size_t>(i)]);
  }
  double largest = 0;
  for (const double value : exact) largest = std::max(largest, std::abs(value));

  ASSERT_OK(FloatGemm(params, stream()));
  EXPECT_LE(MaxError(y.Download(), exact), 1.01 * largest * kRoundingOf<simt::Half>);
  auto gemm = Gemm::Create(device(), {.own_kernels = GemmOptions::OwnKernels::kRarely});
  ASSERT_OK(gemm.status());
  EXPECT_EQ((*gemm)->Choice(params).kind, GemmChoice::Kind::kLibrary);
  // The library leaves the rest to bias_activation: a rounding more.
  ASSERT_OK((*gemm)->Run(params, nullptr, stream()));
  EXPECT_LE(MaxError(y.Download(), exact), 3 * largest * kRoundingOf<simt::Half>);

  params.x_scale = {};
  EXPECT_EQ(FloatGemm(params, stream()).code(), absl::StatusCode::kInvalidArgument);
}

// Before Ada no tensor core has e4m3, and rows must be multiples of 16 bytes.
TEST_P(GemmKernelOnceTest, Float8WithoutTheLibrary) {
  EXPECT_TRUE(LibraryTakesFloat8(simt::ProfileL4(), 16, 32));
  EXPECT_FALSE(LibraryTakesFloat8(simt::ProfileA100(), 16, 32));
  EXPECT_FALSE(LibraryTakesFloat8(simt::ProfileH100(), 24, 32));
  EXPECT_FALSE(LibraryTakesFloat8(simt::ProfileH100(), 16, 40));
}

TEST_P(GemmKernelTest, RowsAroundTilesWithThePlannedTile) {
  for (const int m : {1, 15, 16, 17, 64, 129}) {
    const Shape shape = {m, 77, 264};
    const auto plan = PlanSmallGemm(shape.m, shape.n, shape.k, 132, 1 << 20);
    const Problem<simt::Half> half(stream(), shape, random_);
    GemmParams params = half.Params(Activation::kGeluErf, true, false);
    ASSERT_OK(RunSmall(params, plan, stream()));
    half.ExpectRight(params);
    const Problem<simt::BFloat16> bfloat(stream(), shape, random_);
    params = bfloat.Params(Activation::kGeluErf, true, true);
    ASSERT_OK(RunSmall(params, plan, stream()));
    bfloat.ExpectRight(params);
  }
}

TEST_P(GemmKernelOnceTest, OddColumnsAndShortRows) {
  for (const int n : {1, 2, 3, 5, 16, 31, 33}) {
    for (const int k : {8, 16, 128, 136}) {
      const Problem<simt::BFloat16> problem(stream(), {5, n, k}, random_);
      const GemmParams params = problem.Params(Activation::kNone, true, true);
      ASSERT_OK(RunSmall(params, Plan(params, n % 4, 1), stream()));
      problem.ExpectRight(params);
    }
  }
}

TEST_P(GemmKernelOnceTest, EveryEpilogueInBothKernelsAndTheSum) {
  for (const Activation activation : kActivations) {
    for (const bool with_bias : {false, true}) {
      for (const bool with_residual : {false, true}) {
        for (const int n : {20, 23}) {
          const Problem<simt::Half> problem(stream(), {13, n, 256}, random_);
          const GemmParams params = problem.Params(activation, with_bias, with_residual);
          ASSERT_OK(RunSmall(params, Plan(params, 0, 1), stream()));
          problem.ExpectRight(params);
          ASSERT_OK(RunSmall(params, Plan(params, 0, 2), stream()));
          problem.ExpectRight(params);
          ASSERT_OK(FloatGemm(params, stream()));
          problem.ExpectRight(params);
        }
      }
    }
  }
}

// Splits that are even, uneven (the last one shorter) and more than there are k-tiles. One order's
// bits are every other order's and every other run's.
TEST_P(GemmKernelOnceTest, SplitsAreRightAndTheSameBitsInEveryRunAndOrder) {
  for (const int tile : {0, 3, 6, 8}) {
    const Shape shape = {33, 45, 6 * kGemmTiles[tile].k + 8};
    const Problem<simt::Half> problem(stream(), shape, random_);
    const GemmParams params = problem.Params(Activation::kGeluErf, true, true);
    for (const int splits : {1, 2, 3, 5, 50}) {
      const SmallGemmPlan plan = Plan(params, tile, splits);
      EXPECT_EQ(plan.splits, std::min(splits, splits == 5 ? 4 : 7));
      std::vector<float> first;
      for (const EmulatedCase& order : EmulatedCases()) {
        SetOrder(order);
        ASSERT_OK(RunSmall(params, plan, stream()));
        if (first.empty()) problem.ExpectRight(params, first = problem.y().Download());
        EXPECT_EQ(problem.y().Download(), first) << tile << " " << splits << " " << order.name;
      }
    }
  }
}

TEST_P(GemmKernelTest, OutputMayBeTheResidual) {
  for (const int n : {72, 75}) {
    for (const int splits : {1, 3}) {
      const Problem<simt::Half> problem(stream(), {19, n, 640}, random_);
      GemmParams params = problem.Params(Activation::kNone, true, true);
      const SmallGemmPlan plan = Plan(params, 1, splits);
      ASSERT_OK(RunSmall(params, plan, stream()));
      params.y = params.residual;
      ASSERT_OK(RunSmall(params, plan, stream()));
      EXPECT_EQ(problem.residual().Download(), problem.y().Download());
    }
    const Problem<simt::Half> problem(stream(), {19, n, 640}, random_);
    GemmParams params = problem.Params(Activation::kNone, true, true);
    params.y = params.residual;
    ASSERT_OK(FloatGemm(params, stream()));
    problem.ExpectRight(params, problem.residual().Download());
  }
}

TEST_P(GemmKernelTest, FloatGemmTakesEveryShapeAndType) {
  const auto run = [this]<typename T>(T, const Shape& shape) {
    const Problem<T> problem(stream(), shape, random_);
    const GemmParams params = problem.Params(Activation::kSilu, true, true);
    ASSERT_OK(FloatGemm(params, stream()));
    problem.ExpectRight(params);
  };
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{15, 7, 33}, Shape{16, 64, 16}, Shape{17, 5, 1},
                             Shape{64, 65, 100}, Shape{129, 3, 31}, Shape{65, 130, 48}}) {
    run(float(), shape);
    run(simt::Half(), shape);
    run(simt::BFloat16(), shape);
  }
}

#ifndef __CUDACC__
// Whole tiles of a layer's shape: every access to shared memory of the ring (ldmatrix, cp.async)
// and of the sums takes as many passes as its bytes need, and global accesses waste no sector. The
// narrowest tile's sums are read two rows at a time and are 8 banks off: 2 passes for 1.
TEST_P(GemmKernelOnceTest, NoBankConflictsAndNoWastedSectors) {
  int narrow_reads = 0;
  for (int tile = 0; tile < kNumGemmTiles; ++tile) {
    SCOPED_TRACE(testing::Message() << "tile " << tile);
    const GemmTile& shape = kGemmTiles[tile];
    const Problem<simt::Half> problem(stream(), {shape.m, shape.n, 3 * shape.k}, random_);
    const GemmParams params = problem.Params(Activation::kNone, true, true);
    device().set_emulation({.count_requests = true});
    device().TakeReports();
    ASSERT_OK(RunSmall(params, Plan(params, tile, 1), stream()));
    const auto reports = device().TakeReports();
    ASSERT_EQ(reports.size(), 1u);
    const auto& report = reports[0].second;
    EXPECT_EQ(report.counters.mma, shape.m / 16 * (shape.n / 8) * (3 * shape.k / 16));
    EXPECT_GT(report.sites.size(), 6u);
    for (const auto& site : report.sites) {
      const bool shared_load = site.kind == simt::emulator::AccessKind::kSharedLoad;
      const bool reads_sums = tile == 0 && shared_load && site.passes == 2 * site.ideal;
      const int64_t allowed = reads_sums ? site.passes : site.ideal;
      EXPECT_EQ(site.passes, allowed) << site.site.file << ":" << site.site.line;
      narrow_reads += reads_sums;
    }
  }
  EXPECT_EQ(narrow_reads, 2);
}
#endif

// A layer's real shapes: the plan for an H100, right and without a workspace that is not needed.
TEST_P(GemmKernelOnceTest, ShapesOfALayer) {
  for (const auto& [m, n, k] : {Shape{16, 768, 768}, Shape{3, 384, 1536}, Shape{40, 1536, 384}}) {
    const Problem<simt::BFloat16> problem(stream(), {m, n, k}, random_);
    const GemmParams params = problem.Params(Activation::kGeluTanh, true, true);
    ASSERT_OK(RunSmall(params, PlanSmallGemm(m, n, k, 132, 1 << 25), stream()));
    problem.ExpectRight(params);
  }
}

// The tile table where it matters, as worked out in docs/gemm.md: a change of the model shows here.
TEST(SmallGemmPlanTest, TableOfALayer) {
  struct Case {
    Shape shape;
    int tile_m, tile_n, splits;
  };
  for (const auto& [shape, tile_m, tile_n, splits] :
       {Case{{16, 768, 768}, 16, 16, 1}, Case{{16, 2304, 768}, 16, 16, 1},
        Case{{16, 3072, 768}, 16, 16, 1}, Case{{16, 768, 3072}, 16, 16, 2},
        Case{{64, 768, 768}, 16, 32, 1}, Case{{64, 3072, 768}, 32, 64, 1},
        Case{{64, 768, 3072}, 64, 64, 8}, Case{{128, 768, 768}, 32, 32, 1},
        Case{{128, 2304, 768}, 64, 64, 1}, Case{{128, 3072, 768}, 64, 64, 1},
        Case{{128, 768, 3072}, 64, 128, 8}, Case{{256, 3072, 768}, 64, 128, 1},
        Case{{256, 1024, 4096}, 128, 128, 8}}) {
    const SmallGemmPlan plan = PlanSmallGemm(shape.m, shape.n, shape.k, 132, 32 << 20);
    EXPECT_EQ(kGemmTiles[plan.tile].m, tile_m) << shape.m << " " << shape.n << " " << shape.k;
    EXPECT_EQ(kGemmTiles[plan.tile].n, tile_n) << shape.m << " " << shape.n << " " << shape.k;
    EXPECT_EQ(plan.splits, splits) << shape.m << " " << shape.n << " " << shape.k;
    EXPECT_GT(plan.time_us, 2 * shape.n * shape.k / kGemmMemoryBytesPerUs);
  }
}

TEST(SmallGemmPlanTest, IsPureAndKeepsToItsLimits) {
  static_assert(PlanSmallGemm(16, 768, 768, 132, 0).splits == 1);
  for (const GemmTile& tile : kGemmTiles) {
    EXPECT_LE(tile.shared_bytes(), 99 * 1024);
    EXPECT_LE(tile.threads(), 256);
  }
  for (const int m : {1, 16, 100, 256, 5000}) {
    for (const int k : {8, 64, 768, 3072}) {
      // No workspace, no split; a small one is not exceeded.
      EXPECT_EQ(PlanSmallGemm(m, 768, k, 132, 0).splits, 1);
      const SmallGemmPlan plan = PlanSmallGemm(m, 768, k, 132, 1 << 20);
      EXPECT_LE(SmallGemmWorkspaceBytes(m, 768, plan.splits), 1 << 20);
      EXPECT_EQ(CeilDivide(k, plan.k_per_split), plan.splits);
    }
  }
}

TEST_P(GemmKernelOnceTest, WhatDoesNotFitIsRefusedBeforeAnyLaunch) {
  const Problem<simt::Half> problem(stream(), {2, 8, 24}, random_);
  const GemmParams good = problem.Params(Activation::kNone, true, true);
  const auto message = [this](const GemmParams& params) {
    const absl::Status status = FloatGemm(params, stream());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return Message(status);
  };
  GemmParams params = good;
  params.x = {good.x.data(), DType::kFloat16, {2, 23}};
  EXPECT_THAT(message(params), HasSubstr("Gemm: x is float16[2,23], weight float16[8,24]"));
  params = good;
  params.y = {good.y.data(), DType::kFloat32, {2, 8}};
  EXPECT_THAT(message(params), HasSubstr("Gemm: y is float32[2,8]"));
  params = good;
  params.bias = {good.bias.data(), DType::kFloat16, {7}};
  EXPECT_THAT(message(params), HasSubstr("Gemm: bias is float16[7]"));
  params = good;
  params.residual = {good.residual.data(), DType::kFloat16, {1, 8}};
  EXPECT_THAT(message(params), HasSubstr("Gemm: residual is float16[1,8]"));
  params = good;
  params.bias = {good.bias.as<char>() + 2, DType::kFloat16, {8}};
  EXPECT_THAT(message(params), HasSubstr("not aligned to 8 bytes"));
  params = good;
  params.weight = {};
  EXPECT_THAT(message(params), HasSubstr("Gemm: weight is"));
  EXPECT_THAT(Message(SmallGemm(good, {.tile = kNumGemmTiles}, nullptr, stream())),
              HasSubstr("does not fit k = 24"));

  EXPECT_TRUE(SmallGemmSupports(good));
  const Problem<simt::Half> odd(stream(), {2, 8, 25}, random_);
  const Problem<float> floats(stream(), {2, 8, 24}, random_);
  for (const GemmParams& refused : {odd.Params(Activation::kNone, false, false),
                                    floats.Params(Activation::kNone, false, false)}) {
    EXPECT_FALSE(SmallGemmSupports(refused));
    EXPECT_THAT(Message(SmallGemm(refused, Plan(refused, 0, 1), nullptr, stream())),
                HasSubstr("rows of 16-byte multiples"));
  }
  const Problem<simt::Half> longer(stream(), {2, 8, 256}, random_);
  params = longer.Params(Activation::kNone, false, false);
  EXPECT_THAT(Message(SmallGemm(params, Plan(params, 0, 2), nullptr, stream())),
              HasSubstr("2 splits need a workspace"));
}

TEST_P(GemmKernelOnceTest, NoRowsDoNothing) {
  const Problem<simt::Half> problem(stream(), {1, 8, 8}, random_);
  GemmParams params = problem.Params(Activation::kNone, true, false);
  params.x = {nullptr, DType::kFloat16, {0, 8}};
  params.y = {nullptr, DType::kFloat16, {0, 8}};
  ASSERT_OK(SmallGemm(params, Plan(params, 0, 1), nullptr, stream()));
  ASSERT_OK(FloatGemm(params, stream()));
}

}  // namespace
}  // namespace bertrand::gpu
