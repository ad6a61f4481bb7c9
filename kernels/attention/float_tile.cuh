#pragma once

// Pieces of attention by float multiplications that the kernels share, for any type and any size of
// head: rows as floats in shared memory, products of small blocks in registers, and the online
// softmax. For kernel bodies.
//
// A block has 4 warps, a warp 2 kRows rows of queries. Lane 16 y + x has the rows y kRows .. and of
// the scores the columns x, x + 16, ... (of products with values: 4 neighbouring columns of every
// 64, or 2 of 32), so that each value it reads from shared memory is used kRows or several times.

#include "kernels/attention/attention_output.cuh"
#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

using namespace simt;  // NOLINT: the vocabulary is the language of kernel bodies

inline constexpr int kFloatThreads = 128;
// What a score becomes where there is no key, and what a maximum starts from.
inline constexpr float kNoScore = -1e30f;

// Floats from one row to the next: sixteen rows at one column lie in different banks.
template <int kHeadSize>
inline constexpr int kFloatStride = kHeadSize + 4;

// Puts four values of a row, or zeros, into shared memory as floats.
template <typename T>
SIMT_FN void CopyChunk(Shared<float> to, Global<const T> from, bool valid) {
  if constexpr (std::is_same_v<T, float>) {
    CopyAsync<16>(to, from, valid ? 16 : 0);
  } else {
    Vector<float, 4> floats = {};
    if (valid) floats = ToFloat(LoadVector<4>(from));
    StoreVector(to, floats);
  }
}

// Where rows come from: row i of a tile is at `rows` + i * `stride`.
template <typename T>
struct PlainRows {
  Global<const T> rows;
  int stride;
  SIMT_FN Global<const T> operator()(int row) const { return rows + int64_t{row} * stride; }
};

// Copies up to kRows rows into a tile; all threads take part, a barrier (and CopyAsyncWait) makes
// them visible. Rows from `valid_rows` and columns from `head_size` to kHeadSize become zero.
// Requires of `chunked`: all rows are aligned to four values and multiples of them.
template <int kRows, int kHeadSize, typename T, typename Rows>
SIMT_FN void CopyFloatRows(Shared<float> tile, const Rows& rows, int valid_rows, int head_size,
                           bool chunked) {
  constexpr int kChunk = 4, kChunks = kHeadSize / kChunk;
  if (chunked) {
    for (int i = ThreadIndex(); i < kRows * kChunks; i += kFloatThreads) {
      const int row = i / kChunks, column = i % kChunks * kChunk;
      const bool valid = row < valid_rows && column < head_size;
      CopyChunk(tile + (row * kFloatStride<kHeadSize> + column),
                rows(valid ? row : 0) + (valid ? column : 0), valid);
    }
  } else {
    for (int i = ThreadIndex(); i < kRows * kHeadSize; i += kFloatThreads) {
      const int row = i / kHeadSize, column = i % kHeadSize;
      float value = 0;
      if (row < valid_rows && column < head_size) value = ToFloat(Load(rows(row) + column));
      Store(tile + (row * kFloatStride<kHeadSize> + column), value);
    }
  }
}

// products[i][j] += left row i * right row right_rows[j].
template <int kRows, int kColumns, int kHeadSize>
SIMT_FN void AddProducts(float (&products)[kRows][kColumns], Shared<float> left,
                         Shared<float> right, const int (&right_rows)[kColumns], int head_size) {
  constexpr int kStride = kFloatStride<kHeadSize>;
  for (int k = 0; k < head_size; k += 4) {
    Vector<float, 4> r[kColumns];
    SIMT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      r[j] = LoadVector<4>(right + (right_rows[j] * kStride + k));
    }
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Vector<float, 4> l = LoadVector<4>(left + (i * kStride + k));
      SIMT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        SIMT_UNROLL
        for (int e = 0; e < 4; ++e) products[i][j] = Fma(l[e], r[j][e], products[i][j]);
      }
    }
  }
}

// The softmax so far of a lane's rows: the largest score in units of log2, the same in 16 lanes;
// the sum of this lane's weights; the weighted sums of this lane's columns of values.
template <int kRows, int kHeadSize>
struct FloatSoftmax {
  static constexpr int kColumns = kHeadSize / 16;
  static constexpr int kTogether = kColumns < 4 ? kColumns : 4;  // neighbouring columns
  float max[kRows], sum[kRows];
  float values[kRows][kColumns];
};

template <int kRows, int kHeadSize>
SIMT_FN void Clear(FloatSoftmax<kRows, kHeadSize>& softmax) {
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    softmax.max[i] = kNoScore;
    softmax.sum[i] = 0;
    SIMT_UNROLL
    for (int c = 0; c < kHeadSize / 16; ++c) softmax.values[i][c] = 0;
  }
}

// Floats from one key's weights to the next one's: 16 keys' are stored at once, 4 rows each.
template <int kRows>
inline constexpr int kWeightStride = 2 * kRows + 4;

