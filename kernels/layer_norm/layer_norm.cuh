#pragma once

// The body of LayerNorm (layer_norm.h): a row is read once, 16 bytes a lane and step, and stays in
// registers as float for both passes.
//
// kThreadsPerRow threads share a row: 32 (a warp; four rows a block) or the whole block. Each holds
// kVectors vectors of 16 bytes; vector v of thread t begins at column (v * kThreadsPerRow + t) *
// kPerVector, so that a warp reads 512 bytes in a row. With kSplits x is the sum of several, in
// floats, which a GEMM has left (small_gemm.h).

#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T, int kVectors, int kThreadsPerRow, bool kSplits = false>
struct LayerNormKernel {
  static constexpr const char* kName = kSplits                ? "layer_norm_splits"
                                       : kThreadsPerRow == 32 ? "layer_norm"
                                                              : "layer_norm_wide";
  static constexpr int kThreads = kThreadsPerRow == 32 ? 128 : kThreadsPerRow;
  static constexpr int kRowsPerBlock = kThreads / kThreadsPerRow;
  static constexpr int kPerVector = 16 / sizeof(T);
  static constexpr int kMaxHidden = kVectors * kThreadsPerRow * kPerVector;

  struct Params {
    simt::Global<const T> x, residual, bias, gamma, beta;
    simt::Global<const int> num_rows;
    simt::Global<T> y;
    simt::Global<simt::Float8> y8;
    simt::Global<const float> y8_scale;
    int rows, hidden, true_hidden;
    float eps;
    simt::Global<const float> splits;  // [num_splits, rows, hidden]
    int num_splits;
  };

  struct Layout {
    alignas(16) float sums[kThreads / 32];
  };

  using Values = simt::Vector<float, kPerVector>;

  static SIMT_FN int Column(int vector) {
    return (vector * kThreadsPerRow + simt::ThreadIndex() % kThreadsPerRow) * kPerVector;
  }

  static SIMT_FN float RowSum(float value) {
    if constexpr (kThreadsPerRow == 32) {
      return simt::WarpSum(value);
    } else {
      return simt::BlockSum(value, simt::SharedArray<&Layout::sums>());
    }
  }

