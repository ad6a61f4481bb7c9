#pragma once

// out = Softmax(Q K^T * scale) V for each sequence and head, over packed sequences.
// Shapes: qkv [tokens, 3, heads, head_size], the fused projection with its bias; cu_seqlens int32
//   [sequences + 1] in device memory; out [tokens, heads, head_size]. Row-major.
// Types: qkv, out equal: float16 | bfloat16 | float32; or out float8 (e4m3), qkv 16-bit: out is
//   then divided by out_scale, float32 [1] in device memory, saturating at 448.
// Requires: 1 <= head_size <= 256; scale > 0; 3 * tokens * heads * head_size < 2^31; cu_seqlens
//   rises from 0 to at most tokens. out in float8: head_size % 8 == 0, qkv and out 16-byte aligned.
//   Nothing but its values is known of the lengths: the grid depends on `tokens` and `sequences`,
//   so a captured launch suits any batch with as many or fewer.
// Aliasing: out apart from qkv. Rows of out from cu_seqlens[sequences] on stay as they are. No
//   tokens or no sequences: does nothing.
// Numerics: scores, sums and the weighted sums in float; an online softmax in base 2. On tensor
//   cores (16-bit types, head_size % 8 == 0 and <= 128, tensors 16-byte aligned) weights, which are
//   2^8 at most, are rounded to the type before the values are weighted, after they went into the
//   sum; otherwise all is float. Error <= 2x that of scores and weights rounded to the type,
//   float's within 64 ulp of the largest value.
// Cost: 4 * head_size * length FLOP and length / 64 (or 128) reads of a row's keys and values a
//   row; bound by tensor cores and special functions from lengths of about 128 on, by memory below.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>

#include <cstdint>

#include "kernels/simt/runtime.h"
#include "kernels/tensor.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// Query rows of a block on tensor cores: 64 or 128. kAuto: the launcher's choice; the others are
// for measuring.
enum class AttentionTile : uint8_t { kAuto, kLow, kTall };

struct AttentionParams {
  TensorView qkv;
  TensorView cu_seqlens;
  float scale = 1;
  TensorView out;
  AttentionTile tile = AttentionTile::kAuto;
  TensorView out_scale;
};

absl::Status Attention(const AttentionParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