// Turns scores into weights 2^(score * scale - max) in the warp's part of shared memory,
// [key][row], and scales what was summed up with the old maximum to the new one. Keys from
// `valid_keys` on get no weight. Requires: scale > 0.
template <int kRows, int kColumns, int kHeadSize>
SIMT_FN void UpdateFloatSoftmax(FloatSoftmax<kRows, kHeadSize>& softmax,
                                float (&scores)[kRows][kColumns], Shared<float> weights,
                                float scale, int valid_keys) {
  const int x = LaneIndex() % 16, y = LaneIndex() / 16;
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    float max = kNoScore;
    SIMT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      if (x + j * 16 >= valid_keys) scores[i][j] = kNoScore;
      max = Max(max, scores[i][j]);
    }
    max = Max(softmax.max[i], WarpMax<16>(max) * scale);
    const float correction = Exp2(softmax.max[i] - max);
    softmax.max[i] = max;
    softmax.sum[i] *= correction;
    SIMT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      scores[i][j] = Exp2(Fma(scores[i][j], scale, -max));
      softmax.sum[i] += scores[i][j];
    }
    SIMT_UNROLL
    for (int c = 0; c < kHeadSize / 16; ++c) softmax.values[i][c] *= correction;
  }
  constexpr int kTogether = kRows < 4 ? kRows : 4;
  SIMT_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    SIMT_UNROLL
    for (int i = 0; i < kRows; i += kTogether) {
      Vector<float, kTogether> together;
      SIMT_UNROLL
      for (int e = 0; e < kTogether; ++e) together[e] = scores[i + e][j];
      StoreVector(weights + ((x + j * 16) * kWeightStride<kRows> + y * kRows + i), together);
    }
  }
}

// softmax.values += weights values, for `keys` keys.
template <int kRows, int kHeadSize>
SIMT_FN void AddFloatValues(FloatSoftmax<kRows, kHeadSize>& softmax, Shared<float> weights,
                            Shared<float> values, int keys) {
  using Softmax = FloatSoftmax<kRows, kHeadSize>;
  constexpr int kTogether = Softmax::kTogether, kRowsTogether = kRows < 4 ? kRows : 4;
  const Shared<float> own_weights = weights + LaneIndex() / 16 * kRows;
  const Shared<float> own_values = values + LaneIndex() % 16 * kTogether;
  for (int key = 0; key < keys; ++key) {
    float w[kRows];
    SIMT_UNROLL
    for (int i = 0; i < kRows; i += kRowsTogether) {
      const auto together =
          LoadVector<kRowsTogether>(own_weights + (key * kWeightStride<kRows> + i));
      SIMT_UNROLL
      for (int e = 0; e < kRowsTogether; ++e) w[i + e] = together[e];
    }
    SIMT_UNROLL
    for (int c = 0; c < Softmax::kColumns; c += kTogether) {
      const auto v = LoadVector<kTogether>(own_values + (key * kFloatStride<kHeadSize> + c * 16));
      SIMT_UNROLL
      for (int i = 0; i < kRows; ++i) {
        SIMT_UNROLL
        for (int e = 0; e < kTogether; ++e) {
          softmax.values[i][c + e] = Fma(w[i], v[e], softmax.values[i][c + e]);
        }
      }
    }
  }
}

// Divides by the sums and writes a lane's part of its rows, the first of which is `offset` values
// into the output. FP8 output is chunked.
template <int kRows, int kHeadSize, typename T>
SIMT_FN void StoreFloatRows(const FloatSoftmax<kRows, kHeadSize>& softmax,
                            const AttentionOutput<T>& out, int64_t offset, int stride,
                            int valid_rows, int head_size, bool chunked) {
  using Softmax = FloatSoftmax<kRows, kHeadSize>;
  constexpr int kTogether = Softmax::kTogether;
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const float factor = Reciprocal(WarpSum<16>(softmax.sum[i]));
    if (i >= valid_rows) continue;
    SIMT_UNROLL
    for (int c = 0; c < Softmax::kColumns; c += kTogether) {
      const int column = LaneIndex() % 16 * kTogether + c * 16;
      Vector<float, kTogether> floats;
      SIMT_UNROLL
      for (int e = 0; e < kTogether; ++e) floats[e] = softmax.values[i][c + e] * factor;
      const int64_t at = offset + i * stride + column;
      if (chunked) {
        if (column >= head_size) continue;
        if (out.narrow) {
          out.StoreNarrow(at, floats);
        } else {
          StoreVector(out.values + at, FromFloat<T>(floats));
        }
        continue;
      }
      SIMT_UNROLL
      for (int e = 0; e < kTogether; ++e) {
        if (column + e < head_size) {
          Store(out.values + (at + e), FromFloat<T>(floats[e]));
        }
      }
    }
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
