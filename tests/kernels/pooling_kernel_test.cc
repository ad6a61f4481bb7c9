#include "kernels/pooling/pooling.h"
#include "kernels/pooling/pooling_reference.h"
#include "kernels/scores/scores_reference.h"
#include "tests/kernels/row_kernel_fixture.h"

namespace bertrand {
namespace {

constexpr PoolingMode kModes[] = {PoolingMode::kCls,          PoolingMode::kMean,
                                  PoolingMode::kMax,          PoolingMode::kMeanSqrtLen,
                                  PoolingMode::kWeightedMean, PoolingMode::kLastToken};

struct Ranges {
  std::vector<int32_t> begin, end, weight_begin;
};

class PoolKernelTest : public RowKernelTest {
 protected:
  // Pools x [tokens, width] into columns [column, column + width) of out, which has 9 elsewhere.
  std::vector<float> Pool(const DeviceTensor& x, Ranges& ranges, PoolingMode mode, int64_t column,
                          int64_t out_width, bool count_sectors = false) {
    const DType dtype = x.view.dtype();
    const auto rows = static_cast<int64_t>(ranges.begin.size());
    const DeviceTensor begin = Upload(ranges.begin), end = Upload(ranges.end),
                       weight_begin = Upload(ranges.weight_begin);
    DeviceTensor out = Empty(dtype, {rows, out_width});
    const auto run = [&] {
      Write(std::vector<float>(static_cast<size_t>(rows * out_width), 9), out.view);
      return gpu::Pool({x.view, begin.view, end.view, weight_begin.view, mode, column, out.view},
                       *stream_);
    };
    if (count_sectors) ExpectIdealSectors(run);
    return UnderEveryOrder(run, [&] { return Read(out.view); });
  }

