#pragma once

// Packed attention on Hopper's own tensor-core path (wgmma fed by the copy engine): what
// attention.h computes, from the same params. docs/attention.md has its layout and what is
// predicted of it. Shapes, types, aliasing as attention.h; float8 out too. `tile` is not looked at.
// Requires: a device of capability 9.0; qkv float16 | bfloat16, head_size a multiple of 8 up to
// 128;
//   qkv and out aligned to 16 bytes; heads * (tokens / 128 + sequences) * (tokens / 128 + 2) <
//   2^31. Rows of qkv beyond cu_seqlens[sequences], up to `tokens`, are read, whatever they hold.
// Numerics: as attention.h on tensor cores, 128 keys at a time.
// Cost: 4 * head_size * 128 FLOP for each row and 128 keys of its sequence or part of them; a
//   sequence's keys and values are read once for each head and block where there are up to 512
//   (heads of up to 64 values; 384 above), else once for each 128 rows.
// Errors: InvalidArgument before any launch, FailedPrecondition on another device. Asynchronous on
//   `stream`; any thread, a stream one.
//
// No GPU has run it yet, so nothing chooses it untried: hopper_trial.h is how it is chosen.

#include <absl/status/status.h>

#include "kernels/attention/attention.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// Whether HopperAttention's requirements hold, beyond attention.h's.
bool HopperAttentionSupports(const simt::DeviceInfo& device, const AttentionParams& params);

absl::Status HopperAttention(const AttentionParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
