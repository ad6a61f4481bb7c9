#pragma once

// Pieces of attention on tensor cores that the kernels share: tiles of rows in shared memory, their
// products, and the online softmax between the two. For kernel bodies.
//
// A *tile* is kRows x kColumns values of 16 bits, kColumns being 32, 64 or 128. A row is cut into
// chunks of 16 bytes, which are stored in another order in every row (every second one where a row
// is 64 bytes), so that eight rows at one column, which LoadMatrix reads together, and one row's
// neighbouring chunks, which CopyAsync writes together, both lie in 32 different banks.
//
// A warp has groups of 16 query rows, one or two: what it reads of a tile serves all of its groups.
// Two need registers for twice the sums, and half the reads. Of a group lane 4 g + t holds of the
// scores' and the sums' accumulators the rows g and g + 8, columns 2 t and 2 t + 1 of every 8 (MmaC
// in kernels/simt/simt.h).

#include "kernels/attention/attention_output.cuh"
#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

using namespace simt;  // NOLINT: the vocabulary is the language of kernel bodies

// What a score becomes where there is no key, and what a maximum starts from. Finite, so that a
// difference of two is no NaN.
inline constexpr float kMasked = -1e30f;

// Where a chunk begins in its tile, in values.
template <int kColumns>
SIMT_FN int ChunkOffset(int row, int chunk) {
  static_assert(kColumns == 32 || kColumns == 64 || kColumns == 128);
  const int turn = kColumns == 32 ? (row >> 1) & 3 : row & 7;
  return row * kColumns + ((chunk ^ turn) * 8);
}

// The chunk with which a thread begins its part of a copy, from the first row's first value.
template <int kColumns>
SIMT_FN int CopyOffset(int stride) {
  constexpr int kChunks = kColumns / 8;
  return ThreadIndex() / kChunks * stride + ThreadIndex() % kChunks * 8;
}

// Starts the copy of up to kRows rows, `stride` values apart, into a tile, and of kTiles - 1 more,
// each `apart` values behind the one before, into the tiles that follow. All threads of the block
// take part; `from` is the first row + CopyOffset. Rows from `valid_rows` and chunks from
// `valid_chunks` on become zero.
template <int kTiles, int kRows, int kColumns, int kThreads, typename T>
SIMT_FN void CopyTiles(Shared<T> tile, Global<const T> from, int stride, int apart, int valid_rows,
                       int valid_chunks) {
  constexpr int kChunks = kColumns / 8, kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0);
  const int chunk = ThreadIndex() % kChunks, first = ThreadIndex() / kChunks;
  SIMT_UNROLL
  for (int row = 0; row < kRows; row += kRowsAtOnce) {
    const int bytes = first + row < valid_rows && chunk < valid_chunks ? 16 : 0;
    SIMT_UNROLL
    for (int i = 0; i < kTiles; ++i) {
      CopyAsync<16>(tile + (i * kRows * kColumns + ChunkOffset<kColumns>(first + row, chunk)),
                    from + i * apart, bytes);
    }
    from = from + kRowsAtOnce * stride;
  }
}

// Where this lane's chunk is that a product's LoadMatrix names for the first 16 columns of a tile.
// The next 16 are at `^ 16` and so on, also of the sum of this and a multiple of a row's size, so
// that one register does for a whole tile. Direct: the tile's rows are a left operand's rows, or
// the terms of the sums (values, transposed). Transposed: they are the product's columns (keys).
template <int kColumns>
SIMT_FN int DirectOffset() {
  return ChunkOffset<kColumns>(LaneIndex() % 16, LaneIndex() / 16);
}
template <int kColumns>
SIMT_FN int TransposedOffset() {
  return ChunkOffset<kColumns>(LaneIndex() % 8 + LaneIndex() / 16 * 8, LaneIndex() / 8 % 2);
}

// The warp's 16 rows of a tile as left operands.
template <int kColumns, typename T>
SIMT_FN void LoadLeft(MmaA (&left)[kColumns / 16], Shared<T> rows) {
  const int offset = DirectOffset<kColumns>();
  SIMT_UNROLL
  for (int k = 0; k < kColumns / 16; ++k) LoadMatrix(left[k].r, rows + (offset ^ (k * 16)));
}

