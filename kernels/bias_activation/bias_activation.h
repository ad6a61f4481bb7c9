#pragma once

// y = activation(x + bias) + residual, for what a library's GEMM epilogue cannot do (erf GELU above
// all: cuBLASLt's GELU is the tanh one).
// Shapes: x, residual (optional), y [m, n]; bias [n] (optional). Row-major.
// Types: all equal: f16 | bf16 | f32.
// Requires: m * n < 2^31 * 256 * 8; any n (rows of 16-byte multiples are fast), and then operands
//   aligned to 16 bytes.
// Aliasing: y may equal x, residual or both. m == 0 does nothing.
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
};

absl::Status BiasActivation(simt::Stream& stream, const BiasActivationParams& params);

}  // namespace bertrand::gpu::inline SIMT_TARGET
