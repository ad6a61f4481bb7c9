#include <gtest/gtest.h>

#include "kernels/bias_activation/bias_activation_reference.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kGeluErf, Activation::kGeluTanh, Activation::kRelu,
    Activation::kSilu, Activation::kTanh,    Activation::kSigmoid};

// Through linear layers of one input with weight 1: the activations have no operation of their own.
class ActivationTest : public DeviceTest {};

// Every activation over the whole range of float32 exponents that matters, against float64. Where
// the function is about x or about 1, errors are relative to that; the tails of the exact functions
// fall below float32's rounding of x itself, and so do ours.
TEST_P(ActivationTest, ActivationsAreAccurateToRounding) {
  std::vector<float> points;
  for (double magnitude = 1e-6; magnitude < 80; magnitude *= 1.0007) {
    points.push_back(static_cast<float>(magnitude));
    points.push_back(static_cast<float>(-magnitude));
  }
  for (const float special : {0.0f, -0.0f, 1e-30f, -1e-30f, 100.0f, -100.0f, 1e6f, -1e6f}) {
    points.push_back(special);
  }
  const int64_t rows = static_cast<int64_t>(points.size());
  const std::vector<float> ones(8, 1.0f);
  const auto packed = Pack(ones, {}, 8, 1);
  for (const Activation activation : kActivations) {
    GuardedTensor y{rows, 8};
    const LinearParams params{
        {points.data(), DType::kFloat32, {rows, 1}}, packed.get(), activation, {}, y.view()};
    ASSERT_TRUE(backend_->Linear(*stream_, params).ok());
    for (int64_t i = 0; i < rows; ++i) {
      const double x = points[static_cast<size_t>(i)];
      const double expected = ActivationReference(activation, x);
      // GELU and SiLU: x times a factor whose error is a few roundings of 1.
      const bool scaled = activation == Activation::kGeluErf ||
                          activation == Activation::kGeluTanh || activation == Activation::kSilu;
      const double scale = scaled ? std::abs(x) : std::abs(expected);
      ASSERT_NEAR(y[static_cast<size_t>(i) * 8], expected, 6 * kRounding * scale + 1e-37)
          << "activation " << static_cast<int>(activation) << " at " << x;
    }
  }
}

TEST_P(ActivationTest, NotANumberStaysOne) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x(4, nan);
  const std::vector<float> weight(40, 1.0f);
  const auto packed = Pack(weight, {}, 40, 1);
  for (const Activation activation : kActivations) {
    GuardedTensor y{4, 40};
    for (size_t i = 0; i < y.size(); ++i) y[i] = 0;
    ASSERT_TRUE(
        backend_
            ->Linear(*stream_,
                     {{x.data(), DType::kFloat32, {4, 1}}, packed.get(), activation, {}, y.view()})
            .ok());
    for (size_t i = 0; i < y.size(); ++i) {
      ASSERT_TRUE(std::isnan(y[i])) << "activation " << static_cast<int>(activation);
    }
  }
}

// torch.nn.functional.gelu(1), its tanh approximation, silu(1), ...: the two GELUs differ.
TEST_P(ActivationTest, KnownValues) {
  const std::pair<Activation, float> cases[] = {
      {Activation::kNone, 1.0f},           {Activation::kGeluErf, 0.8413447f},
      {Activation::kGeluTanh, 0.8411920f}, {Activation::kRelu, 1.0f},
      {Activation::kSilu, 0.7310586f},     {Activation::kTanh, 0.7615942f},
      {Activation::kSigmoid, 0.7310586f}};
  std::vector<float> x = {1};
  const std::vector<float> one(1, 1.0f);
  const auto packed = Pack(one, {}, 1, 1);
  for (const auto& [activation, expected] : cases) {
    GuardedTensor y{1, 1};
    ASSERT_TRUE(
        backend_
            ->Linear(*stream_,
                     {{x.data(), DType::kFloat32, {1, 1}}, packed.get(), activation, {}, y.view()})
            .ok());
    EXPECT_NEAR(y[0], expected, 2e-7) << static_cast<int>(activation);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, ActivationTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand
