#include <algorithm>
#include <limits>

#include "kernels/scores/scores.h"
#include "kernels/scores/scores_reference.h"
#include "tests/kernels/row_kernel_fixture.h"

namespace bertrand {
namespace {

class SoftmaxKernelTest : public RowKernelTest {
 protected:
  absl::Status Softmax(const TensorView& x) {
    auto workspace = device_->Allocate(gpu::SoftmaxWorkspaceBytes(x.dim(0), x.dim(1)) + 1);
    BERTRAND_CHECK(workspace.ok(), Message(workspace.status()));
    return gpu::Softmax({x}, workspace->data(), *stream_);
  }
};

// The difference to the maximum, at most 40, is off by half a unit in its last place: 32 roundings
// of the exponential; it and the division have a few more, a sum of n of them at most sqrt(n), of
// values that are far smaller than it.
TEST_F(SoftmaxKernelTest, MatchesReference) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t width : {1, 2, 3, 8, 33, 1000, 1024, 1025, 2048, 2049, 4096, 4098, 7001}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << width);
      std::vector<float> x = Random(3 * width, 20, dtype);
      for (int64_t j = 0; j < width; ++j) {  // far from 0
        float& value = x[static_cast<size_t>(width + j)];
        value = RoundTo(dtype, value + 3e4f);
      }
      x[static_cast<size_t>(2 * width)] =
          dtype == DType::kFloat16 ? -65504 : RoundTo(dtype, -3.3e38f);
      std::vector<float> expected = x;
      SoftmaxReference({HostView(expected, {3, width})});
      DeviceTensor y = Empty(dtype, {3, width});
      const auto run = [&] {
        Write(x, y.view);
        return Softmax(y.view);
      };
      // f16 is subnormal below 2^-14, in steps of 2^-24.
      ExpectClose(UnderEveryOrder(run, [&] { return Read(y.view); }), expected,
                  dtype == DType::kFloat16 ? 0x1p-25 : 1e-37, RoundingOf(dtype) + 48 * 0x1p-24);
      if (width % 256 == 0) ExpectIdealSectors(run);
    }
  }
}

// Rows that begin anywhere still take at most a sector more a request.
TEST_F(SoftmaxKernelTest, UnalignedRowsReadWholeSectors) {
  for (const int64_t width : {3001, 3002}) {
    const DeviceTensor x =
        Upload(Random(2 * width, 5, DType::kFloat16), DType::kFloat16, {2, width});
    ExpectIdealSectors([&] { return Softmax(x.view); }, 1);
  }
}

// A row's result is the same bit by bit wherever it stands.
TEST_F(SoftmaxKernelTest, DoesNotDependOnTheBatch) {
  for (const int64_t width : {31, 3001}) {
    const std::vector<float> row = Random(width, 5, DType::kFloat32);
    std::vector<float> rows = Random(2 * width, 5, DType::kFloat32);
    rows.insert(rows.end(), row.begin(), row.end());
    const DeviceTensor one = Upload(row, DType::kFloat32, {1, width}),
                       three = Upload(rows, DType::kFloat32, {3, width});
    ASSERT_TRUE(Softmax(one.view).ok());
    ASSERT_TRUE(Softmax(three.view).ok());
    const std::vector<float> all = Read(three.view);
    EXPECT_EQ(Read(one.view), std::vector<float>(all.begin() + 2 * width, all.end()));
  }
}

TEST_F(SoftmaxKernelTest, NanMakesItsRowNan) {
  for (const int64_t width : {40, 3000}) {
    std::vector<float> x = Random(2 * width, 1, DType::kFloat16);
    x[17] = std::nanf("");
    const DeviceTensor y = Upload(x, DType::kFloat16, {2, width});
    ASSERT_TRUE(Softmax(y.view).ok());
    const std::vector<float> result = Read(y.view);
    for (int64_t j = 0; j < width; ++j) EXPECT_TRUE(std::isnan(result[static_cast<size_t>(j)]));
    EXPECT_FALSE(std::isnan(result[static_cast<size_t>(width)]));
  }
}

class TopKKernelTest : public RowKernelTest {
 protected:
  struct Answer {
    std::vector<float> values;
    std::vector<int32_t> indices;
  };

  Answer Reference(std::vector<float>& x, int64_t rows, std::vector<int32_t> columns, int64_t k) {
    Answer answer{std::vector<float>(static_cast<size_t>(rows * k)),
                  std::vector<int32_t>(static_cast<size_t>(rows * k))};
    const auto width = static_cast<int64_t>(x.size()) / rows;
    TopKReference({HostView(x, {rows, width}),
                   columns.empty() ? TensorView() : HostView(columns),
                   HostView(answer.values, {rows, k}),
                   {answer.indices.data(), DType::kInt32, {rows, k}}});
    return answer;
  }

  void Check(DType dtype, std::vector<float> x, int64_t rows, std::vector<int32_t> columns,
             int64_t k) {
    const auto width = static_cast<int64_t>(x.size()) / rows;
    SCOPED_TRACE(testing::Message() << Name(dtype) << " the " << k << " largest of " << width);
    for (float& value : x) value = RoundTo(dtype, value);
    const Answer expected = Reference(x, rows, columns, k);
    const DeviceTensor d_x = Upload(x, dtype, {rows, width});
    DeviceTensor d_columns, values, indices;
    if (!columns.empty()) d_columns = Upload(columns);
    const auto run = [&] {
      values = Empty(dtype, {rows, k});
      indices = Empty(DType::kInt32, {rows, k});
      return gpu::TopK({d_x.view, d_columns.view, values.view, indices.view}, *stream_);
    };
    EXPECT_EQ(UnderEveryOrder(run, [&] { return Read(values.view); }), expected.values);
    EXPECT_EQ(ReadInts(indices.view), expected.indices);
  }
};

TEST_F(TopKKernelTest, MatchesReference) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t width : {1, 2, 9, 500, 1000, 3001}) {
      for (const int64_t k :
           {int64_t{1}, std::min<int64_t>(5, width), std::min<int64_t>(300, width)}) {
        Check(dtype, Random(2 * width, 1, dtype), 2, {}, k);
      }
    }
  }
}

// Equal values, whose order is that of the columns: few different ones, all the same, both zeros.
TEST_F(TopKKernelTest, Ties) {
  std::vector<float> x = Random(2 * 500, 1, DType::kFloat32);
  for (float& value : x) value = std::round(8 * value);
  Check(DType::kFloat16, x, 2, {}, 500);
  Check(DType::kFloat16, std::vector<float>(4000, 0.5f), 1, {}, 300);
  std::vector<float> zeros(1500, 0.0f);
  for (size_t i = 0; i < zeros.size(); i += 3) zeros[i] = -0.0f;
  Check(DType::kFloat32, zeros, 1, {}, 20);
}

// All large values in one thread's columns: more of them than the rest's largest leave room for.
TEST_F(TopKKernelTest, LargeValuesOfOneThread) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
    const int64_t stride = 512 * 16 / static_cast<int64_t>(SizeOf(dtype));
    std::vector<float> x(static_cast<size_t>(stride * 8));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 97) / 97;
    for (size_t i = 0; i < x.size(); i += static_cast<size_t>(stride))
      x[i] = 2 + static_cast<float>(i % 7);
    Check(dtype, x, 1, {}, 40);
  }
  // Two threads have something: the first threshold lets all keys pass.
  std::vector<float> x(512 * 700, -1);
  for (size_t i = 0; i < 700; ++i) x[512 * i] = static_cast<float>(i % 50), x[512 * i + 1] = 3;
  std::vector<int32_t> columns(x.size());
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<int32_t>(i);
  const DeviceTensor d_x = Upload(x, DType::kFloat32, {1, 512 * 700}), d_columns = Upload(columns);
  const DeviceTensor values = Empty(DType::kFloat32, {1, 200}),
                     indices = Empty(DType::kInt32, {1, 200});
  ASSERT_TRUE(gpu::TopK({d_x.view, d_columns.view, values.view, indices.view}, *stream_).ok());
  const Answer expected = Reference(x, 1, {}, 200);
  EXPECT_EQ(Read(values.view), expected.values);
  EXPECT_EQ(ReadInts(indices.view), expected.indices);
}

