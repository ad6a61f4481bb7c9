#include <gtest/gtest.h>

#include <numeric>

#include "kernels/cpu/score_kernels.h"
#include "kernels/scores/scores_reference.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

class GatherTest : public DeviceTest {};

TEST_P(GatherTest, MatchesReference) {
  for (const int64_t width : {1, 7, 64, 385}) {
    GuardedTensor x{20, width}, y{6, width + 5}, expected{6, width + 5};
    x.Randomize(random_);
    std::vector<int32_t> rows = {19, 0, 3, 3, 7, 19};
    for (size_t i = 0; i < y.size(); ++i) y[i] = expected[i] = 9;
    ASSERT_TRUE(backend_->Gather(*stream_, {x.view(), IntView(rows), 2, y.view()}).ok());
    GatherReference({x.view(), IntView(rows), 2, expected.view()});
    y.ExpectNear(expected, 0, 0);
    EXPECT_EQ(y[1], 9);
    EXPECT_EQ(y[2], x[static_cast<size_t>(19 * width)]);
    EXPECT_EQ(y[static_cast<size_t>(width) + 2], 9);
  }
}

TEST_P(GatherTest, WrongOperandsAreNamed) {
  GuardedTensor x{3, 4}, y{2, 4};
  std::vector<int32_t> one = {0}, two = {0, 1};
  ExpectInvalid(backend_->Gather(*stream_, {x.view(), IntView(one), 0, y.view()}),
                "Gather: rows is int32[1], expected int32[2]");
  ExpectInvalid(backend_->Gather(*stream_, {x.view(), IntView(two), 1, y.view()}),
                "Gather: columns 1 to 5 of y");
  std::vector<int32_t> none;
  EXPECT_TRUE(
      backend_
          ->Gather(*stream_,
                   {x.view(), {nullptr, DType::kInt32, {0}}, 0, {nullptr, DType::kFloat32, {0, 4}}})
          .ok());
}

INSTANTIATE_TEST_SUITE_P(Devices, GatherTest, testing::ValuesIn(DeviceCases()), CaseName);

class SoftmaxTest : public DeviceTest {};

// An exponential of x has a relative error of 2 roundings or so, and where there is no fused
// multiply-add |x| / 2 more from the reduction by multiples of ln 2, |x| at most 40 here; a sum of
// n of them adds sqrt(n) roundings at most, of values that are far smaller than it.
TEST_P(SoftmaxTest, MatchesReference) {
  for (const int64_t width : {1, 3, 8, 33, 1000, 30522}) {
    GuardedTensor x{3, width};
    x.Randomize(random_, 20);
    for (int64_t j = 0; j < width; ++j) x[static_cast<size_t>(width + j)] += 3e4f;  // far from 0
    x[static_cast<size_t>(2 * width)] = -std::numeric_limits<float>::max();
    GuardedTensor expected = x;
    ASSERT_TRUE(backend_->Softmax(*stream_, {x.view()}).ok());
    SoftmaxReference({expected.view()});
    // Values below e^-87 are as good as 0.
    x.ExpectNear(expected, 1e-37, 96 * kRounding);
  }
}

TEST_P(SoftmaxTest, NanStaysNan) {
  GuardedTensor x{1, 40};
  x.Randomize(random_);
  x[17] = std::nanf("");
  ASSERT_TRUE(backend_->Softmax(*stream_, {x.view()}).ok());
  EXPECT_TRUE(std::isnan(x[17]));
}

INSTANTIATE_TEST_SUITE_P(Devices, SoftmaxTest, testing::ValuesIn(DeviceCases()), CaseName);

class TopKTest : public DeviceTest {};

TEST_P(TopKTest, MatchesReference) {
  for (const int64_t width : {1, 2, 9, 500}) {
    for (const int64_t k : {int64_t{1}, std::min<int64_t>(5, width), width}) {
      GuardedTensor x{4, width}, values{4, k}, expected{4, k};
      x.Randomize(random_);
      // Ties, whose order is that of the columns.
      for (size_t i = 0; i < x.size(); ++i) x[i] = std::round(8 * x[i]);
      std::vector<int32_t> indices(static_cast<size_t>(4 * k)), expected_indices(indices);
      const auto view = [k](std::vector<int32_t>& of) {
        return TensorView(of.data(), DType::kInt32, {4, k});
      };
      ASSERT_TRUE(backend_->TopK(*stream_, {x.view(), {}, values.view(), view(indices)}).ok());
      TopKReference({x.view(), {}, expected.view(), view(expected_indices)});
      values.ExpectNear(expected, 0, 0);
      EXPECT_EQ(indices, expected_indices);
    }
  }
}

