#include <gtest/gtest.h>

#include "kernels/pooling/pooling_reference.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

constexpr PoolingMode kModes[] = {PoolingMode::kCls,          PoolingMode::kMean,
                                  PoolingMode::kMax,          PoolingMode::kMeanSqrtLen,
                                  PoolingMode::kWeightedMean, PoolingMode::kLastToken};

class PoolTest : public DeviceTest {};

// A sum over n rows has about sqrt(n) roundings of its partial sums, n at most 300; means bring
// the sum's size back to that of the values (below 1), mean_sqrt_len to sqrt(n).
TEST_P(PoolTest, MatchesReference) {
  for (const int64_t width : {1, 5, 16, 33, 384}) {
    for (const PoolingMode mode : kModes) {
      SCOPED_TRACE(testing::Message() << "width " << width << ", mode " << static_cast<int>(mode));
      GuardedTensor x{320, width}, out{5, width + 10}, expected{5, width + 10};
      x.Randomize(random_);
      // The whole of a sequence, a part, one row, none, and the end.
      std::vector<int32_t> begin = {0, 4, 7, 9, 10}, end = {300, 6, 8, 9, 320},
                           weight_begin = {0, 1, 2, 9, 5};
      for (size_t i = 0; i < out.size(); ++i) out[i] = expected[i] = 9;
      PoolParams params{x.view(), IntView(begin), IntView(end), IntView(weight_begin), mode,
                        6,        out.view()};
      ASSERT_TRUE(backend_->Pool(*stream_, params).ok());
      params.out = expected.view();
      PoolReference(params);
      out.ExpectNear(expected, 32 * kRounding * 18, 0);
      EXPECT_EQ(out[5], 9);          // columns before and
      EXPECT_EQ(out[6 + width], 9);  // after are left alone
    }
  }
}

// What sentence_transformers.models.Pooling 5.1.2 gives for token embeddings [[1, -2], [3, -4],
// [5, 9]] with include_prompt=False and a prompt of one token, except cls, which it takes from the
// first token of all (the caller's `begin` decides).
TEST_P(PoolTest, KnownValues) {
  GuardedTensor x{3, 2};
  const float values[] = {1, -2, 3, -4, 5, 9};
  for (size_t i = 0; i < 6; ++i) x[i] = values[i];
  std::vector<int32_t> begin = {1}, end = {3}, weight_begin = {0};
  const std::pair<PoolingMode, std::pair<float, float>> cases[] = {
      {PoolingMode::kCls, {3, -4}},
      {PoolingMode::kMean, {4, 2.5f}},
      {PoolingMode::kMax, {5, 9}},
      {PoolingMode::kMeanSqrtLen, {8 / std::sqrt(2.0f), 5 / std::sqrt(2.0f)}},
      {PoolingMode::kWeightedMean, {(2 * 3 + 3 * 5) / 5.0f, (2 * -4 + 3 * 9) / 5.0f}},
      {PoolingMode::kLastToken, {5, 9}},
  };
  for (const auto& [mode, expected] : cases) {
    GuardedTensor out{1, 2};
    ASSERT_TRUE(backend_
                    ->Pool(*stream_, {x.view(), IntView(begin), IntView(end), IntView(weight_begin),
                                      mode, 0, out.view()})
                    .ok());
    EXPECT_NEAR(out[0], expected.first, 1e-6) << static_cast<int>(mode);
    EXPECT_NEAR(out[1], expected.second, 1e-6) << static_cast<int>(mode);
  }
}

TEST_P(PoolTest, NoRowsDoNothing) {
  GuardedTensor x{3, 2};
  const TensorView none(nullptr, DType::kInt32, {0});
  EXPECT_TRUE(backend_
                  ->Pool(*stream_, {x.view(),
                                    none,
                                    none,
                                    none,
                                    PoolingMode::kMean,
                                    0,
                                    {nullptr, DType::kFloat32, {0, 2}}})
                  .ok());
}

TEST_P(PoolTest, WrongOperandsAreNamed) {
  GuardedTensor x{3, 2}, out{1, 2};
  std::vector<int32_t> one = {0}, two = {0, 1};
  const PoolParams good{x.view(), IntView(one), IntView(one), IntView(one), PoolingMode::kMean,
                        0,        out.view()};
  PoolParams params = good;
  params.end = IntView(two);
  ExpectInvalid(backend_->Pool(*stream_, params), "Pool: end is int32[2], expected int32[1]");
  params = good;
  params.weight_begin = {};
  ExpectInvalid(backend_->Pool(*stream_, params), "Pool: weight_begin is absent");
  params = good;
  params.column = 1;
  ExpectInvalid(backend_->Pool(*stream_, params),
                "Pool: columns 1 to 3 of out, which is float32[1,2]");
  params.column = -1;
  ExpectInvalid(backend_->Pool(*stream_, params), "Pool: columns -1 to 1");
}

INSTANTIATE_TEST_SUITE_P(Devices, PoolTest, testing::ValuesIn(DeviceCases()), CaseName);

class NormalizeTest : public DeviceTest {};

TEST_P(NormalizeTest, MatchesReference) {
  for (const int64_t width : {1, 3, 16, 31, 384, 1024}) {
    GuardedTensor x{7, width};
    x.Randomize(random_, 3);
    for (int64_t j = 0; j < width; ++j) {
      x[static_cast<size_t>(j)] = 0;                // divided by 1e-12, not by 0
      x[static_cast<size_t>(width + j)] *= 1e-14f;  // a norm below the limit
    }
    GuardedTensor expected = x;
    ASSERT_TRUE(backend_->Normalize(*stream_, {x.view()}).ok());
    NormalizeReference({expected.view()});
    // Sum of squares, root and quotient: each a few roundings.
    x.ExpectNear(expected, 0, 16 * kRounding);
  }
}

TEST_P(NormalizeTest, WrongOperandsAreNamed) {
  GuardedTensor flat{7};
  ExpectInvalid(backend_->Normalize(*stream_, {flat.view()}),
                "Normalize: x is float32[7], expected float32 with 2 dimensions");
  EXPECT_TRUE(backend_->Normalize(*stream_, {{nullptr, DType::kFloat32, {0, 7}}}).ok());
}

INSTANTIATE_TEST_SUITE_P(Devices, NormalizeTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand
