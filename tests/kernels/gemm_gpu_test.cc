// The GEMMs of kernels/gemm over the emulator, against float64.

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/bias_activation/activation_reference.h"
#include "kernels/gemm/linear_reference.h"
#include "kernels/gemm/small_gemm.h"
#include "tests/kernels/emulated_fixture.h"

namespace bertrand::gpu {
namespace {

constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kGeluErf, Activation::kGeluTanh, Activation::kRelu,
    Activation::kSilu, Activation::kTanh,    Activation::kSigmoid};

struct Shape {
  int m, n, k;
};

class FixedSizeWeight : public PackedLinear {
 public:
  FixedSizeWeight(int64_t n, int64_t k) : PackedLinear(n, k, 0) {}
};

// One product: its operands, and what it should give.
class Problem {
 public:
  Problem(const simt::Device& device, simt::Stream& stream, DType dtype, const Shape& shape,
          std::mt19937& random)
      : dtype_(dtype),
        shape_(shape),
        x_(device, stream, dtype, shape.m, shape.k),
        weight_(device, stream, dtype, shape.n, shape.k),
        bias_(device, stream, dtype, 0, shape.n),
        residual_(device, stream, dtype, shape.m, shape.n),
        y_(device, stream, dtype, shape.m, shape.n) {
    x_.Randomize(random);
    weight_.Randomize(random, 2 / std::sqrt(static_cast<float>(shape.k)));
    bias_.Randomize(random);
    residual_.Randomize(random);
  }

  GemmParams Params(Activation activation, bool with_bias, bool with_residual) {
    return {x_.view(),
            weight_.view(),
            with_bias ? bias_.view() : TensorView(),
            activation,
            with_residual ? residual_.view() : TensorView(),
            y_.view()};
  }
  DeviceTensor& residual() { return residual_; }
  DeviceTensor& y() { return y_; }

  // `actual` is within the bar of `params`' formula.
  void ExpectRight(const GemmParams& params, const std::vector<float>& actual) const {
    SCOPED_TRACE(testing::Message()
                 << Name(dtype_) << " " << shape_.m << " x " << shape_.n << " x " << shape_.k
                 << ", activation " << static_cast<int>(params.activation));
    std::vector<double> exact(actual.size());
    std::vector<float> naive(actual.size());
    for (int m = 0; m < shape_.m; ++m) {
      for (int n = 0; n < shape_.n; ++n) Evaluate(params, m, n, exact, naive);
    }
    ExpectWithinTwiceNaive(dtype_, actual, naive, exact);
  }

 private:
  // Naive: products added up in float32, and a rounding to the type after each operation, as
  // PyTorch does it with a tensor between operations. Exact: LinearReference's formula; it takes
  // floats.
  void Evaluate(const GemmParams& params, int m, int n, std::vector<double>& exact,
                std::vector<float>& naive) const {
    double exact_sum = params.bias ? double{bias_[n]} : 0.0;
    float naive_sum = params.bias ? bias_[n] : 0.0f;
    for (int k = 0; k < shape_.k; ++k) {
      const float x = x_[m * shape_.k + k], weight = weight_[n * shape_.k + k];
      exact_sum += double{x} * weight;
      naive_sum += x * weight;
    }
    const size_t at = static_cast<size_t>(m) * shape_.n + n;
    naive_sum = RoundTo(dtype_, naive_sum);
    naive_sum =
        RoundTo(dtype_, static_cast<float>(ActivationReference(params.activation, naive_sum)));
    exact_sum = ActivationReference(params.activation, exact_sum);
    if (params.residual) {
      exact_sum += residual_[at];
      naive_sum = RoundTo(dtype_, naive_sum + residual_[at]);
    }
    exact[at] = exact_sum;
    naive[at] = naive_sum;
  }

  DType dtype_;
  Shape shape_;
  DeviceTensor x_, weight_, bias_, residual_, y_;
};

class GemmGpuTest : public EmulatedTest {
 protected:
  Problem Make(DType dtype, const Shape& shape) {
    return Problem(*device_, *stream_, dtype, shape, random_);
  }
  static SmallGemmPlan Plan(const GemmParams& params, int tile, int splits) {
    return CutSmallGemm(params.m(), params.n(), params.k(), tile, splits, 132);
  }
  // With a fresh workspace of exactly the bytes that are asked for.
  std::vector<float> RunSmall(Problem& problem, const GemmParams& params,
                              const SmallGemmPlan& plan) {
    simt::Memory workspace;
    if (plan.splits > 1) {
      auto memory = device_->Allocate(
          static_cast<size_t>(SmallGemmWorkspaceBytes(params.m(), params.n(), plan.splits)));
      EXPECT_TRUE(memory.ok()) << memory.status();
      workspace = *std::move(memory);
    }
    const absl::Status status = SmallGemm(params, plan, workspace.data(), *stream_);
    EXPECT_TRUE(status.ok()) << status;
    return problem.y().Download();
  }
};

TEST_F(GemmGpuTest, EveryTileInEveryOrder) {
  for (int tile = 0; tile < kNumGemmTiles; ++tile) {
    for (const auto order : kThreadOrders) {
      SCOPED_TRACE(testing::Message() << "tile " << tile << " order " << static_cast<int>(order));
      Use(order);
      // One more than a tile in each direction, and k-tiles beyond the ring with a part left over.
      const GemmTile& shape = kGemmTiles[tile];
      Problem problem = Make(DType::kFloat16, {shape.m + 1, shape.n + 4, 5 * shape.k + 24});
      const GemmParams params = problem.Params(Activation::kNone, true, true);
      problem.ExpectRight(params, RunSmall(problem, params, Plan(params, tile, 1)));
    }
  }
}

TEST_F(GemmGpuTest, RowsAroundTilesWithThePlannedTile) {
  for (const auto order : kThreadOrders) {
    Use(order);
    for (const int m : {1, 15, 16, 17, 64, 129}) {
      for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
        const Shape shape = {m, 77, 264};
        Problem problem = Make(dtype, shape);
        const GemmParams params = problem.Params(Activation::kGeluErf, true, false);
        const auto plan = PlanSmallGemm(shape.m, shape.n, shape.k, 132, 1 << 20);
        problem.ExpectRight(params, RunSmall(problem, params, plan));
      }
    }
  }
}