// scores += queries keys^T. With kPartial, 16 keys at a time from `valid_keys` on are left as they
// are.
template <int kKeys, int kColumns, bool kPartial, int kGroups, typename T>
SIMT_FN void AddScores(MmaC (&scores)[kGroups][kKeys / 8],
                       const MmaA (&queries)[kGroups][kColumns / 16], Shared<T> tiles, int keys,
                       int valid_keys) {
  const int offset = keys + TransposedOffset<kColumns>();
  SIMT_UNROLL
  for (int n = 0; n < kKeys / 16; ++n) {
    if (kPartial && n * 16 >= valid_keys) continue;
    SIMT_UNROLL
    for (int k = 0; k < kColumns / 16; ++k) {
      uint32_t r[4];
      LoadMatrix(r, tiles + ((offset ^ (k * 16)) + n * 16 * kColumns));
      SIMT_UNROLL
      for (int group = 0; group < kGroups; ++group) {
        Mma<T>(scores[group][2 * n], queries[group][k], {{r[0], r[1]}});
        Mma<T>(scores[group][2 * n + 1], queries[group][k], {{r[2], r[3]}});
      }
    }
  }
}

// Keys from `valid_keys` on get no weight.
template <int kKeys>
SIMT_FN void MaskScores(MmaC (&scores)[kKeys / 8], int valid_keys) {
  SIMT_UNROLL
  for (int n = 0; n < kKeys / 8; ++n) {
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (n * 8 + LaneIndex() % 4 * 2 + i % 2 >= valid_keys) scores[n].v[i] = kMasked;
    }
  }
}

// The softmax so far of rows g and g + 8: a reference in units of log2, near the largest score and
// the same in the four lanes of a row; the sum of this lane's weights; the weighted sum of values.
template <int kColumns>
struct OnlineSoftmax {
  float max[2] = {kMasked, kMasked};
  float sum[2] = {0, 0};
  MmaC values[kColumns / 8] = {};
};

// How far, in units of log2, scores may lie above a row's reference before it is moved: weights are
// at most 2^8 then, which is harmless (they are floats and 16-bit floats, and divided in the end),
// and after the first tile hardly any warp has to scale its sums again, or to look for the largest
// score of a row, which is in four lanes.
inline constexpr float kSlack = 8;

// Moves the references to the largest scores of each row. `largest`: this lane's of the tile.
template <int kColumns, int kGroups>
SIMT_FN void MoveReferences(OnlineSoftmax<kColumns> (&softmax)[kGroups],
                            const float (&largest)[kGroups][2]) {
  SIMT_UNROLL
  for (int group = 0; group < kGroups; ++group) {
    SIMT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float max = Max(softmax[group].max[half], WarpMax<4>(largest[group][half]));
      const float correction = Exp2(softmax[group].max[half] - max);
      softmax[group].max[half] = max;
      softmax[group].sum[half] *= correction;
      SIMT_UNROLL
      for (int n = 0; n < kColumns / 8; ++n) {
        softmax[group].values[n].v[2 * half] *= correction;
        softmax[group].values[n].v[2 * half + 1] *= correction;
      }
    }
  }
}

// Turns scores into weights 2^(score * scale - reference), after the references have been moved if
// need be. `offsets`, read if kOffsets, are what all scores of a row lack. Requires: scale > 0. The
// sum is that of the weights in float, before they are rounded to T for the product with the
// values.
template <int kKeys, bool kOffsets, int kColumns, int kGroups>
SIMT_FN void UpdateSoftmax(OnlineSoftmax<kColumns> (&softmax)[kGroups],
                           MmaC (&scores)[kGroups][kKeys / 8], float scale,
                           const float (&offsets)[kGroups][2]) {
  float largest[kGroups][2];
  bool grows = false;
  SIMT_UNROLL
  for (int group = 0; group < kGroups; ++group) {
    SIMT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int i = 2 * half;
      float max = scores[group][0].v[i];
      SIMT_UNROLL
      for (int n = 0; n < kKeys / 8; ++n) {
        max = Max(max, Max(scores[group][n].v[i], scores[group][n].v[i + 1]));
      }
      largest[group][half] = kOffsets ? Fma(max, scale, offsets[group][half] * scale) : max * scale;
      grows = grows || largest[group][half] > softmax[group].max[half] + kSlack;
    }
  }
  if (WarpAny(grows)) MoveReferences(softmax, largest);
  SIMT_UNROLL
  for (int group = 0; group < kGroups; ++group) {
    SIMT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int i = 2 * half;
      const float max = softmax[group].max[half];
      const float base = kOffsets ? offsets[group][half] * scale - max : -max;
      float sum = 0;
      SIMT_UNROLL
      for (int n = 0; n < kKeys / 8; ++n) {
        scores[group][n].v[i] = Exp2(Fma(scores[group][n].v[i], scale, base));
        scores[group][n].v[i + 1] = Exp2(Fma(scores[group][n].v[i + 1], scale, base));
        sum += scores[group][n].v[i] + scores[group][n].v[i + 1];
      }
      softmax[group].sum[half] += sum;
    }
  }
}

