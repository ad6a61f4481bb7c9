#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "kernels/gemm/linear_reference.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

class LinearTest : public DeviceTest {
 protected:
  // Compares with the float64 reference. Each output is a sum of `in` products added in some order
  // with one rounding each; roundings are as good as random, so the error is about sqrt(in)
  // roundings of the sum of magnitudes, and 4 times that is never seen. Activations have a slope of
  // at most 1.13 and add a few roundings of their own.
  void ExpectMatchesReference(int64_t rows, int64_t in, int64_t out, Activation activation,
                              bool with_bias, bool with_residual) {
    SCOPED_TRACE(testing::Message() << rows << " x " << in << " x " << out << ", activation "
                                    << static_cast<int>(activation));
    GuardedTensor x{rows, in}, weight{out, in}, bias{out}, residual{rows, out}, y{rows, out};
    x.Randomize(random_);
    weight.Randomize(random_, 2 / std::sqrt(static_cast<float>(in)));
    bias.Randomize(random_);
    residual.Randomize(random_);
    const std::span<const float> weights(weight.data(), weight.size());
    const std::span<const float> biases(bias.data(), with_bias ? bias.size() : 0);
    const auto packed = Pack(weights, biases, out, in);
    LinearParams params{x.view(), packed.get(), activation, {}, y.view()};
    if (with_residual) params.residual = residual.view();
    ASSERT_TRUE(backend_->Linear(*stream_, params).ok());

    GuardedTensor expected{rows, out}, magnitude{rows, out};
    params.y = expected.view();
    LinearReference(params, weights, biases);
    for (GuardedTensor* tensor : {&x, &weight, &bias, &residual}) {
      for (size_t i = 0; i < tensor->size(); ++i) (*tensor)[i] = std::abs((*tensor)[i]);
    }
    params.y = magnitude.view();
    params.activation = Activation::kNone;
    LinearReference(params, weights, biases);
    y.ExpectGuardsIntact();
    const double roundings = 4 * std::sqrt(static_cast<double>(in)) + 8;
    for (size_t i = 0; i < y.size(); ++i) {
      ASSERT_LE(std::abs(double{y[i]} - expected[i]), kRounding * roundings * (magnitude[i] + 0.1))
          << "element " << i;
    }
  }
};

constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kGeluErf, Activation::kGeluTanh, Activation::kRelu,
    Activation::kSilu, Activation::kTanh,    Activation::kSigmoid};

// Around the row blocks (6, 12) and the panels (8, 16, 32), and odd sizes everywhere.
TEST_P(LinearTest, SizesAroundTiles) {
  for (const int64_t rows : {1, 2, 5, 6, 7, 11, 12, 13, 25, 37}) {
    for (const int64_t out : {1, 2, 7, 8, 9, 31, 32, 33, 65}) {
      ExpectMatchesReference(rows, 19, out, Activation::kNone, true, false);
    }
  }
  for (const int64_t in : {1, 2, 3, 4, 31, 384}) {
    ExpectMatchesReference(14, in, 48, Activation::kNone, true, true);
  }
}

TEST_P(LinearTest, EveryActivationWithAndWithoutBiasAndResidual) {
  for (const Activation activation : kActivations) {
    for (const bool with_bias : {false, true}) {
      for (const bool with_residual : {false, true}) {
        ExpectMatchesReference(13, 40, 37, activation, with_bias, with_residual);
      }
    }
  }
}

// Several row tiles, BERT-large's inner size, and more columns than any layer but a vocabulary has.
TEST_P(LinearTest, LargestSizes) {
  ExpectMatchesReference(70, 4096, 40, Activation::kGeluErf, true, true);
  ExpectMatchesReference(700, 96, 33, Activation::kNone, true, false);
  ExpectMatchesReference(2, 32, 30522, Activation::kNone, true, false);
}

// A row's result does not depend on the batch it is in, bit by bit.
TEST_P(LinearTest, RowsDoNotDependOnTheirBatch) {
  const int64_t rows = 29, in = 384, out = 100;
  GuardedTensor x{rows, in}, weight{out, in}, bias{out}, together{rows, out};
  x.Randomize(random_);
  weight.Randomize(random_);
  bias.Randomize(random_);
  const auto packed = Pack({weight.data(), weight.size()}, {bias.data(), bias.size()}, out, in);
  LinearParams params{x.view(), packed.get(), Activation::kGeluErf, {}, together.view()};
  ASSERT_TRUE(backend_->Linear(*stream_, params).ok());
  for (const int64_t batch : {1, 3, 16}) {
    for (int64_t row = 0; row + batch <= rows; row += batch) {
      GuardedTensor alone{batch, out};
      params.x = {x.data() + row * in, DType::kFloat32, {batch, in}};
      params.y = alone.view();
      ASSERT_TRUE(backend_->Linear(*stream_, params).ok());
      ASSERT_EQ(
          0, std::memcmp(alone.data(), together.data() + row * out, alone.size() * sizeof(float)));
    }
  }
}

