#pragma once

// y = activation(x W^T + bias) + residual for the few outputs of a classifier.
// Shapes: x [M, K]; weight [N, K]; bias [N], residual [M, N] optional; y [M, N]. Row-major.
// Types: all equal: f16 | bf16 | f32.
// Requires: 1 <= N <= 16; N * K < 2^31.
// Aliasing: y may equal residual, not x. M == 0 does nothing.
// Numerics: float accumulation; bias, activation and residual in float before one rounding. A row's
//   result does not depend on the other rows.
// Cost: reads x once; W comes from the first-level cache once for two rows. Memory-bound up to
// about
//   N = 9, then bound by that cache.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>

#include "kernels/backend.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

inline constexpr int64_t kGemvOutputsMax = 16;

struct GemvParams {
  TensorView x, weight, bias;
  Activation activation = Activation::kNone;
  TensorView residual;
  TensorView y;
};

absl::Status Gemv(const GemvParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