TEST_F(GemmGpuTest, OddColumnsAndShortRows) {
  Use(simt::emulator::ThreadOrder::kRandom);
  for (const int n : {1, 2, 3, 5, 16, 31, 33}) {
    for (const int k : {8, 16, 128, 136}) {
      Problem problem = Make(DType::kBFloat16, {5, n, k});
      const GemmParams params = problem.Params(Activation::kNone, true, true);
      problem.ExpectRight(params, RunSmall(problem, params, Plan(params, n % 4, 1)));
    }
  }
}

TEST_F(GemmGpuTest, EveryEpilogueInBothKernelsAndTheSum) {
  for (const Activation activation : kActivations) {
    for (const bool with_bias : {false, true}) {
      for (const bool with_residual : {false, true}) {
        for (const int n : {20, 23}) {
          Problem problem = Make(DType::kFloat16, {13, n, 256});
          const GemmParams params = problem.Params(activation, with_bias, with_residual);
          problem.ExpectRight(params, RunSmall(problem, params, Plan(params, 0, 1)));
          problem.ExpectRight(params, RunSmall(problem, params, Plan(params, 0, 2)));
          ASSERT_TRUE(FloatGemm(params, *stream_).ok());
          problem.ExpectRight(params, problem.y().Download());
        }
      }
    }
  }
}

// Splits that are even, uneven (the last one shorter) and more than there are k-tiles.
TEST_F(GemmGpuTest, SplitsAreRightAndTheSameBitsInEveryRunAndOrder) {
  for (const int tile : {0, 3, 6, 8}) {
    Problem problem = Make(DType::kFloat16, {33, 45, 6 * kGemmTiles[tile].k + 8});
    const GemmParams params = problem.Params(Activation::kGeluErf, true, true);
    for (const int splits : {1, 2, 3, 5, 50}) {
      const SmallGemmPlan plan = Plan(params, tile, splits);
      EXPECT_LE(plan.splits, splits);
      EXPECT_EQ(CeilDivide(params.k(), plan.k_per_split), plan.splits);
      std::vector<float> first;
      for (const auto order : kThreadOrders) {
        Use(order);
        const std::vector<float> y = RunSmall(problem, params, plan);
        if (first.empty()) problem.ExpectRight(params, first = y);
        EXPECT_EQ(y, first) << "tile " << tile << ", " << splits << " splits, order "
                            << static_cast<int>(order);
      }
    }
  }
}

TEST_F(GemmGpuTest, OutputMayBeTheResidual) {
  for (const auto order : kThreadOrders) {
    Use(order);
    for (const int n : {72, 75}) {
      Problem problem = Make(DType::kFloat16, {19, n, 640});
      GemmParams params = problem.Params(Activation::kNone, true, true);
      for (const int splits : {1, 3}) {
        const SmallGemmPlan plan = Plan(params, 1, splits);
        params.y = problem.y().view();
        const std::vector<float> apart = RunSmall(problem, params, plan);
        const std::vector<float> residual = problem.residual().floats();
        params.y = params.residual;
        RunSmall(problem, params, plan);
        EXPECT_EQ(problem.residual().Download(), apart);
        problem.residual().Set(residual);
      }
      ASSERT_TRUE(FloatGemm(params, *stream_).ok());
      problem.ExpectRight(params, problem.residual().Download());
    }
  }
}

TEST_F(GemmGpuTest, FloatGemmTakesEveryShapeAndType) {
  for (const auto order : kThreadOrders) {
    Use(order);
    for (const Shape& shape : {Shape{1, 1, 1}, Shape{15, 7, 33}, Shape{16, 64, 16}, Shape{17, 5, 1},
                               Shape{64, 65, 100}, Shape{129, 3, 31}, Shape{65, 130, 48}}) {
      for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
        Problem problem = Make(dtype, shape);
        const GemmParams params = problem.Params(Activation::kSilu, true, true);
        const absl::Status status = FloatGemm(params, *stream_);
        ASSERT_TRUE(status.ok()) << status;
        problem.ExpectRight(params, problem.y().Download());
      }
    }
  }
}

