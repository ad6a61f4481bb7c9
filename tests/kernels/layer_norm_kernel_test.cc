#include <gmock/gmock.h>

#include <cmath>
#include <tuple>

#include "kernels/layer_norm/layer_norm.h"
#include "kernels/layer_norm/layer_norm_reference.h"
#include "tests/kernels/emulated_fixture.h"

namespace bertrand {
namespace {

struct Shape {
  int64_t rows, hidden, true_hidden;
};

// One row and a few, a block's rows and one more; one vector, widths that fill no warp, the borders
// of the launch table, the largest; and padded widths.
const Shape kShapes[] = {{1, 8, 8},     {3, 24, 24},     {4, 384, 384},   {5, 512, 512},
                         {2, 520, 520}, {3, 1024, 1024}, {1, 1032, 1032}, {2, 4096, 4096},
                         {3, 64, 60},   {2, 1152, 1100}, {3, 37, 37},     {5, 30, 30},
                         {2, 61, 50},   {1, 4100, 4100}};

std::vector<double> Exact(const Shape& shape, const std::vector<double>& sums,
                          const std::vector<float>& gamma, const std::vector<float>& beta,
                          float eps) {
  std::vector<double> y(sums.size(), 0);
  std::vector<float> row(static_cast<size_t>(shape.hidden));
  for (int64_t t = 0; t < shape.rows; ++t) {
    const double* x = sums.data() + t * shape.hidden;
    const size_t width = static_cast<size_t>(shape.true_hidden);
    NormalizeRowReference({x, width}, gamma.data(), beta.data(), eps, row.data());
    for (size_t j = 0; j < width; ++j) y[static_cast<size_t>(t * shape.hidden) + j] = row[j];
  }
  return y;
}

class LayerNormKernelTest : public EmulatedTest {
 protected:
  // Values with zeros where the padding is.
  std::vector<float> Padded(int64_t rows, const Shape& shape, float low, float high) {
    std::vector<float> values = Random(static_cast<size_t>(rows * shape.hidden), low, high);
    for (size_t i = 0; i < values.size(); ++i) {
      if (static_cast<int64_t>(i) % shape.hidden >= shape.true_hidden) values[i] = 0;
    }
    return values;
  }

