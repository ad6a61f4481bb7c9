#pragma once

// y = LayerNorm(x + bias + residual) * gamma + beta, row by row; a second output in FP8 if asked
// for.
// Shapes: x, residual, y, y8 [rows, hidden]; bias, gamma, beta [hidden]. Row-major. num_rows int32
//   [1] in device memory: rows from it on are padding. y8_scale float32 [1]. In place of x there
//   may be splits [n, rows, hidden], whose sum over n, in order, x is.
// Types: x, residual, bias, gamma, beta, y equal: float16 | bfloat16 | float32; y8 float8; splits
//   float32, the others 16-bit then.
// Optional: residual, bias, num_rows (all rows), y8 with y8_scale.
// Requires: hidden >= 1; where true_hidden < hidden, columns from true_hidden on are 0 in x,
//   residual, bias, gamma and beta. With y8: hidden % 8 == 0, hidden <= 4096, tensors 16-byte
//   aligned; only those are fast without it too.
// Aliasing: y may equal x or residual. rows == 0 does nothing.
// Numerics: sums and statistics in float, variance by a second pass, divided by true_hidden; eps
//   inside the root; y8 is y before its rounding, divided by y8_scale, saturating at 448. Error <=
//   2x that of summing in the tensors' type (transformers' order). Padding, rows and columns,
//   becomes 0.
// Cost: reads x and residual once, writes y once; memory-bound. A warp a row up to hidden 1024, a
//   block a row beyond, and of splits, which come from few rows.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>

#include "kernels/simt/runtime.h"
#include "kernels/tensor.h"

namespace bertrand::gpu::inline SIMT_TARGET {

struct LayerNormParams {
  TensorView x, residual, bias;
  TensorView gamma, beta;
  float eps = 0;
  int64_t true_hidden = 0;  // 0: hidden
  TensorView num_rows;
  TensorView y;
  TensorView y8, y8_scale;
  TensorView splits;
};

// Whether operands but x suit splits: 16-bit types, hidden % 8 == 0, hidden <= 4096, aligned to 16
// bytes.
bool LayerNormTakesSplits(const LayerNormParams& params);

absl::Status LayerNorm(const LayerNormParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
