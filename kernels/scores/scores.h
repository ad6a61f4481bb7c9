#pragma once

// SoftmaxParams', TopKParams' and SparsePoolParams' formulas (kernels/backend.h) on the device.
// Types: floating tensors equal: f16 | bf16 | f32; columns, indices int32.
// Requires: what Backend's checks require; V < 2^30; columns in range.
// Aliasing: none (Softmax works in place, SparsePool adds to y). No rows: nothing.
// Numerics: exponentials, logarithms and sums in float, one rounding at the end. Sums are taken in
// an
//   order that depends on V alone (SparsePool: on the number of rows too), so a row's result is the
//   same bit by bit in any batch. NaN makes its row NaN in Softmax, its column in SparsePool, and
//   comes last in TopK.
// Cost: memory-bound. Softmax: a warp per row up to 1024 columns; longer rows in segments of 2048
// by
//   two kernels, which read x twice and write it once. TopK: two passes over the row for each 256
//   of k, a block per row. SparsePool: reads x once.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>

#include "kernels/backend.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// What Softmax of x [rows, columns] needs beyond x; it grows with both. Bytes.
size_t SoftmaxWorkspaceBytes(int64_t rows, int64_t columns);

// `workspace`: SoftmaxWorkspaceBytes(...) bytes in device memory, aligned to 8.
absl::Status Softmax(const SoftmaxParams& params, void* workspace, simt::Stream& stream);
absl::Status TopK(const TopKParams& params, simt::Stream& stream);
absl::Status SparsePool(const SparsePoolParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