  void Check(DType dtype, int64_t tokens, int64_t width, Ranges ranges, PoolingMode mode,
             int64_t column, int64_t out_width, double absolute) {
    SCOPED_TRACE(testing::Message() << Name(dtype) << " width " << width << ", mode "
                                    << static_cast<int>(mode) << ", column " << column);
    std::vector<float> x = Random(tokens * width, 1, dtype);
    const auto rows = static_cast<int64_t>(ranges.begin.size());
    std::vector<float> expected(static_cast<size_t>(rows * out_width), 9);
    PoolReference({HostView(x, {tokens, width}), HostView(ranges.begin), HostView(ranges.end),
                   HostView(ranges.weight_begin), mode, column,
                   HostView(expected, {rows, out_width})});
    const DeviceTensor device = Upload(x, dtype, {tokens, width});
    // Rows of whole sectors, or the last column's requests share sectors with the next row's.
    const bool aligned = width * static_cast<int64_t>(SizeOf(dtype)) % 32 == 0 &&
                         column % 16 == 0 && out_width % 16 == 0;
    ExpectClose(Pool(device, ranges, mode, column, out_width, aligned), expected, absolute,
                RoundingOf(dtype) * (1 + 1e-3));
  }
};

// A float sum over n rows has about sqrt(n) roundings of its partial sums, here of at most 18 (300
// values, mean_sqrt_len), in 32 threads.
TEST_F(PoolKernelTest, MatchesReference) {
  // The whole of a sequence, a part, one row, none, and the end.
  const Ranges ranges = {{0, 4, 7, 9, 10}, {300, 6, 8, 9, 320}, {0, 1, 2, 9, 5}};
  for (const DType dtype : kFloatTypes) {
    for (const PoolingMode mode : kModes) {
      Check(dtype, 320, 64, ranges, mode, 16, 96, 32 * 0x1p-24 * 18);
      Check(dtype, 320, 5, ranges, mode, 6, 15, 32 * 0x1p-24 * 18);
    }
  }
}

// Stripes and vectors of columns: widths around 128 bytes, columns that aren't aligned.
TEST_F(PoolKernelTest, EveryWidth) {
  const Ranges ranges = {{0, 3}, {3, 40}, {0, 3}};
  for (const DType dtype : kFloatTypes) {
    for (const int64_t width : {1, 8, 31, 32, 33, 40, 63, 64, 65, 72, 128, 384}) {
      for (const PoolingMode mode : {PoolingMode::kMean, PoolingMode::kCls}) {
        Check(dtype, 40, width, ranges, mode, 0, width, 32 * 0x1p-24);
        Check(dtype, 40, width, ranges, mode, 3, width + 4, 32 * 0x1p-24);
      }
    }
  }
}

// Rows of a block's 32: one less, all, one more, and every eighth step.
TEST_F(PoolKernelTest, EveryLength) {
  for (const int32_t length : {1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257}) {
    const Ranges ranges = {{3}, {3 + length}, {1}};
    for (const PoolingMode mode : kModes) {
      Check(DType::kFloat16, 3 + length, 64, ranges, mode, 0, 64, 32 * 0x1p-24 * 16);
    }
  }
}

// A sequence's result is the same bit by bit wherever it stands and whatever is beside it.
TEST_F(PoolKernelTest, DoesNotDependOnTheBatch) {
  const std::vector<float> x = Random(77 * 40, 1, DType::kFloat32);
  std::vector<float> shifted = Random(13 * 40, 1, DType::kFloat32);
  shifted.insert(shifted.end(), x.begin(), x.end());
  const DeviceTensor alone = Upload(x, DType::kFloat32, {77, 40}),
                     beside = Upload(shifted, DType::kFloat32, {90, 40});
  for (const PoolingMode mode : kModes) {
    Ranges one = {{0}, {77}, {0}}, two = {{0, 13}, {13, 90}, {0, 13}};
    const std::vector<float> first = Pool(alone, one, mode, 0, 40);
    const std::vector<float> both = Pool(beside, two, mode, 0, 40);
    EXPECT_EQ(first, std::vector<float>(both.begin() + 40, both.end()));
  }
}

TEST_F(PoolKernelTest, NoRowsDoNothing) {
  const DeviceTensor x = Upload(Random(6, 1, DType::kFloat16), DType::kFloat16, {3, 2});
  const TensorView none(nullptr, DType::kInt32, {0});
  for (const PoolingMode mode : kModes) {
    EXPECT_TRUE(
        gpu::Pool({x.view, none, none, none, mode, 0, {nullptr, DType::kFloat16, {0, 2}}}, *stream_)
            .ok());
  }
}

class NormalizeKernelTest : public RowKernelTest {};

TEST_F(NormalizeKernelTest, MatchesReference) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t width : {1, 3, 8, 31, 256, 264, 384, 1024, 1032}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << width);
      std::vector<float> x = Random(7 * width, 3, dtype);
      for (int64_t j = 0; j < width; ++j) x[static_cast<size_t>(width + j)] = 0;
      std::vector<float> expected = x;
      NormalizeReference({HostView(expected, {7, width})});
      DeviceTensor y = Empty(dtype, {7, width});
      const auto run = [&] {
        Write(x, y.view);
        return gpu::Normalize({y.view}, *stream_);
      };
      // A sum of 1024 squares in 32 lanes: 16 roundings; the root halves them; two more.
      ExpectClose(UnderEveryOrder(run, [&] { return Read(y.view); }), expected, 0x1p-25,
                  RoundingOf(dtype) + 16 * 0x1p-24);
      if (width % 32 == 0) ExpectIdealSectors(run);
    }
  }
}

class GatherKernelTest : public RowKernelTest {};

TEST_F(GatherKernelTest, MatchesReference) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t width : {1, 7, 64, 384}) {
      for (const int64_t column : {0, 2, 16}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << width << " at " << column);
        const int64_t y_width = width + 32;
        std::vector<float> x = Random(20 * width, 1, dtype);
        std::vector<int32_t> rows = {19, 0, 5, 5, 19};
        std::vector<float> expected(static_cast<size_t>(5 * y_width), 9);
        GatherReference(
            {HostView(x, {20, width}), HostView(rows), column, HostView(expected, {5, y_width})});
        const DeviceTensor d_x = Upload(x, dtype, {20, width}), d_rows = Upload(rows);
        DeviceTensor y = Empty(dtype, {5, y_width});
        const auto run = [&] {
          Write(std::vector<float>(expected.size(), 9), y.view);
          return gpu::Gather({d_x.view, d_rows.view, column, y.view}, *stream_);
        };
        EXPECT_EQ(UnderEveryOrder(run, [&] { return Read(y.view); }), expected);
        if (width % 64 == 0 && column % 16 == 0) ExpectIdealSectors(run);
      }
    }
  }
}

}  // namespace
}  // namespace bertrand
