#pragma once

// PoolParams', NormalizeParams' and GatherParams' formulas (kernels/backend.h) on the device.
// Types: all tensors equal: f16 | bf16 | f32; begin, end, weight_begin, rows int32.
// Requires: what Backend's checks require; rows and ranges within x.
// Aliasing: none (Normalize works in place). No rows: nothing.
// Numerics: sums, weights and norms in float, one rounding at the end. Rows are added in an order
//   that depends on the range's length alone: a result is the same bit by bit in any batch.
// Cost: reads what the ranges cover once, writes the result once (Normalize reads twice, the second
//   time from the cache); memory-bound. Pool: a block of 8 warps per range and 128 bytes of
//   columns.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>

#include "kernels/backend.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

absl::Status Pool(const PoolParams& params, simt::Stream& stream);
absl::Status Normalize(const NormalizeParams& params, simt::Stream& stream);
absl::Status Gather(const GatherParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