TEST_P(TopKTest, OfChosenColumns) {
  GuardedTensor x{2, 6}, values{2, 3};
  const float rows[] = {5, 1, 4, 4, 0, 9, 1, 2, 3, 3, 5, 6};
  for (size_t i = 0; i < 12; ++i) x[i] = rows[i];
  std::vector<int32_t> columns = {3, 0, 2, 4}, indices(6);
  const TensorView indices_view(indices.data(), DType::kInt32, {2, 3});
  ASSERT_TRUE(
      backend_->TopK(*stream_, {x.view(), IntView(columns), values.view(), indices_view}).ok());
  EXPECT_EQ(indices, (std::vector<int32_t>{0, 3, 2, 4, 3, 2}));
  EXPECT_EQ(values[0], 5);
  EXPECT_EQ(values[3], 5);
}

TEST_P(TopKTest, WrongOperandsAreNamed) {
  GuardedTensor x{2, 6}, values{2, 7};
  std::vector<int32_t> indices(14);
  ExpectInvalid(
      backend_->TopK(*stream_,
                     {x.view(), {}, values.view(), {indices.data(), DType::kInt32, {2, 7}}}),
      "TopK: 7 of 6 values");
  ExpectInvalid(
      backend_->TopK(*stream_,
                     {x.view(), {}, values.view(), {indices.data(), DType::kInt32, {2, 6}}}),
      "TopK: indices is int32[2,6], expected int32[2,7]");
}

INSTANTIATE_TEST_SUITE_P(Devices, TopKTest, testing::ValuesIn(DeviceCases()), CaseName);

class SparsePoolTest : public DeviceTest {};

TEST_P(SparsePoolTest, MatchesReference) {
  for (const int64_t width : {1, 17, 512, 1300}) {
    for (const bool sum : {false, true}) {
      for (const bool twice : {false, true}) {
        GuardedTensor first{5, width}, second{1, width}, y{width}, expected{width};
        first.Randomize(random_, 4);
        second.Randomize(random_, 4);
        for (size_t i = 0; i < y.size(); ++i) expected[i] = 0;
        ASSERT_TRUE(backend_->Clear(*stream_, y.view()).ok());
        // In two parts, as a sequence is cut by the room there is.
        for (GuardedTensor* x : {&first, &second}) {
          ASSERT_TRUE(backend_->SparsePool(*stream_, {x->view(), sum, twice, y.view()}).ok());
          SparsePoolReference({x->view(), sum, twice, expected.view()});
        }
        y.ExpectNear(expected, 1e-7, 16 * kRounding);
      }
    }
  }
}

TEST_P(SparsePoolTest, WrongOperandsAreNamed) {
  GuardedTensor x{2, 6}, y{7};
  ExpectInvalid(backend_->SparsePool(*stream_, {x.view(), false, false, y.view()}),
                "SparsePool: y is float32[7], expected float32[6]");
}

INSTANTIATE_TEST_SUITE_P(Devices, SparsePoolTest, testing::ValuesIn(DeviceCases()), CaseName);

class CopyToHostTest : public DeviceTest {};

TEST_P(CopyToHostTest, Integers) {
  std::vector<int32_t> from = {3, -1, 7}, to(3);
  ASSERT_TRUE(backend_->CopyToHost(*stream_, IntView(from), std::span<int32_t>(to)).ok());
  ASSERT_TRUE(backend_->Synchronize(*stream_).ok());
  EXPECT_EQ(to, from);
  ExpectInvalid(backend_->CopyToHost(*stream_, IntView(from), std::span<int32_t>(to).first(2)),
                "CopyToHost: source is int32[3], expected int32 with 2 elements");
}

INSTANTIATE_TEST_SUITE_P(Devices, CopyToHostTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand
