#include <gmock/gmock.h>

#include "kernels/bias_activation/bias_activation.h"
#include "kernels/bias_activation/bias_activation_reference.h"
#include "tests/kernels/emulated_fixture.h"

namespace bertrand::gpu {
namespace {

constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kGeluErf, Activation::kGeluTanh, Activation::kRelu,
    Activation::kSilu, Activation::kTanh,    Activation::kSigmoid};

class BiasActivationKernelTest : public EmulatedTest {
 protected:
  template <typename T>
  void ExpectMatchesReference(int64_t m, int64_t n, Activation activation, bool with_bias,
                              bool with_residual) {
    SCOPED_TRACE(testing::Message()
                 << m << " x " << n << ", activation " << static_cast<int>(activation));
    const size_t count = static_cast<size_t>(m * n), row = static_cast<size_t>(n);
    // Beyond where erf and tanh are 1.
    const DeviceTensor<T> x(stream(), {m, n}, Random(count, -6, 6));
    const DeviceTensor<T> bias(stream(), {n}, Random(row)), y(stream(), {m, n});
    const DeviceTensor<T> residual(stream(), {m, n}, Random(count));
    BiasActivationParams params = {.x = x.view(), .activation = activation, .y = y.view()};
    if (with_bias) params.bias = bias.view();
    if (with_residual) params.residual = residual.view();
    ASSERT_OK(BiasActivation(params, stream()));

    // Naively with a rounding after each operation, as PyTorch does it.
    std::vector<double> exact(count);
    std::vector<float> naive(count);
    for (size_t i = 0; i < count; ++i) {
      const double sum = double{x.values()[i]} + (with_bias ? bias.values()[i % row] : 0.0f);
      const double added = with_residual ? residual.values()[i] : 0.0f;
      exact[i] = ActivationReference(activation, sum) + added;
      naive[i] = Rounded<T>(ActivationReference(activation, Rounded<T>(sum)));
      naive[i] = Rounded<T>(naive[i] + added);
    }
    // One rounding of values up to 8, always; float's own operations.
    ExpectAtMostTwice(y.Download(), naive, exact, count < 20 ? 8 * kRoundingOf<T> : 8 * 0x1p-22);
  }
};

EMULATED_SUITE(BiasActivationKernelTest);

TEST_P(BiasActivationKernelTest, EveryActivationWithAndWithoutBiasAndResidual) {
  for (const Activation activation : kActivations) {
    for (const bool with_bias : {false, true}) {
      for (const bool with_residual : {false, true}) {
        ExpectMatchesReference<simt::Half>(3, 40, activation, with_bias, with_residual);
        ExpectMatchesReference<simt::BFloat16>(3, 37, activation, with_bias, with_residual);
        ExpectMatchesReference<float>(3, 20, activation, with_bias, with_residual);
      }
    }
  }
}

// One value, around a vector, around a block of 256 vectors, and rows of a layer.
TEST_P(BiasActivationKernelTest, SizesAroundVectorsAndBlocks) {
  for (const int64_t n : {1, 7, 8, 9, 2040, 2048, 2056, 3072}) {
    ExpectMatchesReference<simt::Half>(2, n, Activation::kGeluErf, true, false);
  }
  for (const int64_t m : {1, 255, 256, 257}) {
    ExpectMatchesReference<float>(m, 4, Activation::kGeluErf, true, true);
  }
}

// Values up to 6 over a scale at which some saturate.
TEST_P(BiasActivationKernelTest, WritesFloat8) {
  for (const int64_t n : {8, 40, 3072}) {
    const size_t count = static_cast<size_t>(3 * n);
    const DeviceTensor<simt::Half> x(stream(), {3, n}, Random(count, -6, 6)),
        bias(stream(), {n}, Random(static_cast<size_t>(n))), y(stream(), {3, n});
    const DeviceTensor<simt::Float8> narrow(stream(), {3, n});
    const DeviceTensor<float> scale(stream(), {1}, std::vector<float>{0.01f});
    BiasActivationParams params = {
        .x = x.view(), .bias = bias.view(), .activation = Activation::kGeluErf, .y = y.view()};
    ASSERT_OK(BiasActivation(params, stream()));
    params.y = narrow.view();
    params.y_scale = scale.view();
    ASSERT_OK(BiasActivation(params, stream()));
    ExpectIsFloat8Of<simt::Half>(narrow.Download(), y.Download(), 0.01f);
  }
}

TEST_P(BiasActivationKernelTest, RefusesFloat8ItCannotWrite) {
  const DeviceTensor<simt::Half> x(stream(), {2, 12}, Random(24));
  const DeviceTensor<simt::Float8> y(stream(), {2, 12});
  const DeviceTensor<float> scale(stream(), {1}, Random(1));
  BiasActivationParams params = {.x = x.view(), .y = y.view(), .y_scale = scale.view()};
  EXPECT_THAT(Message(BiasActivation(params, stream())), testing::HasSubstr("multiple of 8"));
  const DeviceTensor<float> wide(stream(), {2, 16}, Random(32));
  const DeviceTensor<simt::Float8> fits(stream(), {2, 16});
  params = {.x = wide.view(), .y = fits.view(), .y_scale = scale.view()};
  EXPECT_EQ(BiasActivation(params, stream()).code(), absl::StatusCode::kInvalidArgument);
  params = {.x = x.view(), .y = fits.view()};
  EXPECT_EQ(BiasActivation(params, stream()).code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(BiasActivationKernelTest, WorksInPlaceOfXAndOfTheResidual) {
  for (const int64_t n : {24, 27}) {
    const size_t count = static_cast<size_t>(5 * n);
    const DeviceTensor<simt::Half> x(stream(), {5, n}, Random(count));
    const DeviceTensor<simt::Half> residual(stream(), {5, n}, Random(count));
    const DeviceTensor<simt::Half> bias(stream(), {n}, Random(static_cast<size_t>(n)));
    const DeviceTensor<simt::Half> y(stream(), {5, n});
    BiasActivationParams params = {x.view(), bias.view(), Activation::kGeluErf, residual.view(),
                                   y.view()};
    ASSERT_OK(BiasActivation(params, stream()));
    const DeviceTensor<simt::Half> copy(stream(), {5, n}, x.values());
    params.x = params.y = copy.view();
    ASSERT_OK(BiasActivation(params, stream()));
    EXPECT_EQ(copy.Download(), y.Download());
    params.x = x.view();
    params.y = params.residual;
    ASSERT_OK(BiasActivation(params, stream()));
    EXPECT_EQ(residual.Download(), y.Download());
  }
}

// GELU's tails: 0 and x, no NaN; and NaN stays NaN, so that a broken row is seen at the end.
TEST_P(BiasActivationKernelTest, ExtremesAndNaN) {
  const DeviceTensor<float> x(stream(), {1, 4}, std::vector<float>{-1e30f, 1e30f, -90, NAN});
  const DeviceTensor<float> y(stream(), {1, 4});
  for (const Activation activation : kActivations) {
    ASSERT_OK(BiasActivation({.x = x.view(), .activation = activation, .y = y.view()}, stream()));
    const std::vector<float> values = y.Download();
    ASSERT_EQ(values.size(), 4u);
    for (const size_t i : {0, 1, 2}) {
      const double exact = ActivationReference(activation, double{x.values()[i]});
      EXPECT_NEAR(values[i], exact, 1e-6 * std::abs(exact) + 1e-30) << static_cast<int>(activation);
    }
    EXPECT_TRUE(std::isnan(values[3])) << static_cast<int>(activation);
  }
}

#ifndef __CUDACC__
TEST_P(BiasActivationKernelTest, ReadsAndWritesWholeSectorsOnce) {
  const DeviceTensor<simt::Half> x(stream(), {64, 768}, Random(64 * 768)), y(stream(), {64, 768});
  device().set_emulation({.count_requests = true});
  ASSERT_OK(BiasActivation({.x = x.view(), .y = y.view()}, stream()));
  const auto reports = device().TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].second.counters.load_sectors, 64 * 768 * 2 / 32);
  EXPECT_EQ(reports[0].second.counters.store_sectors, 64 * 768 * 2 / 32);
}
#endif

TEST_P(BiasActivationKernelTest, RefusesWhatItCannotDo) {
  const DeviceTensor<simt::Half> x(stream(), {2, 8}, Random(16)), y(stream(), {2, 8});
  const auto message = [this](const BiasActivationParams& params) {
    const absl::Status status = BiasActivation(params, stream());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return Message(status);
  };
  const BiasActivationParams good = {.x = x.view(), .y = y.view()};
  BiasActivationParams params = good;
  params.x = TensorView(x.data(), DType::kFloat16, {1, 8});
  EXPECT_THAT(message(params), testing::HasSubstr("x is float16[1,8], y float16[2,8]"));
  params = good;
  params.bias = TensorView(x.data(), DType::kFloat16, {7});
  EXPECT_THAT(message(params), testing::HasSubstr("bias is float16[7]"));
  params = good;
  params.y = TensorView(x.data(), DType::kInt32, {2, 8});
  EXPECT_THAT(message(params), testing::HasSubstr("y is int32[2,8]"));
  params = good;
  params.bias = TensorView(reinterpret_cast<char*>(x.data()) + 2, DType::kFloat16, {8});
  EXPECT_THAT(message(params), testing::HasSubstr("not aligned to 16 bytes"));
  params = good;
  params.x = TensorView(nullptr, DType::kFloat16, {0, 8});
  params.y = TensorView(nullptr, DType::kFloat16, {0, 8});
  ASSERT_OK(BiasActivation(params, stream()));
}

}  // namespace
}  // namespace bertrand::gpu
