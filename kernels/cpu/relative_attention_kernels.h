#pragma once

// Relative attention (kernels/backend.h: RelativeAttentionParams) of some query rows of one head:
// one table of functions per instruction set. Pure functions on host memory, float32; no checks, no
// threads. Thread-safe, each thread with its own scratch.
//
// Blocks of keys and of query rows are those of attention_kernels.h.

#include <cstddef>
#include <cstdint>

namespace bertrand {

// Rows of keys or values of one head: the memory's, which are a ring, then the sequence's own.
struct RelativeRows {
  const float* memory;
  size_t memory_stride;
  const float* own;
  size_t own_stride;
};

struct RelativeAttentionTile {
  const float* q;  // the tile's first query row; rows q_stride apart
  size_t q_stride;
  size_t queries;      // <= kAttentionQueryBlock
  size_t first_query;  // of the sequence's rows
  RelativeRows k, v;
  size_t length;  // of the sequence
  // Key j < memory_size is row (memory_first + j) % memory_capacity of the memory, and key
  // memory_size + j row j of the sequence.
  size_t memory_first, memory_size, memory_capacity;
  size_t head_size;                                          // <= kAttentionMaxHeadSize
  const float *content_bias, *position_bias, *segment_bias;  // [head_size]
  // Row center + j - i is that of sequence rows i and j (negative: memory), or the first or last
  // one.
  const float* positions;
  size_t num_positions, position_stride;
  int64_t center;
  const float *same_segment, *other_segment;  // [head_size]
  const int32_t* type_ids;                    // of the sequence's rows; memory's are 0
  float scale;
  float* out;
  size_t out_stride;
};

struct RelativeAttentionKernels {
  const char* target;
  // Floats of scratch that run_tile needs, aligned to 64 bytes, whatever the tile.
  size_t scratch_floats;
  void (*run_tile)(const RelativeAttentionTile& tile, float* scratch);
};

// The best table this machine can run (hwy::SetSupportedTargetsForTest narrows the choice).
const RelativeAttentionKernels& ChooseRelativeAttentionKernels();

}  // namespace bertrand
