#pragma once

// The bodies of embedding.h. A warp gathers a row; each lane holds vectors of 16 bytes that lie 32
// vectors apart, so that a warp's requests are whole sectors.

#include "kernels/gpu/row_access.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T>
struct EmbeddingKernelParams {
  Global<const int32_t> ids, position_ids, type_ids;
  Global<const T> word, position, type;  // position, type: optional
  Global<const T> gamma, beta;           // optional
  Global<T> y;
  Global<simt::Float8> narrow;  // optional
  Global<const float> scale;    // of narrow
  int tokens, width;
  float eps;
};

inline constexpr int kEmbeddingThreads = 128;

// The table rows that a token's embedding is the sum of.
template <typename T>
struct EmbeddingRows {
  Global<const T> word, position, type;

  SIMT_FN static EmbeddingRows Of(const EmbeddingKernelParams<T>& p, int token) {
    EmbeddingRows rows;
    // All ids before any row: the reads of the ids then overlap.
    const int word = Load<Cache::kReadOnly>(p.ids + token);
    const int position = p.position ? Load<Cache::kReadOnly>(p.position_ids + token) : 0;
    const int type = p.type ? Load<Cache::kReadOnly>(p.type_ids + token) : 0;
    rows.word = p.word + static_cast<int64_t>(word) * p.width;
    if (p.position) rows.position = p.position + static_cast<int64_t>(position) * p.width;
    if (p.type) rows.type = p.type + static_cast<int64_t>(type) * p.width;
    return rows;
  }

  template <int kVector>
  SIMT_FN Vector<float, kVector> Sum(int column) const {
    Vector<float, kVector> sum = LoadFloats<kVector, Cache::kReadOnly>(word + column);
    if (position) AddTo(sum, LoadFloats<kVector, Cache::kReadOnly>(position + column));
    if (type) AddTo(sum, LoadFloats<kVector, Cache::kReadOnly>(type + column));
    return sum;
  }
};

// (row - mean) * inverse * gamma + beta of the values at `column`.
template <int kVector, typename T>
SIMT_FN void ScaleAndShift(const EmbeddingKernelParams<T>& p, int column, float mean, float inverse,
                           Vector<float, kVector>& row) {
  const auto gamma = LoadFloats<kVector, Cache::kReadOnly>(p.gamma + column);
  const auto beta = LoadFloats<kVector, Cache::kReadOnly>(p.beta + column);
  SIMT_UNROLL
  for (int i = 0; i < kVector; ++i) row[i] = Fma((row[i] - mean) * inverse, gamma[i], beta[i]);
}

template <int kVector>
SIMT_FN float SquaredDistance(const Vector<float, kVector>& row, float mean) {
  float sum = 0;
  SIMT_UNROLL
  for (int i = 0; i < kVector; ++i) sum += (row[i] - mean) * (row[i] - mean);
  return sum;
}

// Of a token's row the values at `column`, to both outputs.
template <int kVector, typename T>
SIMT_FN void StoreEmbedding(const EmbeddingKernelParams<T>& p, int token, int column,
                            Vector<float, kVector> row) {
  const int64_t at = static_cast<int64_t>(token) * p.width + column;
  StoreFloats(p.y + at, row);
  if constexpr (kVector > 1) {
    if (!p.narrow) return;
    const float factor = Divide(1, Load<Cache::kReadOnly>(p.scale));
    SIMT_UNROLL
    for (int i = 0; i < kVector; ++i) row[i] *= factor;
    StoreFloats(p.narrow + at, row);
  }
}

// The row stays in registers from its gathering to its end.
// Requires: width <= kMaxWidth, a multiple of kWidestVector<T>.
template <typename T, int kMaxWidth>
struct EmbeddingKernel {
  static constexpr const char* kName = "embedding";
  static constexpr int kThreads = kEmbeddingThreads;
  static constexpr int kVector = kWidestVector<T>;
  static constexpr int kSteps = kMaxWidth / (32 * kVector);
  using Params = EmbeddingKernelParams<T>;

