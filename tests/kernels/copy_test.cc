#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/gpu/copy_reference.h"

namespace bertrand {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// From IEEE 754's binary16: 11 digits, normal from 2^-14, subnormal in steps of 2^-24.
TEST(ConvertReferenceTest, Float16) {
  const auto to_half = [](double value) { return ConvertReference(DType::kFloat16, value); };
  EXPECT_EQ(to_half(1 + 0x1p-11), 1);           // half way: to the even one
  EXPECT_EQ(to_half(1 + 0x3p-11), 1 + 0x1p-9);  // and upwards
  EXPECT_EQ(to_half(1 + 0x1.1p-11), 1 + 0x1p-10);
  EXPECT_EQ(to_half(-0.1), -0x1.998p-4);
  EXPECT_EQ(to_half(2049), 2048);
  EXPECT_EQ(to_half(65519.9), 65504);
  EXPECT_EQ(to_half(65520), kInfinity);
  EXPECT_EQ(to_half(-1e9), -kInfinity);
  EXPECT_EQ(to_half(0x1.8p-24), 0x1p-23);  // subnormal
  EXPECT_EQ(to_half(0x1p-25), 0);
  EXPECT_EQ(to_half(0x1.1p-25), 0x1p-24);
  EXPECT_TRUE(std::signbit(to_half(-0.0)));
  EXPECT_TRUE(std::isnan(to_half(std::nan(""))));
}

// float32's exponents with 8 digits.
TEST(ConvertReferenceTest, BFloat16) {
  const auto to_bfloat = [](double value) { return ConvertReference(DType::kBFloat16, value); };
  EXPECT_EQ(to_bfloat(1 + 0x1p-8), 1);
  EXPECT_EQ(to_bfloat(1 + 0x3p-8), 1 + 0x1p-6);
  EXPECT_EQ(to_bfloat(65520), 65536);
  EXPECT_EQ(to_bfloat(0x1.fep127), 0x1.fep127);
  EXPECT_EQ(to_bfloat(0x1.ffp127), kInfinity);
  EXPECT_EQ(to_bfloat(0x1p-133), 0x1p-133);
  EXPECT_EQ(to_bfloat(0x1p-134), 0);
}

TEST(ConvertReferenceTest, Float32) {
  EXPECT_EQ(ConvertReference(DType::kFloat32, 0.1), double{0.1f});
  EXPECT_EQ(ConvertReference(DType::kFloat32, 1e39), kInfinity);
}

}  // namespace
}  // namespace bertrand