TEST_F(TopKKernelTest, NotANumberComesLast) {
  std::vector<float> x = {1, std::nanf(""), 3, -std::numeric_limits<float>::infinity()};
  const DeviceTensor d_x = Upload(x, DType::kFloat32, {1, 4});
  const DeviceTensor values = Empty(DType::kFloat32, {1, 4}),
                     indices = Empty(DType::kInt32, {1, 4});
  ASSERT_TRUE(gpu::TopK({d_x.view, {}, values.view, indices.view}, *stream_).ok());
  EXPECT_EQ(ReadInts(indices.view), (std::vector<int32_t>{2, 0, 3, 1}));
  EXPECT_TRUE(std::isnan(Read(values.view)[3]));
}

TEST_F(TopKKernelTest, OfChosenColumns) {
  Check(DType::kFloat16, {5, 1, 4, 4, 0, 9, 1, 2, 3, 3, 5, 6}, 2, {3, 0, 2, 4}, 3);
  std::vector<int32_t> columns;
  for (int32_t column = 900; column > 100; column -= 3) columns.push_back(column);
  Check(DType::kFloat16, Random(3 * 1000, 1, DType::kFloat16), 3, columns, 10);
}

class SparsePoolKernelTest : public RowKernelTest {};

TEST_F(SparsePoolKernelTest, MatchesReference) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t width : {1, 17, 64, 130, 512}) {
      for (const bool sum : {false, true}) {
        for (const bool twice : {false, true}) {
          SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << width << ' ' << sum << twice);
          std::vector<float> first = Random(21 * width, 4, dtype), second = Random(width, 4, dtype);
          std::vector<float> expected(static_cast<size_t>(width), 0);
          const DeviceTensor d_first = Upload(first, dtype, {21, width}),
                             d_second = Upload(second, dtype, {1, width});
          SparsePoolReference(
              {HostView(first, {21, width}), sum, twice, HostView(expected, {width})});
          for (float& value : expected) value = RoundTo(dtype, value);
          SparsePoolReference(
              {HostView(second, {1, width}), sum, twice, HostView(expected, {width})});
          DeviceTensor y = Empty(dtype, {width});
          const auto run = [&]() -> absl::Status {
            // In two parts, as a sequence is cut by the room there is.
            Write(std::vector<float>(expected.size(), 0), y.view);
            BERTRAND_RETURN_IF_ERROR(gpu::SparsePool({d_first.view, sum, twice, y.view}, *stream_));
            return gpu::SparsePool({d_second.view, sum, twice, y.view}, *stream_);
          };
          // A result is rounded twice, after each part.
          ExpectClose(UnderEveryOrder(run, [&] { return Read(y.view); }), expected, 1e-7,
                      2 * RoundingOf(dtype) + 16 * 0x1p-24);
          if (width % 64 == 0) ExpectIdealSectors(run);
        }
      }
    }
  }
}

TEST_F(SparsePoolKernelTest, NanStaysNan) {
  for (const bool sum : {false, true}) {
    std::vector<float> x = Random(20 * 64, 1, DType::kFloat16);
    x[3] = x[64 * 9 + 4] = x[64 * 19 + 5] = std::nanf("");
    const DeviceTensor d_x = Upload(x, DType::kFloat16, {20, 64});
    const DeviceTensor y = Upload(std::vector<float>(64, 0), DType::kFloat16, {64});
    ASSERT_TRUE(gpu::SparsePool({d_x.view, sum, false, y.view}, *stream_).ok());
    const std::vector<float> result = Read(y.view);
    for (size_t j = 0; j < 64; ++j) EXPECT_EQ(std::isnan(result[j]), j >= 3 && j <= 5) << j;
  }
}

}  // namespace
}  // namespace bertrand