// softmax.values += weights values: the accumulators of the weights are, rounded, left operands.
template <int kKeys, int kColumns, bool kPartial, int kGroups, typename T>
SIMT_FN void AddValues(OnlineSoftmax<kColumns> (&softmax)[kGroups],
                       const MmaC (&weights)[kGroups][kKeys / 8], Shared<T> tiles, int values,
                       int valid_keys) {
  const int offset = values + DirectOffset<kColumns>();
  SIMT_UNROLL
  for (int k = 0; k < kKeys / 16; ++k) {
    if (kPartial && k * 16 >= valid_keys) continue;
    MmaA left[kGroups];
    SIMT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      const MmaC &low = weights[group][2 * k], &high = weights[group][2 * k + 1];
      left[group] = {{Pack<T>(low.v[0], low.v[1]), Pack<T>(low.v[2], low.v[3]),
                      Pack<T>(high.v[0], high.v[1]), Pack<T>(high.v[2], high.v[3])}};
    }
    SIMT_UNROLL
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t r[4];
      LoadMatrixTransposed(r, tiles + ((offset ^ (n * 16)) + k * 16 * kColumns));
      SIMT_UNROLL
      for (int group = 0; group < kGroups; ++group) {
        Mma<T>(softmax[group].values[2 * n], left[group], {{r[0], r[1]}});
        Mma<T>(softmax[group].values[2 * n + 1], left[group], {{r[2], r[3]}});
      }
    }
  }
}

// Divides by the sums and writes the warp's rows, the first of which is `offset` values into the
// output, by way of 16 rows of shared memory that are the warp's own, so that whole chunks leave
// it. FP8 is rounded a second time, from T.
template <int kColumns, typename T>
SIMT_FN void StoreRows(const OnlineSoftmax<kColumns>& softmax, Shared<T> staged,
                       const AttentionOutput<T>& out, int offset, int stride, int valid_rows,
                       int valid_chunks) {
  const int lane = LaneIndex();
  SIMT_UNROLL
  for (int half = 0; half < 2; ++half) {
    const float factor = Reciprocal(WarpSum<4>(softmax.sum[half]));
    const int row = lane / 4 + 8 * half;
    SIMT_UNROLL
    for (int n = 0; n < kColumns / 8; ++n) {
      const uint32_t pair = Pack<T>(softmax.values[n].v[2 * half] * factor,
                                    softmax.values[n].v[2 * half + 1] * factor);
      Store(Cast<uint32_t>(staged + (ChunkOffset<kColumns>(row, n) + lane % 4 * 2)), pair);
    }
  }
  SyncWarp();
  constexpr int kChunks = kColumns / 8, kRowsAtOnce = 32 / kChunks;
  const int chunk = lane % kChunks;
  SIMT_UNROLL
  for (int i = 0; i < 16 / kRowsAtOnce; ++i) {
    const int row = lane / kChunks + i * kRowsAtOnce;
    if (row < valid_rows && chunk < valid_chunks) {
      const auto values = LoadVector<8>(staged + ChunkOffset<kColumns>(row, chunk));
      if (out.narrow) {
        out.StoreNarrow(offset + row * stride + chunk * 8, ToFloat(values));
      } else {
        StoreVector(out.values + (offset + row * stride + chunk * 8), values);
      }
    }
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
