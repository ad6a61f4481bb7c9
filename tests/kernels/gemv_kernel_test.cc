#include "kernels/gemm/gemv.h"
#include "kernels/gemm/linear_reference.h"
#include "tests/kernels/row_kernel_fixture.h"

namespace bertrand {
namespace {

class FixedLinear final : public PackedLinear {
 public:
  FixedLinear(int64_t out, int64_t in) : PackedLinear(out, in, 0) {}
};

class GemvKernelTest : public RowKernelTest {
 protected:
  void Check(DType dtype, int64_t m, int64_t n, int64_t k, Activation activation, bool with_bias,
             bool with_residual) {
    SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << m << " x " << n << " x " << k
                                    << ", activation " << static_cast<int>(activation));
    std::vector<float> x = Random(m * k, 1, dtype), weight = Random(n * k, 1, dtype),
                       bias = Random(n, 1, dtype), residual = Random(m * n, 1, dtype);
    std::vector<float> expected(static_cast<size_t>(m * n));
    const FixedLinear linear(n, k);
    LinearReference(
        {HostView(x, {m, k}), &linear, activation,
         with_residual ? HostView(residual, {m, n}) : TensorView(), HostView(expected, {m, n})},
        weight, with_bias ? std::span<const float>(bias) : std::span<const float>());
    const DeviceTensor d_x = Upload(x, dtype, {m, k}), d_weight = Upload(weight, dtype, {n, k}),
                       d_bias = Upload(bias, dtype, {n}),
                       d_residual = Upload(residual, dtype, {m, n});
    DeviceTensor y;
    const auto run = [&] {
      y = Empty(dtype, {m, n});
      return gpu::Gemv({d_x.view, d_weight.view, with_bias ? d_bias.view : TensorView(), activation,
                        with_residual ? d_residual.view : TensorView(), y.view},
                       *stream_);
    };
    // Sums of up to 1032 products, a third on average, in 32 lanes: about 32 roundings of partial
    // sums of up to 20; activations pass errors on by a factor of at most 1.13.
    ExpectClose(UnderEveryOrder(run, [&] { return Read(y.view); }), expected, 40 * 20 * 0x1p-24,
                RoundingOf(dtype) + 8 * 0x1p-24);
    // A row of y is less than a sector.
    if (k % 256 == 0) ExpectIdealSectors(run, 1);
  }
};

TEST_F(GemvKernelTest, EveryShape) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t n : {1, 2, 4, 5, 9, 15, 16}) {
      for (const int64_t k : {1, 8, 37, 384, 1032}) {
        Check(dtype, 3, n, k, Activation::kNone, true, false);
      }
    }
  }
}

TEST_F(GemvKernelTest, RowsAroundABlock) {
  for (const int64_t m : {1, 2, 7, 8, 9, 33}) {
    Check(DType::kFloat16, m, 3, 256, Activation::kNone, false, false);
  }
}

TEST_F(GemvKernelTest, EveryEpilogue) {
  for (const DType dtype : kFloatTypes) {
    for (const Activation activation :
         {Activation::kNone, Activation::kGeluErf, Activation::kGeluTanh, Activation::kRelu,
          Activation::kSilu, Activation::kTanh, Activation::kSigmoid}) {
      Check(dtype, 4, 2, 64, activation, true, false);
      Check(dtype, 4, 6, 64, activation, true, true);
    }
  }
}

// A row's outputs are the same bit by bit whatever rows are beside it.
TEST_F(GemvKernelTest, DoesNotDependOnTheBatch) {
  std::vector<float> rows = Random(5 * 100, 1, DType::kFloat32);
  const DeviceTensor weight =
                         Upload(Random(3 * 100, 1, DType::kFloat32), DType::kFloat32, {3, 100}),
                     all = Upload(rows, DType::kFloat32, {5, 100}),
                     last = Upload(std::vector<float>(rows.end() - 100, rows.end()),
                                   DType::kFloat32, {1, 100});
  const DeviceTensor five = Empty(DType::kFloat32, {5, 3}), one = Empty(DType::kFloat32, {1, 3});
  ASSERT_TRUE(
      gpu::Gemv({all.view, weight.view, {}, Activation::kNone, {}, five.view}, *stream_).ok());
  ASSERT_TRUE(
      gpu::Gemv({last.view, weight.view, {}, Activation::kNone, {}, one.view}, *stream_).ok());
  const std::vector<float> of_five = Read(five.view);
  EXPECT_EQ(Read(one.view), std::vector<float>(of_five.end() - 3, of_five.end()));
}

TEST_F(GemvKernelTest, WrongOperandsAreNamed) {
  const DeviceTensor x = Empty(DType::kFloat16, {3, 8}), wide = Empty(DType::kFloat16, {17, 8}),
                     weight = Empty(DType::kFloat16, {2, 8}), y = Empty(DType::kFloat16, {3, 2}),
                     floats = Empty(DType::kFloat32, {3, 2});
  for (const gpu::GemvParams& params :
       {gpu::GemvParams{x.view, wide.view, {}, Activation::kNone, {}, y.view},
        gpu::GemvParams{x.view, y.view, {}, Activation::kNone, {}, y.view},
        gpu::GemvParams{x.view, weight.view, {}, Activation::kNone, {}, x.view},
        gpu::GemvParams{x.view, weight.view, y.view, Activation::kNone, {}, y.view},
        gpu::GemvParams{x.view, weight.view, {}, Activation::kNone, {}, floats.view}}) {
    EXPECT_EQ(gpu::Gemv(params, *stream_).code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace bertrand
