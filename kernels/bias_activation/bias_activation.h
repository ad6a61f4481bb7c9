#pragma once

// y = activation(x + bias) + residual, for what a library's GEMM epilogue cannot do (erf GELU above
// all: cuBLASLt's GELU is the tanh one).
// Shapes: x, residual (optional), y [m, n]; bias [n] (optional). Row-major.
// Types: all equal: f16 | bf16 | f32; or y float8 (e4m3), the others equal, f16 | bf16: y is then
//   the result divided by y_scale, float32 [1] in device memory, saturating at 448.
// Requires: any m and n; where rows are multiples of 16 bytes (only those are fast) operands are
//   aligned to 16. y in float8: n % 8 == 0.
// Aliasing: y may equal x, residual or both, in float8 none. m == 0 does nothing.
// Numerics: in float before one rounding, PyTorch's formulas (activation.cuh).
// Cost: reads x and residual, writes y; memory-bound.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`; any thread, a stream one.

#include <absl/status/status.h>

#include "kernels/backend.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

struct BiasActivationParams {
  TensorView x, bias;
  Activation activation = Activation::kNone;
  TensorView residual;
  TensorView y;
  TensorView y_scale;
};

absl::Status BiasActivation(const BiasActivationParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
