#pragma once

// Softmax of scores with a part for distances and one for segments, times V, for each sequence and
// head, over packed sequences with a memory (the formula: RelativeAttentionParams in
// kernels/backend.h). Query row i and key j of a sequence score, times `scale`,
//
//   (q_i + content_bias) k_j + (q_i + position_bias) positions[center + j - i]
//     + (q_i + segment_bias) segments[type_i != type_j]
//
// Shapes: qkv [tokens, 3, heads, head_size]; the biases [heads, head_size]; positions [P, heads,
//   head_size], its first or last row beyond it; segments [2, heads, head_size]; type_ids int32
//   [tokens]; cu_seqlens int32 [sequences + 1]; memory_rows [any], what all rings lie in; rings
//   [sequences] in device memory, or null: no sequence has a memory; out [tokens, heads,
//   head_size].
// Types: float16 | bfloat16 | float32, the same for all but ids.
// Requires: 1 <= head_size <= 256; scale > 0; 0 <= center < P; 3 * tokens * heads * head_size, P *
//   heads * head_size < 2^31; a sequence and its memory < 2^30 rows; cu_seqlens rises from 0 to at
//   most tokens; rings within memory_rows and 16-byte aligned. The grid depends on `tokens` and
//   `sequences` alone.
// Aliasing: out apart from all others. Rows of out from cu_seqlens[sequences] on stay as they are.
//   No tokens or no sequences: does nothing.
// Numerics: as Attention; queries with their biases are rounded to the type before the products (so
//   are transformers'), products of positions and the segments' part stay float. What the same
//   segment adds to a row is left out, being nothing to its softmax. Error <= 2x that of scores,
//   their parts and weights rounded to the type; float's within 64 ulp of the largest value.
// Cost: 1.5 times Attention's: each score has one product more, for its position. Nothing quadratic
//   in memory.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <span>

#include "kernels/attention/attention.h"
#include "kernels/backend.h"
#include "kernels/relative_attention/memory_ring.cuh"
#include "kernels/simt/runtime.h"
#include "kernels/tensor.h"

namespace bertrand::gpu::inline SIMT_TARGET {

struct RelativeAttentionParams {
  TensorView qkv;
  TensorView content_bias, position_bias, segment_bias;
  TensorView positions;
  int64_t center = 0;
  TensorView segments;
  TensorView type_ids;
  TensorView cu_seqlens;
  TensorView memory_rows;
  const MemoryRing* rings = nullptr;
  float scale = 1;
  TensorView out;
  TensorView out_scale;  // where out is float8, as in attention.h
  AttentionTile tile = AttentionTile::kAuto;
};

absl::Status RelativeAttention(const RelativeAttentionParams& params, simt::Stream& stream);

// Fills `rings`, on the host, for the memory of a batch and returns memory_rows: the smallest view
// that holds all of it (absent when no sequence has any), in which other things may lie.
// InvalidArgument: types, sizes or alignments that do not fit. Requires: as many rings as memories.
absl::StatusOr<TensorView> DescribeMemory(std::span<const AttentionMemory> memory,
                                          std::span<MemoryRing> rings);

}  // namespace bertrand::gpu::inline SIMT_TARGET