  template <typename T>
  void ExpectMatchesReference(const Shape& shape, bool with_residual, bool with_bias) {
    SCOPED_TRACE(testing::Message()
                 << shape.rows << " x " << shape.hidden << " of " << shape.true_hidden
                 << (with_residual ? ", residual" : "") << (with_bias ? ", bias" : ""));
    const std::vector<int64_t> matrix = {shape.rows, shape.hidden}, row = {shape.hidden};
    const DeviceTensor<T> x(stream(), matrix, Padded(shape.rows, shape, -1, 3));
    const DeviceTensor<T> residual(stream(), matrix, Padded(shape.rows, shape, -1, 1));
    const DeviceTensor<T> bias(stream(), row, Padded(1, shape, -1, 1));
    const DeviceTensor<T> gamma(stream(), row, Padded(1, shape, 0.5, 1.5));
    const DeviceTensor<T> beta(stream(), row, Padded(1, shape, -0.5, 0.5));
    const DeviceTensor<T> y(stream(), matrix);
    gpu::LayerNormParams params = {.x = x.view(), .gamma = gamma.view(), .beta = beta.view()};
    params.eps = 1e-5f;
    params.true_hidden = shape.true_hidden == shape.hidden ? 0 : shape.true_hidden;
    params.y = y.view();
    if (with_residual) params.residual = residual.view();
    if (with_bias) params.bias = bias.view();
    ASSERT_OK(gpu::LayerNorm(params, stream()));

    // Naively every sum is rounded to T, as transformers' are; then float64, rounded once.
    std::vector<double> sums(x.size()), naive_sums(x.size());
    for (size_t i = 0; i < sums.size(); ++i) {
      const double b = with_bias ? bias.values()[i % static_cast<size_t>(shape.hidden)] : 0.0f;
      const double r = with_residual ? residual.values()[i] : 0.0f;
      sums[i] = double{x.values()[i]} + b + r;
      naive_sums[i] = Rounded<T>(double{Rounded<T>(x.values()[i] + b)} + r);
    }
    const std::vector<double> exact = Exact(shape, sums, gamma.values(), beta.values(), params.eps);
    const std::vector<double> naive64 =
        Exact(shape, naive_sums, gamma.values(), beta.values(), params.eps);
    std::vector<float> naive;
    for (const double value : naive64) naive.push_back(Rounded<T>(value));
    // Float's share: mean and variance are off by a few roundings, which the result of up to 4
    // inherits.
    ExpectAtMostTwice(y.Download(), naive, exact, 16 * 4 * 0x1p-24);
  }
};

EMULATED_SUITE(LayerNormKernelTest);

TEST_P(LayerNormKernelTest, EqualsReference) {
  for (const Shape& shape : kShapes) {
    ExpectMatchesReference<float>(shape, true, false);
    ExpectMatchesReference<simt::Half>(shape, true, true);
    ExpectMatchesReference<simt::Half>(shape, false, false);
    ExpectMatchesReference<simt::BFloat16>(shape, true, false);
  }
}

// x as the sum of splits, in order: what the sum as x itself gives, but for its rounding to the
// type, of which there is none here: splits are small integers.
TEST_P(LayerNormKernelTest, AddsSplits) {
  struct Case {
    int64_t splits, rows, hidden;
  };
  for (const Case c :
       {Case{2, 1, 8}, {3, 5, 384}, {8, 2, 768}, {5, 3, 1024}, {4, 2, 1032}, {2, 1, 4096}}) {
    SCOPED_TRACE(testing::Message() << c.splits << " of " << c.rows << " x " << c.hidden);
    const size_t size = static_cast<size_t>(c.rows * c.hidden),
                 width = static_cast<size_t>(c.hidden);
    std::vector<float> parts = Random(size * static_cast<size_t>(c.splits), -9, 9);
    std::vector<float> sums(size, 0);
    for (size_t i = 0; i < parts.size(); ++i) sums[i % size] += parts[i] = std::round(parts[i]);
    using simt::Half;
    const DeviceTensor<float> splits(stream(), {c.splits, c.rows, c.hidden}, parts);
    const DeviceTensor<Half> x(stream(), {c.rows, c.hidden}, sums);
    const DeviceTensor<Half> y(stream(), {c.rows, c.hidden}, Random(size));  // also the residual
    const DeviceTensor<Half> from_x(stream(), {c.rows, c.hidden});
    const DeviceTensor<Half> bias(stream(), {c.hidden}, Random(width));
    const DeviceTensor<Half> gamma(stream(), {c.hidden}, Random(width, 0.5, 1.5));
    gpu::LayerNormParams params = {.x = x.view(),
                                   .residual = y.view(),
                                   .bias = bias.view(),
                                   .gamma = gamma.view(),
                                   .beta = bias.view(),
                                   .eps = 1e-5f,
                                   .y = from_x.view()};
    ASSERT_OK(gpu::LayerNorm(params, stream()));
    params.x = {};
    params.splits = splits.view();
    params.y = y.view();
    ASSERT_OK(gpu::LayerNorm(params, stream()));
    // Rows are summed up by other threads: one rounding to the type, of results below 8.
    const std::vector<float> expected = from_x.Download(), actual = y.Download();
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < size; ++i) ASSERT_NEAR(actual[i], expected[i], 0x1p-8) << i;
  }
}

TEST_P(LayerNormKernelTest, WorksInPlace) {
  const DeviceTensor<float> x(stream(), {5, 768}, Random(5 * 768));
  const DeviceTensor<float> y(stream(), {5, 768}, x.values()), z(stream(), {5, 768});
  const DeviceTensor<float> ones(stream(), {768}, std::vector<float>(768, 1));
  gpu::LayerNormParams params = {.x = x.view(), .gamma = ones.view(), .beta = ones.view()};
  params.y = z.view();
  ASSERT_OK(gpu::LayerNorm(params, stream()));
  params.x = params.y = y.view();
  ASSERT_OK(gpu::LayerNorm(params, stream()));
  EXPECT_EQ(y.Download(), z.Download());
}

TEST_P(LayerNormKernelTest, RowsBeyondTheCountBecomeZero) {
  for (const int64_t hidden : {64, 2048}) {
    const size_t width = static_cast<size_t>(hidden);
    const DeviceTensor<simt::Half> x(stream(), {7, hidden}, Random(7 * width));
    const DeviceTensor<simt::Half> ones(stream(), {hidden}, std::vector<float>(width, 1));
    const DeviceTensor<simt::Half> y(stream(), {7, hidden});
    const DeviceTensor<int> count(stream(), {1}, std::vector<int>{5});
    gpu::LayerNormParams params = {.x = x.view(), .gamma = ones.view(), .beta = ones.view()};
    params.y = y.view();
    params.num_rows = count.view();
    ASSERT_OK(gpu::LayerNorm(params, stream()));
    const std::vector<float> values = y.Download();
    ASSERT_EQ(values.size(), 7 * width);
    // gamma = beta = 1: a row's values average 1.
    EXPECT_NE(values[4 * width], 0);
    for (size_t i = 5 * width; i < 7 * width; ++i) ASSERT_EQ(values[i], 0) << i;
  }
}

TEST_P(LayerNormKernelTest, WritesASecondOutputInFloat8) {
  const DeviceTensor<simt::Half> x(stream(), {3, 256}, Random(3 * 256));
  const DeviceTensor<simt::Half> gamma(stream(), {256}, Random(256, 0.5, 1.5));
  const DeviceTensor<simt::Half> y(stream(), {3, 256});
  const DeviceTensor<simt::Float8> y8(stream(), {3, 256});
  const DeviceTensor<float> scale(stream(), {1}, std::vector<float>{0.0078125f});
  gpu::LayerNormParams params = {.x = x.view(), .gamma = gamma.view(), .beta = gamma.view()};
  params.y = y.view();
  params.y8 = y8.view();
  params.y8_scale = scale.view();
  ASSERT_OK(gpu::LayerNorm(params, stream()));
  ExpectIsFloat8Of<simt::Half>(y8.Download(), y.Download(), 0.0078125f);
}

TEST_P(LayerNormKernelTest, RefusesWhatItCannotDo) {
  const DeviceTensor<float> x(stream(), {2, 16}, Random(32)), y(stream(), {2, 16});
  const DeviceTensor<float> gamma(stream(), {16}, Random(16)),
      short_gamma(stream(), {8}, Random(8));
  const DeviceTensor<float> odd(stream(), {2, 12}, Random(24));
  const DeviceTensor<simt::Float8> y8(stream(), {2, 12});
  const auto message = [this](const gpu::LayerNormParams& params) {
    const absl::Status status = gpu::LayerNorm(params, stream());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return Message(status);
  };
  gpu::LayerNormParams good = {.x = x.view(), .gamma = gamma.view(), .beta = gamma.view()};
  good.y = y.view();
  gpu::LayerNormParams params = good;
  params.x = params.y = odd.view();
  params.y8 = y8.view();
  EXPECT_THAT(message(params), testing::HasSubstr("multiple of 8"));
  params = good;
  params.gamma = short_gamma.view();
  EXPECT_THAT(message(params), testing::HasSubstr("gamma is float32[8]"));
  params = good;
  params.y = {};
  EXPECT_THAT(message(params), testing::HasSubstr("no y"));
  params = good;
  params.true_hidden = 17;
  EXPECT_THAT(message(params), testing::HasSubstr("true_hidden is 17"));
  // Splits: of 16-bit types, in y's shape, without x.
  const DeviceTensor<float> splits(stream(), {2, 2, 16}, Random(64));
  const DeviceTensor<simt::Half> half(stream(), {2, 16}), half_gamma(stream(), {16}, Random(16));
  params = good;
  params.splits = splits.view();
  params.x = {};
  EXPECT_THAT(message(params), testing::HasSubstr("splits are float32[2,2,16], y is float32"));
  params = {.gamma = half_gamma.view(), .beta = half_gamma.view(), .y = half.view()};
  params.splits = splits.view();
  ASSERT_OK(gpu::LayerNorm(params, stream()));
  params.splits = x.view();
  EXPECT_THAT(message(params), testing::HasSubstr("splits are float32[2,16], y is float16"));
  // No rows: nothing to do.
  params = good;
  params.x = TensorView(x.data(), DType::kFloat32, {0, 16});
  params.y = TensorView(y.data(), DType::kFloat32, {0, 16});
  EXPECT_TRUE(gpu::LayerNorm(params, stream()).ok());
}

}  // namespace
}  // namespace bertrand
