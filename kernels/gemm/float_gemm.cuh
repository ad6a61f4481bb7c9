#pragma once

// The body of small_gemm.h's fallback: products in float, any shape and type. A block of 256
// threads computes 64 x 64 outputs, 4 x 4 a thread; tiles of 16 of k are kept transposed, [k][row],
// in two buffers, and the next one waits in registers while this one is multiplied.

#include "kernels/bias_activation/epilogue.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

// Factor: of x and weight, T but for FP8.
template <typename T, typename Factor = T>
struct FloatGemmKernel {
  static constexpr const char* kName = "float_gemm";
  static constexpr int kThreads = 256;
  static constexpr int kTile = 64, kK = 16;
  // 4 more: a thread's four rows stay 16-byte aligned, and neighbouring k are 4 banks apart.
  static constexpr int kPitch = kTile + 4;
  static constexpr int kLoads = kTile * kK / kThreads;

  struct Params {
    simt::Global<const Factor> x;                     // [m, k]
    simt::Global<const Factor> weight;                // [n, k]
    simt::Global<const float> x_scale, weight_scale;  // [1], optional
    Epilogue<T> epilogue;
    int m, n, k;
    int m_tiles;
  };
  struct Layout {
    alignas(16) float x[2][kK][kPitch];
    alignas(16) float weight[2][kK][kPitch];
  };
  struct Values {
    float x[kLoads], weight[kLoads];
  };

  SIMT_FN static void LoadTile(float (&values)[kLoads], simt::Global<const Factor> from,
                               int first_row, int num_rows, int first_k, int k) {
    const int column = first_k + simt::ThreadIndex() % kK;
    SIMT_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int row = first_row + simt::ThreadIndex() / kK + i * (kThreads / kK);
      const bool inside = row < num_rows && column < k;
      values[i] = inside ? simt::ToFloat(simt::Load(from + (int64_t{row} * k + column))) : 0.0f;
    }
  }
  SIMT_FN static void StoreTile(simt::Shared<float> to, const float (&values)[kLoads]) {
    SIMT_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int row = simt::ThreadIndex() / kK + i * (kThreads / kK);
      simt::Store(to + (simt::ThreadIndex() % kK * kPitch + row), values[i]);
    }
  }
  SIMT_FN static void Multiply(float (&sums)[4][4], simt::Shared<float> x,
                               simt::Shared<float> weight) {
    x = x + simt::ThreadIndex() / 16 * 4;
    weight = weight + simt::ThreadIndex() % 16 * 4;
    SIMT_UNROLL
    for (int k = 0; k < kK; ++k) {
      const auto a = simt::LoadVector<4>(x + k * kPitch);
      const auto b = simt::LoadVector<4>(weight + k * kPitch);
      SIMT_UNROLL
      for (int i = 0; i < 4; ++i) {
        SIMT_UNROLL
        for (int j = 0; j < 4; ++j) sums[i][j] = simt::Fma(a[i], b[j], sums[i][j]);
      }
    }
  }

  SIMT_FN static void Run(const Params& p) {
    const int first_row = simt::BlockIndex() % p.m_tiles * kTile;
    const int first_column = simt::BlockIndex() / p.m_tiles * kTile;
    const auto x = simt::SharedArray<&Layout::x>();
    const auto weight = simt::SharedArray<&Layout::weight>();

    Values values;
    LoadTile(values.x, p.x, first_row, p.m, 0, p.k);
    LoadTile(values.weight, p.weight, first_column, p.n, 0, p.k);
    float sums[4][4] = {};
    int buffer = 0;
    for (int k = 0; k < p.k; k += kK) {
      StoreTile(x + buffer * kK * kPitch, values.x);
      StoreTile(weight + buffer * kK * kPitch, values.weight);
      // One barrier is enough: a buffer is written again only after the next one.
      simt::SyncThreads();
      if (k + kK < p.k) {
        LoadTile(values.x, p.x, first_row, p.m, k + kK, p.k);
        LoadTile(values.weight, p.weight, first_column, p.n, k + kK, p.k);
      }
      Multiply(sums, x + buffer * kK * kPitch, weight + buffer * kK * kPitch);
      buffer ^= 1;
    }

    const float scale = p.x_scale ? simt::Load(p.x_scale) * simt::Load(p.weight_scale) : 1.0f;
    const int column = first_column + simt::ThreadIndex() % 16 * 4;
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + simt::ThreadIndex() / 16 * 4 + i;
      if (row >= p.m || column >= p.n) continue;
      Finish<4>(p.epilogue, row, column,
                simt::Vector<float, 4>{{sums[i][0] * scale, sums[i][1] * scale, sums[i][2] * scale,
                                        sums[i][3] * scale}});
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