// Whole tiles of a layer's shape: every access to shared memory of the ring (ldmatrix, cp.async)
// and of the sums takes as many passes as its bytes need, and global accesses waste no sector. The
// narrowest tile's sums are read two rows at a time and are 8 banks off: 2 passes for 1.
TEST_F(GemmGpuTest, NoBankConflictsAndNoWastedSectors) {
  int narrow_reads = 0;
  for (int tile = 0; tile < kNumGemmTiles; ++tile) {
    SCOPED_TRACE(testing::Message() << "tile " << tile);
    const GemmTile& shape = kGemmTiles[tile];
    Problem problem = Make(DType::kFloat16, {shape.m, shape.n, 3 * shape.k});
    const GemmParams params = problem.Params(Activation::kNone, true, true);
    Use(simt::emulator::ThreadOrder::kGreedy, true);
    device_->TakeReports();
    RunSmall(problem, params, Plan(params, tile, 1));
    const auto reports = device_->TakeReports();
    ASSERT_EQ(reports.size(), 1u);
    const auto& report = reports[0].second;
    EXPECT_EQ(report.counters.mma, shape.m / 16 * (shape.n / 8) * (3 * shape.k / 16));
    EXPECT_GT(report.sites.size(), 6u);
    for (const auto& site : report.sites) {
      const bool shared_load = site.kind == simt::emulator::AccessKind::kSharedLoad;
      const bool reads_sums = tile == 0 && shared_load && site.passes == 2 * site.ideal;
      if (!reads_sums)
        EXPECT_EQ(site.passes, site.ideal) << site.site.file << ":" << site.site.line;
      narrow_reads += reads_sums;
    }
  }
  EXPECT_EQ(narrow_reads, 2);
}

// A layer's real shapes: the plan for an H100, right and without a workspace that is not needed.
TEST_F(GemmGpuTest, ShapesOfALayer) {
  for (const auto& [m, n, k] : {Shape{16, 768, 768}, Shape{3, 384, 1536}, Shape{40, 1536, 384}}) {
    Problem problem = Make(DType::kBFloat16, {m, n, k});
    const GemmParams params = problem.Params(Activation::kGeluTanh, true, true);
    problem.ExpectRight(params, RunSmall(problem, params, PlanSmallGemm(m, n, k, 132, 1 << 25)));
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

TEST_F(GemmGpuTest, WhatDoesNotFitIsRefusedBeforeAnyLaunch) {
  Problem problem = Make(DType::kFloat16, {2, 8, 24});
  const GemmParams good = problem.Params(Activation::kNone, true, true);
  const auto expect = [this](const GemmParams& params, const std::string& text) {
    const absl::Status status = FloatGemm(params, *stream_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(Message(status).find(text), std::string::npos) << status;
  };
  GemmParams params = good;
  params.x = {good.x.data(), DType::kFloat16, {2, 23}};
  expect(params, "Gemm: x is float16[2,23], weight float16[8,24]");
  params = good;
  params.y = {good.y.data(), DType::kFloat32, {2, 8}};
  expect(params, "Gemm: y is float32[2,8]");
  params = good;
  params.bias = {good.bias.data(), DType::kFloat16, {7}};
  expect(params, "Gemm: bias is float16[7]");
  params = good;
  params.residual = {good.residual.data(), DType::kFloat16, {1, 8}};
  expect(params, "Gemm: residual is float16[1,8]");
  params = good;
  params.bias = {good.bias.as<char>() + 2, DType::kFloat16, {8}};
  expect(params, "not aligned to 8 bytes");
  params = good;
  params.weight = {};
  expect(params, "Gemm: weight is");

  EXPECT_TRUE(SmallGemmSupports(good));
  Problem odd = Make(DType::kFloat16, {2, 8, 25}), floats = Make(DType::kFloat32, {2, 8, 24});
  for (Problem* refused : {&odd, &floats}) {
    params = refused->Params(Activation::kNone, false, false);
    EXPECT_FALSE(SmallGemmSupports(params));
    EXPECT_FALSE(SmallGemm(params, Plan(params, 0, 1), nullptr, *stream_).ok());
  }
  EXPECT_FALSE(SmallGemm(good, {.tile = kNumGemmTiles}, nullptr, *stream_).ok());
  EXPECT_FALSE(
      SmallGemm(good, {.tile = 0, .splits = 2, .k_per_split = 128}, nullptr, *stream_).ok());
}

TEST_F(GemmGpuTest, NoRowsDoNothing) {
  Problem problem = Make(DType::kFloat16, {1, 8, 8});
  GemmParams params = problem.Params(Activation::kNone, true, false);
  params.x = {nullptr, DType::kFloat16, {0, 8}};
  params.y = {nullptr, DType::kFloat16, {0, 8}};
  EXPECT_TRUE(SmallGemm(params, Plan(params, 0, 1), nullptr, *stream_).ok());
  EXPECT_TRUE(FloatGemm(params, *stream_).ok());
}

}  // namespace
}  // namespace bertrand::gpu