TEST_P(LinearTest, OutputMayBeTheResidual) {
  const int64_t rows = 17, in = 24, out = 45;
  GuardedTensor x{rows, in}, weight{out, in}, y{rows, out}, separate{rows, out};
  x.Randomize(random_);
  weight.Randomize(random_);
  y.Randomize(random_);
  const auto packed = Pack({weight.data(), weight.size()}, {}, out, in);
  LinearParams params{x.view(), packed.get(), Activation::kNone, y.view(), separate.view()};
  ASSERT_TRUE(backend_->Linear(*stream_, params).ok());
  params.y = y.view();
  ASSERT_TRUE(backend_->Linear(*stream_, params).ok());
  y.ExpectNear(separate, 0, 0);
}

// A layer with a norm is one and then the other.
TEST_P(LinearTest, NormFollows) {
  const int64_t rows = 5, in = 40, out = 24;
  GuardedTensor x{rows, in}, weight{out, in}, bias{out}, gamma{out}, beta{out};
  GuardedTensor y{rows, out}, apart{rows, out};  // y: also the residual
  for (GuardedTensor* tensor : {&x, &weight, &bias, &gamma, &beta, &y}) tensor->Randomize(random_);
  const auto packed = Pack({weight.data(), weight.size()}, {bias.data(), bias.size()}, out, in);
  LinearParams params{x.view(), packed.get(), Activation::kNone, y.view(), apart.view()};
  ASSERT_TRUE(backend_->Linear(*stream_, params).ok());
  ASSERT_TRUE(backend_
                  ->LayerNorm(*stream_, {.x = apart.view(),
                                         .gamma = gamma.view(),
                                         .beta = beta.view(),
                                         .eps = 1e-5f,
                                         .y = apart.view()})
                  .ok());
  params.y = y.view();
  params.norm = {gamma.view(), beta.view(), 1e-5f};
  ASSERT_TRUE(backend_->Linear(*stream_, params).ok());
  y.ExpectNear(apart, 0, 0);
  params.norm.beta = {};
  ExpectInvalid(backend_->Linear(*stream_, params), "Linear: norm.beta is");
  params.norm = {x.view(), beta.view(), 0};
  ExpectInvalid(backend_->Linear(*stream_, params),
                "Linear: norm.gamma is float32[5,40], expected float32[24]");
}

TEST_P(LinearTest, NoRowsDoNothing) {
  const std::vector<float> weight(12, 1.0f);
  const auto packed = Pack(weight, {}, 3, 4);
  EXPECT_EQ(packed->out_features(), 3);
  EXPECT_EQ(packed->in_features(), 4);
  EXPECT_GE(packed->size_bytes(), weight.size() * sizeof(float));
  const LinearParams params{{nullptr, DType::kFloat32, {0, 4}},
                            packed.get(),
                            Activation::kNone,
                            {},
                            {nullptr, DType::kFloat32, {0, 3}}};
  EXPECT_TRUE(backend_->Linear(*stream_, params).ok());
}

TEST_P(LinearTest, WrongShapesAreNamed) {
  GuardedTensor x{2, 4}, y{2, 3}, wide{2, 5}, flat{8};
  const std::vector<float> weight(12, 1.0f);
  const auto packed = Pack(weight, {}, 3, 4);
  const LinearParams good{x.view(), packed.get(), Activation::kNone, {}, y.view()};
  LinearParams params = good;
  params.weight = nullptr;
  ExpectInvalid(backend_->Linear(*stream_, params), "Linear: weight is absent");
  params = good;
  params.x = wide.view();
  ExpectInvalid(backend_->Linear(*stream_, params),
                "Linear: x is float32[2,5], expected float32[2,4]");
  params.x = flat.view();
  ExpectInvalid(backend_->Linear(*stream_, params),
                "Linear: x is float32[8], expected float32 with 2 dimensions");
  params.x = {};
  ExpectInvalid(backend_->Linear(*stream_, params), "Linear: x is absent");
  params.x = {x.data(), DType::kFloat16, {2, 4}};
  ExpectInvalid(backend_->Linear(*stream_, params), "Linear: x is float16[2,4]");
  params.x = {nullptr, DType::kFloat32, {2, 4}};
  ExpectInvalid(backend_->Linear(*stream_, params), "null address");
  params = good;
  params.y = wide.view();
  ExpectInvalid(backend_->Linear(*stream_, params),
                "Linear: y is float32[2,5], expected float32[2,3]");
  params = good;
  params.residual = wide.view();
  ExpectInvalid(backend_->Linear(*stream_, params), "Linear: residual is float32[2,5]");
  GuardedTensor square{2, 3};
  const std::vector<float> square_weight(9, 1.0f);
  const auto square_packed = Pack(square_weight, {}, 3, 3);
  ExpectInvalid(
      backend_->Linear(*stream_,
                       {square.view(), square_packed.get(), Activation::kNone, {}, square.view()}),
      "Linear: y is x's memory");
}

TEST_P(LinearTest, WrongWeightsAreNamed) {
  const std::vector<float> weight(12, 1.0f), bias(2, 1.0f);
  ExpectInvalid(backend_->PackLinear(weight, {}, 3, 5).status(),
                "PackLinear: weight has 12 values, expected 3 x 5");
  ExpectInvalid(backend_->PackLinear(weight, bias, 3, 4).status(),
                "PackLinear: bias has 2 values, expected none or 3");
  ExpectInvalid(backend_->PackLinear({}, {}, 0, 4).status(), "PackLinear: out_features 0");
  ExpectInvalid(backend_->PackLinear({}, {}, 4, -1).status(), "in_features -1");
}

INSTANTIATE_TEST_SUITE_P(Devices, LinearTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand
