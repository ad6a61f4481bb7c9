#pragma once

// The bodies of scores.h, but top-k (top_k.cuh).
//
// Vocabularies have odd sizes (50265), so rows start at any address: a kernel reads vectors of 16
// bytes where all rows are aligned to them, else words of 4 bytes, else single values, side by side
// in each of them, so that a warp's requests still cover whole sectors. The choice depends on the
// width alone; a row's result must not depend on where it stands.

#include "kernels/gpu/row_access.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

// Below every logit: what a thread without values starts from. Finite, so that a difference of two
// is never NaN.
inline constexpr float kLowest = -3.402823466e38f;

template <typename T>
struct SoftmaxKernelParams {
  Global<T> x;
  Global<float> partial;  // [rows, segments, 2]: of a segment the maximum and the sum over it
  int rows, width;
  int segments;  // of a row
};

// A warp per row, in place. Requires: width a multiple of kVector.
template <typename T, int kVector>
struct ShortSoftmaxKernel {
  static constexpr const char* kName = "short_softmax";
  static constexpr int kThreads = 128;
  using Params = SoftmaxKernelParams<T>;

  SIMT_FN static void Run(const Params& p) {
    const int r = BlockIndex() * (kThreads / 32) + WarpIndex();
    if (r >= p.rows) return;
    const Global<T> row = p.x + static_cast<int64_t>(r) * p.width;
    const int first = LaneIndex() * kVector, stride = 32 * kVector;
    float max = kLowest;
    for (int j = first; j < p.width; j += stride) {
      const auto x = LoadFloats<kVector>(row + j);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) max = Max(max, x[i]);
    }
    max = WarpMax(max);
    float sum = 0;
    for (int j = first; j < p.width; j += stride) {
      const auto x = LoadFloats<kVector>(row + j);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) sum += Exp(x[i] - max);
    }
    const float inverse = Divide(1, WarpSum(sum));
    for (int j = first; j < p.width; j += stride) {
      auto x = LoadFloats<kVector>(row + j);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) x[i] = Exp(x[i] - max) * inverse;
      StoreFloats(row + j, x);
    }
  }
};

inline constexpr int kSoftmaxSegment = 2048;

// What the two kernels for long rows share: a block has a segment of a row, which its threads hold
// in registers.
template <typename T, int kVector>
struct SoftmaxSegment {
  static constexpr int kThreads = 256;
  static constexpr int kSteps = kSoftmaxSegment / (kThreads * kVector);

  Global<T> row;
  int column, width;  // this thread's first

  SIMT_FN static SoftmaxSegment Of(const SoftmaxKernelParams<T>& p) {
    const int r = BlockIndex() / p.segments;
    const int segment = BlockIndex() - r * p.segments;
    return {p.x + static_cast<int64_t>(r) * p.width,
            segment * kSoftmaxSegment + ThreadIndex() * kVector, p.width};
  }
  SIMT_FN bool Has(int step) const { return Column(step) < width; }
  SIMT_FN int Column(int step) const { return column + step * kThreads * kVector; }
  SIMT_FN void LoadAll(Vector<float, kVector> (&x)[kSteps]) const {
    SIMT_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) x[step][i] = kLowest;
      if (Has(step)) x[step] = LoadFloats<kVector>(row + Column(step));
    }
  }
};

template <typename T, int kVector>
struct SoftmaxPartialKernel {
  static constexpr const char* kName = "softmax_partial";
  using Segment = SoftmaxSegment<T, kVector>;
  static constexpr int kThreads = Segment::kThreads;
  using Params = SoftmaxKernelParams<T>;
  struct Layout {
    float scratch[kThreads / 32];
  };

  SIMT_FN static void Run(const Params& p) {
    const Segment segment = Segment::Of(p);
    Vector<float, kVector> x[Segment::kSteps];
    segment.LoadAll(x);
    float max = kLowest, sum = 0;
    SIMT_UNROLL
    for (int step = 0; step < Segment::kSteps; ++step) {
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) max = Max(max, x[step][i]);
    }
    const Shared<float> scratch = SharedArray<&Layout::scratch>();
    max = BlockMax(max, scratch);
    SIMT_UNROLL
    for (int step = 0; step < Segment::kSteps; ++step) {
      if (segment.Has(step)) {
        SIMT_UNROLL
        for (int i = 0; i < kVector; ++i) sum += Exp(x[step][i] - max);
      }
    }
    sum = BlockSum(sum, scratch);
    if (ThreadIndex() == 0) {
      StoreVector(p.partial + 2 * static_cast<int64_t>(BlockIndex()), Vector<float, 2>{{max, sum}});
    }
  }
};

template <typename T, int kVector>
struct SoftmaxScaleKernel {
  static constexpr const char* kName = "softmax_scale";
  using Segment = SoftmaxSegment<T, kVector>;
  static constexpr int kThreads = Segment::kThreads;
  using Params = SoftmaxKernelParams<T>;

  SIMT_FN static void Run(const Params& p) {
    const Segment segment = Segment::Of(p);
    Vector<float, kVector> x[Segment::kSteps];
    segment.LoadAll(x);
    // Every warp adds up the row's segments, which is cheaper than a third kernel.
    const int row = BlockIndex() / p.segments;
    const Global<float> partial = p.partial + 2 * static_cast<int64_t>(row) * p.segments;
    float max = kLowest, sum = 0;
    for (int i = LaneIndex(); i < p.segments; i += 32) {
      max = Max(max, Load(partial + 2 * i));
    }
    max = WarpMax(max);
    for (int i = LaneIndex(); i < p.segments; i += 32) {
      const auto of = LoadVector<2>(partial + 2 * i);
      sum = Fma(of[1], Exp(of[0] - max), sum);
    }
    const float inverse = Divide(1, WarpSum(sum));
    SIMT_UNROLL
    for (int step = 0; step < Segment::kSteps; ++step) {
      if (segment.Has(step)) {
        SIMT_UNROLL
        for (int i = 0; i < kVector; ++i) x[step][i] = Exp(x[step][i] - max) * inverse;
        StoreFloats(segment.row + segment.Column(step), x[step]);
      }
    }
  }
};

template <typename T>
struct SparsePoolKernelParams {
  Global<const T> x;
  Global<T> y;
  int rows, width;
  bool sum, log_twice;
};

// A block reduces 32 words' columns, a row per warp at a time. The maximum is taken of the values
// themselves, since the logarithm grows with them; sums are added in a fixed order. NaN stays NaN.
// Requires: width a multiple of kVector.
template <typename T, int kVector>
struct SparsePoolKernel {
  static constexpr const char* kName = "sparse_pool";
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32, kColumns = 32 * kVector, kRowsAtOnce = 8;
  using Params = SparsePoolKernelParams<T>;
  struct Layout {
    float partial[kWarps * kColumns];
  };

  SIMT_FN static float LogRelu(float x, bool twice) {
    const float once = Log1p(x <= 0 ? 0 : x);
    return twice ? Log1p(once) : once;
  }
  SIMT_FN static float Larger(float a, float b) { return b > a || b != b ? b : a; }

  // A warp's next rows; 0, which changes nothing, beyond the last. All loads are on their way
  // before the first is waited for: 4 bytes at a time would leave memory idle.
  SIMT_FN static void LoadRows(const Params& p, int row, int column,
                               Vector<T, kVector> (&x)[kRowsAtOnce]) {
    SIMT_UNROLL
    for (int r = 0; r < kRowsAtOnce; ++r) {
      x[r] = {};
      if (row + r * kWarps >= p.rows) continue;
      const auto from = p.x + (static_cast<int64_t>(row + r * kWarps) * p.width + column);
      if constexpr (kVector == 1) {
        x[r][0] = Load(from);
      } else {
        x[r] = LoadVector<kVector>(from);
      }
    }
  }

  SIMT_FN static void Run(const Params& p) {
    const int first = BlockIndex() * kColumns, column = first + LaneIndex() * kVector;
    float result[kVector];
    SIMT_UNROLL
    for (int i = 0; i < kVector; ++i) result[i] = 0;
    if (column < p.width) {
      for (int row = WarpIndex(); row < p.rows; row += kWarps * kRowsAtOnce) {
        Vector<T, kVector> x[kRowsAtOnce];
        LoadRows(p, row, column, x);
        SIMT_UNROLL
        for (int r = 0; r < kRowsAtOnce; ++r) {
          SIMT_UNROLL
          for (int i = 0; i < kVector; ++i) {
            const float value = ToFloat(x[r][i]);
            result[i] = p.sum ? result[i] + LogRelu(value, p.log_twice) : Larger(result[i], value);
          }
        }
      }
    }
    const Shared<float> partial = SharedArray<&Layout::partial>();
    SIMT_UNROLL
    for (int i = 0; i < kVector; ++i) {
      Store(partial + (WarpIndex() * kColumns + i * 32 + LaneIndex()), result[i]);
    }
    SyncThreads();
    if (WarpIndex() != 0 || column >= p.width) return;
    auto y = LoadFloats<kVector>(p.y + column);
    SIMT_UNROLL
    for (int i = 0; i < kVector; ++i) {
      float total = result[i];
      for (int warp = 1; warp < kWarps; ++warp) {
        const float part = Load(partial + (warp * kColumns + i * 32 + LaneIndex()));
        total = p.sum ? total + part : Larger(total, part);
      }
      y[i] = p.sum ? y[i] + total : Larger(y[i], LogRelu(total, p.log_twice));
    }
    StoreFloats(p.y + column, y);
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
