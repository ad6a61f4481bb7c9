#pragma once

// What Convert (copy.h) makes of a value, from the formats' definitions: exponents and nearest
// multiples in float64, no bits.

#include "kernels/tensor.h"

namespace bertrand {

// The value of the type that is nearest to `value`, of two the even one; infinity beyond its range.
// Requires: a floating type of 32 or 16 bits.
double ConvertReference(DType dtype, double value);

}  // namespace bertrand
