#include <gtest/gtest.h>

#include "kernels/layer_norm/layer_norm_reference.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

// A normalised value is (x - mean) * scale * gamma + beta with |x - mean| * scale up to
// sqrt(width); mean and variance are sums over vectors of lanes, off by a few roundings of the
// operands' size, which the scale (about 1 / deviation) carries into the result. With operands of
// deviation about 0.6 and mean up to 1: below 16 roundings of values up to 4.
constexpr double kAbsolute = 16 * 4 * kRounding;

class LayerNormTest : public DeviceTest {
 protected:
  void ExpectMatchesReference(int64_t tokens, int64_t width, bool with_residual) {
    SCOPED_TRACE(testing::Message() << tokens << " x " << width);
    GuardedTensor x{tokens, width}, residual{tokens, width}, gamma{width}, beta{width};
    GuardedTensor y{tokens, width}, expected{tokens, width};
    for (GuardedTensor* tensor : {&x, &residual, &gamma, &beta}) tensor->Randomize(random_);
    for (size_t i = 0; i < x.size(); ++i) x[i] += 1;
    LayerNormParams params{x.view(), {}, gamma.view(), beta.view(), 1e-12f, y.view()};
    if (with_residual) params.residual = residual.view();
    ASSERT_TRUE(backend_->LayerNorm(*stream_, params).ok());
    params.y = expected.view();
    LayerNormReference(params);
    // Two or three columns may happen to be nearly equal: then the scale is large.
    y.ExpectNear(expected, width < 8 ? 1e-3 : kAbsolute, 0);
  }
};

TEST_P(LayerNormTest, Sizes) {
  for (const int64_t width : {1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 128, 384, 1000, 4096}) {
    for (const bool with_residual : {false, true}) {
      ExpectMatchesReference(1, width, with_residual);
      ExpectMatchesReference(5, width, with_residual);
    }
  }
  ExpectMatchesReference(300, 768, true);
}

TEST_P(LayerNormTest, OutputMayBeEitherOperand) {
  GuardedTensor x{9, 50}, residual{9, 50}, gamma{50}, beta{50}, expected{9, 50};
  for (GuardedTensor* tensor : {&x, &residual, &gamma, &beta}) tensor->Randomize(random_);
  for (const bool over_x : {true, false}) {
    GuardedTensor a = x, b = residual;
    LayerNormParams params{a.view(), b.view(), gamma.view(), beta.view(), 1e-5f, expected.view()};
    LayerNormReference(params);
    params.y = over_x ? a.view() : b.view();
    ASSERT_TRUE(backend_->LayerNorm(*stream_, params).ok());
    (over_x ? a : b).ExpectNear(expected, kAbsolute, 0);
    (over_x ? b : a).ExpectNear(over_x ? residual : x, 0, 0);
  }
}

// A mean far above the deviation: E[x^2] - mean^2 would lose everything; two passes do not. The
// row's own rounding (2^-24 of 1000, against a deviation of 0.6) remains.
TEST_P(LayerNormTest, VarianceTakesTwoPasses) {
  GuardedTensor x{1, 384}, gamma{384}, beta{384}, y{1, 384}, expected{1, 384};
  x.Randomize(random_);
  for (size_t i = 0; i < 384; ++i) {
    x[i] += 1000;
    gamma[i] = 1;
    beta[i] = 0;
  }
  LayerNormParams params{x.view(), {}, gamma.view(), beta.view(), 1e-12f, y.view()};
  ASSERT_TRUE(backend_->LayerNorm(*stream_, params).ok());
  params.y = expected.view();
  LayerNormReference(params);
  y.ExpectNear(expected, 1000 * 2 * kRounding / 0.57, 4 * kRounding);
}

// torch.nn.functional.layer_norm([1, 2, 3, 4], eps=1e-5) * 2 + 1, and a constant row: beta.
TEST_P(LayerNormTest, KnownValues) {
  GuardedTensor x{2, 4}, gamma{4}, beta{4}, y{2, 4}, expected{2, 4};
  for (size_t i = 0; i < 4; ++i) {
    x[i] = static_cast<float>(i + 1);
    x[4 + i] = 7;
    gamma[i] = 2;
    beta[i] = 1;
    expected[4 + i] = 1;
  }
  expected[0] = -1.6832709f;
  expected[1] = 0.1055764f;
  expected[2] = 1.8944236f;
  expected[3] = 3.6832709f;
  ASSERT_TRUE(
      backend_->LayerNorm(*stream_, {x.view(), {}, gamma.view(), beta.view(), 1e-5f, y.view()})
          .ok());
  y.ExpectNear(expected, 1e-6, 0);
}

TEST_P(LayerNormTest, NoTokensDoNothing) {
  GuardedTensor gamma{8}, beta{8};
  const TensorView none(nullptr, DType::kFloat32, {0, 8});
  EXPECT_TRUE(
      backend_->LayerNorm(*stream_, {none, {}, gamma.view(), beta.view(), 1e-5f, none}).ok());
}

TEST_P(LayerNormTest, WrongShapesAreNamed) {
  GuardedTensor x{2, 8}, gamma{8}, y{2, 8}, short_gamma{7}, tall{3, 8};
  const LayerNormParams good{x.view(), {}, gamma.view(), gamma.view(), 1e-5f, y.view()};
  LayerNormParams params = good;
  params.gamma = short_gamma.view();
  ExpectInvalid(backend_->LayerNorm(*stream_, params),
                "LayerNorm: gamma is float32[7], expected float32[8]");
  params = good;
  params.beta = {};
  ExpectInvalid(backend_->LayerNorm(*stream_, params),
                "LayerNorm: beta is absent, expected float32[8]");
  params = good;
  params.residual = tall.view();
  ExpectInvalid(backend_->LayerNorm(*stream_, params), "LayerNorm: residual is float32[3,8]");
  params = good;
  params.y = tall.view();
  ExpectInvalid(backend_->LayerNorm(*stream_, params), "LayerNorm: y is float32[3,8]");
  params = good;
  params.x = {x.data(), DType::kInt32, {2, 8}};
  ExpectInvalid(backend_->LayerNorm(*stream_, params), "LayerNorm: x is int32[2,8]");
}

INSTANTIATE_TEST_SUITE_P(Devices, LayerNormTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand
