#include "kernels/gpu/copy_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bertrand {

double ConvertReference(DType dtype, double value) {
  if (!std::isfinite(value) || value == 0) return value;
  // Digits of the significand, and the exponents of the smallest normal and the first too large
  // value.
  int digits = 24, smallest = -126, too_large = 128;
  if (dtype == DType::kFloat16) digits = 11, smallest = -14, too_large = 16;
  if (dtype == DType::kBFloat16) digits = 8;
  const int exponent = std::max(std::ilogb(value), smallest);
  const double step = std::ldexp(1.0, exponent - digits + 1);
  const double rounded = std::nearbyint(value / step) * step;
  if (std::abs(rounded) < std::ldexp(1.0, too_large)) return rounded;
  return std::copysign(std::numeric_limits<double>::infinity(), value);
}

}  // namespace bertrand
