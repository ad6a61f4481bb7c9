#include <limits>

#include "kernels/gpu/copy.h"
#include "kernels/gpu/copy_reference.h"
#include "tests/kernels/row_kernel_fixture.h"

namespace bertrand {
namespace {

class CopyKernelTest : public RowKernelTest {};

TEST_F(CopyKernelTest, ConvertsBothWays) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t count : {1, 7, 8, 9, 2047, 2048, 2049, 4100}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << count);
      // Of all magnitudes: subnormal and too large ones too.
      std::vector<float> values = Random(count, 1, DType::kFloat32), rounded;
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = std::ldexp(values[i], static_cast<int>(i % 60) - 40);
        rounded.push_back(static_cast<float>(ConvertReference(dtype, values[i])));
      }
      const DeviceTensor from = Upload(values, DType::kFloat32, {count});
      DeviceTensor narrow, back;
      const auto run = [&]() -> absl::Status {
        narrow = Empty(dtype, {count});
        back = Empty(DType::kFloat32, {count});
        BERTRAND_RETURN_IF_ERROR(gpu::Convert(from.view, narrow.view, *stream_));
        return gpu::Convert(narrow.view, back.view, *stream_);
      };
      EXPECT_EQ(UnderEveryOrder(run, [&] { return Read(narrow.view); }), rounded);
      EXPECT_EQ(Read(back.view), rounded);
      if (count == 2048) ExpectIdealSectors(run);
    }
  }
}

TEST_F(CopyKernelTest, ValuesOutOfRangeBecomeInfinite) {
  // 65519 is nearer to the largest value, 65520 half way to what would be the next.
  const DeviceTensor from = Upload({65519, 65520, -1e30f, 0}, DType::kFloat32, {4}),
                     to = Empty(DType::kFloat16, {4});
  ASSERT_TRUE(gpu::Convert(from.view, to.view, *stream_).ok());
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Read(to.view), (std::vector<float>{65504, infinity, -infinity, 0}));
}

// Every value of e4m3 comes back; what lies between goes to the nearest, the even one of two, and
// beyond the largest to it.
TEST_F(CopyKernelTest, Float8) {
  constexpr float kScale = 0.25f;
  std::vector<float> values;
  for (int bits = 0; bits < 256; ++bits) {
    if ((bits & 0x7f) == 0x7f) continue;  // NaN
    values.push_back(kScale * ToHostFloat(simt::Float8{static_cast<uint8_t>(bits)}));
  }
  const size_t num_exact = values.size();
  // 1 and 1.125 are neighbours, 448 the largest, 2^-9 the smallest.
  for (const float value : {1.0624f, 1.0625f, 1.0626f, 1.1875f, 449.0f, -1e30f, 0x1.8p-10f}) {
    values.push_back(kScale * value);
  }
  std::vector<float> expected(values.begin(), values.begin() + static_cast<long>(num_exact));
  for (const float value : {1.0f, 1.0f, 1.125f, 1.25f, 448.0f, -448.0f, 0x1p-9f}) {
    expected.push_back(kScale * value);
  }
  const auto count = static_cast<int64_t>(values.size());
  const DeviceTensor from = Upload(values, DType::kFloat32, {count});
  DeviceTensor back;
  const auto run = [&]() -> absl::Status {
    const DeviceTensor narrow = Empty(DType::kFloat8, {count});
    back = Empty(DType::kFloat32, {count});
    BERTRAND_RETURN_IF_ERROR(gpu::Convert(from.view, narrow.view, *stream_, kScale));
    return gpu::Convert(narrow.view, back.view, *stream_, kScale);
  };
  EXPECT_EQ(UnderEveryOrder(run, [&] { return Read(back.view); }), expected);
}

TEST_F(CopyKernelTest, MismatchesAreRefused) {
  const DeviceTensor half = Empty(DType::kFloat16, {8}), other = Empty(DType::kBFloat16, {8}),
                     floats = Empty(DType::kFloat32, {9});
  EXPECT_EQ(gpu::Convert(half.view, other.view, *stream_).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(gpu::Convert(half.view, floats.view, *stream_).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(CopyKernelTest, FindsWhatIsNotFinite) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t count : {1, 9, 3000}) {
      for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity(), 65504.0f}) {
        for (const int64_t place : {int64_t{0}, count / 2, count - 1}) {
          std::vector<float> values = Random(count, 1, dtype);
          values[static_cast<size_t>(place)] = bad;
          const DeviceTensor x = Upload(values, dtype, {count});
          const DeviceTensor flag = Upload(std::vector<int32_t>{0});
          ASSERT_TRUE(gpu::CheckFinite(x.view, flag.view, *stream_).ok());
          EXPECT_EQ(ReadInts(flag.view)[0], std::isfinite(bad) ? 0 : 1)
              << Name(dtype) << ' ' << bad << " at " << place << " of " << count;
        }
      }
    }
  }
}

}  // namespace
}  // namespace bertrand