  // What a lane reads of a row, as it is stored; 0 beyond the row.
  using Raw = simt::Vector<T, kPerVector>;
  static SIMT_FN void LoadRaw(const Params& p, simt::Global<const T> row, Raw (&raw)[kVectors]) {
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int column = Column(v);
      raw[v] = {};
      if (column < p.hidden) raw[v] = simt::LoadVector<kPerVector>(row + column);
    }
  }

  static SIMT_FN void Add(Values (&values)[kVectors], const Raw (&raw)[kVectors]) {
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const Values addends = simt::ToFloat(raw[v]);
      SIMT_UNROLL
      for (int i = 0; i < kPerVector; ++i) values[v][i] += addends[i];
    }
  }

  // The sum of the splits of a row, in order.
  static SIMT_FN void AddSplits(const Params& p, int64_t offset, Values (&values)[kVectors]) {
    const int64_t size = int64_t{p.rows} * p.hidden;
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int column = Column(v);
      if (column >= p.hidden) break;
      SIMT_UNROLL_BY(4)
      for (int split = 0; split < p.num_splits; ++split) {
        SIMT_UNROLL
        for (int i = 0; i < kPerVector; i += 4) {
          const auto more = simt::LoadVector<4>(p.splits + (split * size + offset + column + i));
          SIMT_UNROLL
          for (int j = 0; j < 4; ++j) values[v][i + j] += more[j];
        }
      }
    }
  }

  static SIMT_FN void StoreRow(const Params& p, int row, const Values (&values)[kVectors]) {
    const int64_t offset = int64_t{row} * p.hidden;
    const float y8_factor = p.y8 ? 1.0f / simt::Load(p.y8_scale) : 0.0f;
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int column = Column(v);
      if (column >= p.hidden) break;
      simt::StoreVector(p.y + offset + column, simt::FromFloat<T>(values[v]));
      if (p.y8) {
        Values scaled;
        SIMT_UNROLL
        for (int i = 0; i < kPerVector; ++i) scaled[i] = values[v][i] * y8_factor;
        simt::StoreVector(p.y8 + offset + column, simt::FromFloat<simt::Float8>(scaled));
      }
    }
  }

  static SIMT_FN void Normalize(const Params& p, const Raw (&gammas)[kVectors],
                                const Raw (&betas)[kVectors], Values (&values)[kVectors]) {
    float sum = 0;
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      SIMT_UNROLL
      for (int i = 0; i < kPerVector; ++i) sum += values[v][i];
    }
    const float mean = RowSum(sum) / static_cast<float>(p.true_hidden);
    float squares = 0;
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      SIMT_UNROLL
      for (int i = 0; i < kPerVector; ++i) {
        values[v][i] -= mean;
        // Padding is no part of the variance.
        const float value = Column(v) + i < p.true_hidden ? values[v][i] : 0.0f;
        squares = simt::Fma(value, value, squares);
      }
    }
    const float variance = RowSum(squares) / static_cast<float>(p.true_hidden);
    const float scale = simt::Rsqrt(variance + p.eps);
    SIMT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const Values gamma = simt::ToFloat(gammas[v]), beta = simt::ToFloat(betas[v]);
      SIMT_UNROLL
      for (int i = 0; i < kPerVector; ++i) {
        values[v][i] = simt::Fma(values[v][i] * scale, gamma[i], beta[i]);
      }
    }
  }

  // Every load is on its way before the first is waited for: a row that waited for each of its
  // vectors would take as many times as long to arrive, which is all that few rows cost.
  static SIMT_FN void ComputeRow(const Params& p, int row, Values (&values)[kVectors]) {
    const int64_t offset = int64_t{row} * p.hidden;
    Raw x[kVectors], residual[kVectors] = {}, bias[kVectors] = {}, gamma[kVectors], beta[kVectors];
    if constexpr (!kSplits) LoadRaw(p, p.x + offset, x);
    if (p.residual) LoadRaw(p, p.residual + offset, residual);
    LoadRaw(p, p.gamma, gamma);
    LoadRaw(p, p.beta, beta);
    if (p.bias) LoadRaw(p, p.bias, bias);
    if constexpr (kSplits) {
      AddSplits(p, offset, values);
    } else {
      Add(values, x);
    }
    Add(values, bias);
    Add(values, residual);
    Normalize(p, gamma, beta, values);
  }

  static SIMT_FN void Run(const Params& p) {
    const int row = simt::BlockIndex() * kRowsPerBlock + simt::ThreadIndex() / kThreadsPerRow;
    if (row >= p.rows) return;  // a whole warp, or nobody
    Values values[kVectors] = {};
    if (!p.num_rows || row < simt::Load(p.num_rows)) ComputeRow(p, row, values);
    StoreRow(p, row, values);
  }
};

// Any width and alignment, value by value: a warp reads its row three times, from the caches. No
// second output.
template <typename T>
struct AnyLayerNormKernel {
  static constexpr const char* kName = "layer_norm_any";
  static constexpr int kThreads = 128;
  static constexpr int kRowsPerBlock = kThreads / 32;
  using Params = typename LayerNormKernel<T, 1, 32>::Params;

  static SIMT_FN float Sum(const Params& p, int64_t offset, int column) {
    float sum = simt::ToFloat(simt::Load(p.x + offset + column));
    if (p.bias) sum += simt::ToFloat(simt::Load(p.bias + column));
    if (p.residual) sum += simt::ToFloat(simt::Load(p.residual + offset + column));
    return sum;
  }

  static SIMT_FN void Run(const Params& p) {
    const int row = simt::BlockIndex() * kRowsPerBlock + simt::WarpIndex();
    if (row >= p.rows) return;
    const bool padding = p.num_rows && row >= simt::Load(p.num_rows);
    const int64_t offset = int64_t{row} * p.hidden;
    const int lane = simt::LaneIndex();
    float mean = 0, scale = 0;
    if (!padding) {
      const float count = static_cast<float>(p.true_hidden);
      float sum = 0, squares = 0;
      for (int column = lane; column < p.hidden; column += 32) sum += Sum(p, offset, column);
      mean = simt::WarpSum(sum) / count;
      for (int column = lane; column < p.true_hidden; column += 32) {
        const float difference = Sum(p, offset, column) - mean;
        squares = simt::Fma(difference, difference, squares);
      }
      scale = simt::Rsqrt(simt::WarpSum(squares) / count + p.eps);
    }
    for (int column = lane; column < p.hidden; column += 32) {
      float value = 0;
      if (!padding) {
        value = simt::Fma((Sum(p, offset, column) - mean) * scale,
                          simt::ToFloat(simt::Load(p.gamma + column)),
                          simt::ToFloat(simt::Load(p.beta + column)));
      }
      simt::Store(p.y + offset + column, simt::FromFloat<T>(value));
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