  // What a lane reads of a row, as it is stored; 0 beyond the row.
  using Raw = Vector<T, kVector>[kSteps];

  SIMT_FN static int Column(int step) { return (step * 32 + LaneIndex()) * kVector; }

  SIMT_FN static void LoadRow(const Params& p, Global<const T> row, Raw& raw) {
    SIMT_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      raw[step] = {};
      if (Column(step) < p.width) {
        raw[step] = LoadVector<kVector, Cache::kReadOnly>(row + Column(step));
      }
    }
  }

  SIMT_FN static void Run(const Params& p) {
    const int token = BlockIndex() * (kThreads / 32) + WarpIndex();
    if (token >= p.tokens) return;
    const auto rows = EmbeddingRows<T>::Of(p, token);
    Vector<float, kVector> row[kSteps] = {};
    // Every load is on its way before the first is waited for.
    Raw word, position = {}, type = {}, gamma = {}, beta = {};
    LoadRow(p, rows.word, word);
    if (rows.position) LoadRow(p, rows.position, position);
    if (rows.type) LoadRow(p, rows.type, type);
    if (p.gamma) {
      LoadRow(p, p.gamma, gamma);
      LoadRow(p, p.beta, beta);
    }
    SIMT_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      row[step] = ToFloat(word[step]);
      AddTo(row[step], ToFloat(position[step]));
      AddTo(row[step], ToFloat(type[step]));
    }
    if (p.gamma) Normalize(p, gamma, beta, row);
    SIMT_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      if (Column(step) < p.width) StoreEmbedding(p, token, Column(step), row[step]);
    }
  }

  SIMT_FN static void Normalize(const Params& p, const Raw& gammas, const Raw& betas,
                                Vector<float, kVector> (&row)[kSteps]) {
    const float width = static_cast<float>(p.width);
    float sum = 0, squares = 0;
    SIMT_UNROLL
    for (int step = 0; step < kSteps; ++step) sum += SumOf(row[step]);
    const float mean = Divide(WarpSum(sum), width);
    SIMT_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      if (Column(step) < p.width) squares += SquaredDistance(row[step], mean);
    }
    const float inverse = Rsqrt(Divide(WarpSum(squares), width) + p.eps);
    SIMT_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const auto gamma = ToFloat(gammas[step]), beta = ToFloat(betas[step]);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) {
        row[step][i] = Fma((row[step][i] - mean) * inverse, gamma[i], beta[i]);
      }
    }
  }
};

// Any width: the row is gathered anew for each of the three passes, from the caches.
// Requires: width a multiple of kVector.
template <typename T, int kVector>
struct WideEmbeddingKernel {
  static constexpr const char* kName = "wide_embedding";
  static constexpr int kThreads = kEmbeddingThreads;
  using Params = EmbeddingKernelParams<T>;

  SIMT_FN static void Run(const Params& p) {
    const int token = BlockIndex() * (kThreads / 32) + WarpIndex();
    if (token >= p.tokens) return;
    const auto rows = EmbeddingRows<T>::Of(p, token);
    const int first = LaneIndex() * kVector, stride = 32 * kVector;
    const float width = static_cast<float>(p.width);
    float mean = 0, inverse = 1;
    if (p.gamma) {
      float sum = 0, squares = 0;
      for (int column = first; column < p.width; column += stride) {
        sum += SumOf(rows.template Sum<kVector>(column));
      }
      mean = Divide(WarpSum(sum), width);
      for (int column = first; column < p.width; column += stride) {
        squares += SquaredDistance(rows.template Sum<kVector>(column), mean);
      }
      inverse = Rsqrt(Divide(WarpSum(squares), width) + p.eps);
    }
    for (int column = first; column < p.width; column += stride) {
      auto row = rows.template Sum<kVector>(column);
      if (p.gamma) ScaleAndShift(p, column, mean, inverse, row);
      StoreEmbedding(p, token, column, row);
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
