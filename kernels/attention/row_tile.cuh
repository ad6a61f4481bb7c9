#pragma once

// Which rows a block of a packed attention kernel computes. The grid depends on the number of
// tokens and of sequences alone (it suits a captured graph): sequence s owns the blocks from
// cu_seqlens[s] / kRows + s on, enough for its rows and at most one more, and a block finds its
// sequence by itself. For kernel bodies; pure functions of their arguments but for loads.

#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

using namespace simt;  // NOLINT: the vocabulary is the language of kernel bodies

struct RowTile {
  int sequence;  // its index
  int begin;     // its first row of the batch
  int length;    // its rows
  int first;     // the tile's first row, counted from `begin`
  int rows;      // of the tile; 0 or less: nothing to do
};

// Tiles of `tile_rows` rows that a batch has at most, for any lengths.
inline int64_t NumRowTiles(int64_t tokens, int64_t sequences, int tile_rows) {
  return tokens / tile_rows + sequences;
}

// All 32 lanes of a warp, with the same arguments. Requires: sequences >= 1, 0 <= block.
// A warp looks at 32 sequences at a time: two dependent loads for 1024.
SIMT_FN RowTile FindRowTile(Global<const int32_t> cu_seqlens, int sequences, int block,
                            int tile_rows) {
  int low = 0, high = sequences;  // the sequence is in [low, high)
  while (high - low > 1) {
    const int step = DivideUp(high - low, 32);
    const int probe = low + LaneIndex() * step;
    bool starts_before = false;
    if (probe < high) starts_before = Load(cu_seqlens + probe) / tile_rows + probe <= block;
    low = WarpMax(starts_before ? probe : low);
    high = Min(high, low + step);
  }
  RowTile tile;
  tile.sequence = low;
  tile.begin = Load(cu_seqlens + low);
  tile.length = Load(cu_seqlens + (low + 1)) - tile.begin;
  tile.first = (block - tile.begin / tile_rows - low) * tile_rows;
  tile.rows = Min(tile_rows, tile.length - tile.first);
  return tile;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
