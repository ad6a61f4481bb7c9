#pragma once

// Conversion between float32 and the activations' type on the device, and the search for values
// that are no numbers. Types: f16 | bf16 | f32. Requires: tensors aligned to 16 bytes. No elements:
// nothing. Numerics: round to nearest even; beyond f16's range infinity. Cost: reads once, writes
// once; memory-bound. Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>

#include "kernels/simt/runtime.h"
#include "kernels/tensor.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// to = from, element by element. One of the two is f32. No aliasing. Float8 (e4m3): to is from
// divided by `scale`, saturating at 448, or from times it.
absl::Status Convert(const TensorView& from, const TensorView& to, simt::Stream& stream,
                     float scale = 1);

// flag int32 [1] becomes 1 where a value of x is infinite or NaN, else stays as it is.
absl::Status CheckFinite(const TensorView& x, const TensorView& flag, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
