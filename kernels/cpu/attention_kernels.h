#pragma once

// Attention of some query rows of one head over its whole sequence: one table of functions per
// instruction set. Pure functions on host memory, float32; no checks, no threads. Thread-safe, each
// thread with its own scratch.

#include <cstddef>

namespace bertrand {

// Keys and values are taken in blocks of this many, so that scratch does not grow with the
// sequence. Up to this length softmax needs no second look; 512 is the longest sequence most
// checkpoints have.
inline constexpr size_t kAttentionKeyBlock = 512;
// Query rows a tile has at most; keys and values are packed once for each tile.
inline constexpr size_t kAttentionQueryBlock = 256;
inline constexpr size_t kAttentionMaxHeadSize = 256;

// Softmax(Q K^T scale) V. All rows of q, k, v are `stride` apart, those of out `out_stride`.
struct AttentionTile {
  const float* q;  // the tile's first query row
  size_t queries;  // <= kAttentionQueryBlock
  const float* k;  // the sequence's first row
  const float* v;
  size_t length;
  size_t head_size;  // <= kAttentionMaxHeadSize
  size_t stride;
  float scale;
  float* out;
  size_t out_stride;
};

struct AttentionKernels {
  const char* target;
  // Floats of scratch that run_tile needs, aligned to 64 bytes, whatever the tile.
  size_t scratch_floats;
  void (*run_tile)(const AttentionTile& tile, float* scratch);
};

// The best table this machine can run (hwy::SetSupportedTargetsForTest narrows the choice).
const AttentionKernels& ChooseAttentionKernels();

}  // namespace bertrand
