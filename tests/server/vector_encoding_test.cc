#include "server/vector_encoding.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace bertrand {
namespace {

// The value of a binary16, by its definition.
double FromFloat16(uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  const double sign = half & 0x8000 ? -1 : 1;
  if (exponent == 31) return fraction != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(Float16, EveryValueComesBack) {
  for (uint32_t half = 0; half < 65536; ++half) {
    const double value = FromFloat16(static_cast<uint16_t>(half));
    const uint16_t back = ToFloat16(static_cast<float>(value));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FromFloat16(back)));
    } else {
      EXPECT_EQ(back, half);
    }
  }
}

TEST(Float16, RoundsToNearestTiesToEven) {
  // Halfway between each pair of neighbours, and a little to both sides.
  for (uint32_t half = 0; half < 0x7BFF; ++half) {
    const auto low = static_cast<uint16_t>(half), high = static_cast<uint16_t>(half + 1);
    const auto middle = static_cast<float>((FromFloat16(low) + FromFloat16(high)) / 2);
    EXPECT_EQ(ToFloat16(middle), half % 2 == 0 ? low : high);
    EXPECT_EQ(ToFloat16(std::nextafter(middle, 0.0f)), low);
    EXPECT_EQ(ToFloat16(std::nextafter(middle, 1e9f)), high);
  }
  EXPECT_EQ(ToFloat16(65519.99f), 0x7BFF);
  EXPECT_EQ(ToFloat16(65520.0f), 0x7C00);
  EXPECT_EQ(ToFloat16(-1e30f), 0xFC00);
  EXPECT_EQ(ToFloat16(-0.0f), 0x8000);
}

TEST(BFloat16, RoundsToNearestTiesToEven) {
  EXPECT_EQ(ToBFloat16(1.0f), 0x3F80);
  EXPECT_EQ(ToBFloat16(std::bit_cast<float>(0x3F808000U)), 0x3F80);
  EXPECT_EQ(ToBFloat16(std::bit_cast<float>(0x3F818000U)), 0x3F82);
  EXPECT_EQ(ToBFloat16(std::bit_cast<float>(0x3F808001U)), 0x3F81);
  EXPECT_EQ(ToBFloat16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_TRUE(std::isnan(std::bit_cast<float>(static_cast<uint32_t>(ToBFloat16(NAN)) << 16)));
}

TEST(AppendRow, Int8IsSymmetric) {
  std::string bytes;
  std::vector<float> scales;
  const float row[] = {2.54f, -2.54f, 0.02f, 0.0f, 1.27f};
  AppendRow(VectorType::kInt8, row, &bytes, &scales);
  ASSERT_EQ(scales.size(), 1U);
  EXPECT_FLOAT_EQ(scales[0], 0.02f);
  const int expected[] = {127, -127, 1, 0, 64};  // 63.5 to even
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(static_cast<int8_t>(bytes[i]), expected[i], i == 4);
  const float zeros[] = {0, 0};
  AppendRow(VectorType::kInt8, zeros, &bytes, &scales);
  EXPECT_EQ(scales[1], 0);
  EXPECT_EQ(bytes[5], 0);
  // A subnormal row must not leave the range.
  const float tiny[] = {1e-44f, -1e-44f};
  AppendRow(VectorType::kInt8, tiny, &bytes, &scales);
  EXPECT_GE(static_cast<int8_t>(bytes[8]), -127);
}

TEST(AppendRow, BinaryHasTheMostSignificantBitFirst) {
  std::string bytes;
  std::vector<float> scales;
  const float row[] = {1, -1, 0, 2, -0.0f, 0.5f, 0.1f, -3, 7};
  AppendRow(VectorType::kBinary, row, &bytes, &scales);
  ASSERT_EQ(bytes.size(), EncodedRowBytes(VectorType::kBinary, 9));
  EXPECT_EQ(static_cast<uint8_t>(bytes[0]), 0b10010110);
  EXPECT_EQ(static_cast<uint8_t>(bytes[1]), 0b10000000);
  EXPECT_TRUE(scales.empty());
}

TEST(AppendRow, Float32IsLittleEndian) {
  std::string bytes;
  std::vector<float> scales;
  const float row[] = {1.0f, -2.5f};
  AppendRow(VectorType::kFloat32, row, &bytes, &scales);
  ASSERT_EQ(bytes.size(), 8U);
  EXPECT_EQ(bytes.substr(0, 4), std::string("\0\0\x80\x3f", 4));
}

TEST(CutRow, NormalisesWhatIsLeft) {
  float row[] = {3, 4, 12};
  const auto cut = CutRow(row, 2, true);
  ASSERT_EQ(cut.size(), 2U);
  EXPECT_FLOAT_EQ(cut[0], 0.6f);
  EXPECT_FLOAT_EQ(cut[1], 0.8f);
  float zeros[] = {0, 0, 1};
  EXPECT_EQ(CutRow(zeros, 2, true)[0], 0);
  float plain[] = {3, 4};
  EXPECT_EQ(CutRow(plain, 1, false)[0], 3);
}

}  // namespace
}  // namespace bertrand
