#pragma once

// The body of gemv.h. A warp multiplies kRows rows of x by all of W, so that W comes from the
// first-level cache once for them. A row's products are added up in the same order whatever rows
// stand beside it.

#include "kernels/bias_activation/activation.cuh"
#include "kernels/gpu/row_access.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T>
struct GemvKernelParams {
  Global<const T> x, weight;  // [m, k], [n, k]
  Global<const T> bias;       // [n], optional
  Global<const T> residual;   // [m, n], optional
  Global<T> y;                // [m, n]
  int m, n, k;
  Formula activation;
};

// Requires: n <= kOutputs; k a multiple of kVector.
template <typename T, int kOutputs, int kVector>
struct GemvKernel {
  static constexpr const char* kName = "gemv";
  static constexpr int kThreads = 128;
  static constexpr int kRows = 2;
  static constexpr int kRowsPerBlock = kThreads / 32 * kRows;
  using Params = GemvKernelParams<T>;

  SIMT_FN static void Run(const Params& p) {
    const int first_row = BlockIndex() * kRowsPerBlock + WarpIndex() * kRows;
    if (first_row >= p.m) return;
    float sums[kRows][kOutputs] = {};
    Multiply(p, first_row, sums);
    SIMT_UNROLL
    for (int row = 0; row < kRows; ++row) {
      // Lane n gets output n.
      float mine = 0;
      SIMT_UNROLL
      for (int n = 0; n < kOutputs; ++n) {
        const float sum = WarpSum(sums[row][n]);
        if (LaneIndex() == n) mine = sum;
      }
      if (first_row + row < p.m && LaneIndex() < p.n) Finish(p, first_row + row, mine);
    }
  }

  SIMT_FN static void Multiply(const Params& p, int first_row, float (&sums)[kRows][kOutputs]) {
    // The last row stands for those that do not exist.
    Global<const T> x[kRows];
    SIMT_UNROLL
    for (int row = 0; row < kRows; ++row) {
      x[row] = p.x + static_cast<int64_t>(Min(first_row + row, p.m - 1)) * p.k;
    }
    for (int j = LaneIndex() * kVector; j < p.k; j += 32 * kVector) {
      Vector<float, kVector> values[kRows];
      SIMT_UNROLL
      for (int row = 0; row < kRows; ++row) values[row] = LoadFloats<kVector>(x[row] + j);
      SIMT_UNROLL
      for (int n = 0; n < kOutputs; ++n) {
        if (n < p.n) {
          const auto weight = LoadFloats<kVector, Cache::kReadOnly>(p.weight + (n * p.k + j));
          SIMT_UNROLL
          for (int row = 0; row < kRows; ++row) {
            SIMT_UNROLL
            for (int i = 0; i < kVector; ++i) {
              sums[row][n] = Fma(values[row][i], weight[i], sums[row][n]);
            }
          }
        }
      }
    }
  }

  SIMT_FN static void Finish(const Params& p, int row, float sum) {
    const int n = LaneIndex();
    if (p.bias) sum += ToFloat(Load<Cache::kReadOnly>(p.bias + n));
    sum = Activate(p.activation, sum);
    const int64_t at = static_cast<int64_t>(row) * p.n + n;
    if (p.residual) sum += ToFloat(Load(p.residual + at));
    Store(p.y + at, FromFloat<T>(sum));
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
