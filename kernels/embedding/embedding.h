#pragma once

// EmbeddingParams' formula (kernels/backend.h) on the device.
// Types: tables, gamma, beta, y equal: f16 | bf16 | f32; ids int32; narrow float8 (e4m3), its scale
//   float32 [1] in device memory.
// Requires: what Backend::Embedding checks; width < 2^31; ids in range. With a second output: width
//   % 8 == 0, tensors 16-byte aligned.
// Aliasing: none. No tokens: nothing.
// Numerics: the rows' sum and all statistics in float, two-pass variance, one rounding at the end;
//   error <= 2x the naive low-precision result. FP8 is y before that rounding, divided by the
//   scale, saturating at 448. A token's result depends on nothing but its ids.
// Cost: reads each token's rows once, writes y once; memory-bound. A warp per token, the row in
//   registers up to 1024 columns in 16-byte accesses; wider rows are gathered three times, from the
//   caches; rows not aligned to 16 bytes value by value.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>

#include "kernels/backend.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

absl::Status Embedding(const EmbeddingParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
