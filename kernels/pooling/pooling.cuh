#pragma once

// The bodies of pooling.h.

#include "kernels/gpu/row_access.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

// How the rows of a range become one.
enum class Reduction : int { kMax, kMean, kMeanSqrtLen, kWeightedMean };

template <typename T>
struct PoolKernelParams {
  Global<const T> x;
  Global<const int32_t> begin, end, weight_begin;
  Global<T> out;
  int width, out_width, column;
  int stripes;  // of a row
  Reduction reduction;
};

// A block reduces a stripe of 8 vectors' columns over a range: 8 lanes side by side read 128 bytes
// of a row, a warp four rows, the block 32. Which thread takes which row depends on the range
// alone, and sums are added in a fixed order, so neither neighbours in the batch nor the thread
// schedule change a result.
// Requires: width, out_width and column multiples of kVector.
template <typename T, int kVector>
struct PoolKernel {
  static constexpr const char* kName = "pool";
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kLanes = 8, kStripe = kLanes * kVector;
  static constexpr int kRowsAtOnce = kThreads / kLanes;
  using Params = PoolKernelParams<T>;
  struct Layout {
    alignas(16) float partial[kWarps * kStripe];
  };

  SIMT_FN static void Run(const Params& p) {
    const int r = BlockIndex() / p.stripes;
    const int stripe = (BlockIndex() - r * p.stripes) * kStripe;
    const int begin = Load<Cache::kReadOnly>(p.begin + r), end = Load<Cache::kReadOnly>(p.end + r);
    const int weight_begin = Load<Cache::kReadOnly>(p.weight_begin + r);
    const bool max = p.reduction == Reduction::kMax;

    Vector<float, kVector> result = ReduceRows(p, begin, end, weight_begin, stripe);
    SIMT_UNROLL
    for (int i = 0; i < kVector; ++i) {
      SIMT_UNROLL
      for (int mask = kLanes; mask < 32; mask *= 2) {
        result[i] = Combine(max, result[i], ShuffleXor(result[i], mask));
      }
    }
    const Shared<float> partial = SharedArray<&Layout::partial>();
    if (LaneIndex() < kLanes) {
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) {
        Store(partial + (WarpIndex() * kStripe + LaneIndex() * kVector + i), result[i]);
      }
    }
    SyncThreads();
    const int column = ThreadIndex();
    if (column >= kStripe || stripe + column >= p.width) return;
    float total = Load(partial + column);
    SIMT_UNROLL
    for (int warp = 1; warp < kWarps; ++warp) {
      total = Combine(max, total, Load(partial + (warp * kStripe + column)));
    }
    if (begin >= end) total = 0;
    Store(p.out + (static_cast<int64_t>(r) * p.out_width + p.column + stripe + column),
          FromFloat<T>(total * Scale(p.reduction, begin, end, weight_begin)));
  }

  SIMT_FN static float Combine(bool max, float a, float b) { return max ? Max(a, b) : a + b; }

  // This thread's part of the range.
  SIMT_FN static Vector<float, kVector> ReduceRows(const Params& p, int begin, int end,
                                                   int weight_begin, int stripe) {
    const bool max = p.reduction == Reduction::kMax;
    const bool weighted = p.reduction == Reduction::kWeightedMean;
    const int column = stripe + LaneIndex() % kLanes * kVector;
    Vector<float, kVector> result;
    SIMT_UNROLL
    for (int i = 0; i < kVector; ++i) result[i] = max ? -kInfinity : 0;
    if (column >= p.width) return result;
    SIMT_UNROLL_BY(8)
    for (int row = begin + ThreadIndex() / kLanes; row < end; row += kRowsAtOnce) {
      const auto x = LoadFloats<kVector>(p.x + (static_cast<int64_t>(row) * p.width + column));
      const float weight = weighted ? static_cast<float>(row - weight_begin + 1) : 1.0f;
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) {
        result[i] = max ? Max(result[i], x[i]) : Fma(weight, x[i], result[i]);
      }
    }
    return result;
  }

  SIMT_FN static float Scale(Reduction reduction, int begin, int end, int weight_begin) {
    const int count = end - begin;
    if (reduction == Reduction::kMax || count <= 0) return 1;
    if (reduction == Reduction::kMean) return Divide(1, static_cast<float>(count));
    if (reduction == Reduction::kMeanSqrtLen) return Divide(1, Sqrt(static_cast<float>(count)));
    // The weights from `first` to `last`, one apart; exact in integers.
    const int64_t first = begin - weight_begin + 1, last = end - weight_begin;
    const float weights = static_cast<float>((first + last) * count / 2);
    return Divide(1, Max(weights, 1e-9f));
  }

  static constexpr float kInfinity = __builtin_huge_valf();
};

template <typename T>
struct PickKernelParams {
  Global<const T> x;
  Global<const int32_t> rows;
  int row_offset;                    // added to each row
  Global<const int32_t> begin, end;  // optional: rows whose range is empty give zeros
  Global<T> y;
  int num_rows, width, y_width, column;
};

// y[r, column:] = x[rows[r] + row_offset]: a warp copies a row.
// Requires: width, y_width and column multiples of kVector.
template <typename T, int kVector>
struct PickKernel {
  static constexpr const char* kName = "pick_rows";
  static constexpr int kThreads = 128;
  using Params = PickKernelParams<T>;

  SIMT_FN static void Run(const Params& p) {
    const int r = BlockIndex() * (kThreads / 32) + WarpIndex();
    if (r >= p.num_rows) return;
    const bool empty =
        p.begin && Load<Cache::kReadOnly>(p.begin + r) >= Load<Cache::kReadOnly>(p.end + r);
    const int64_t row = Load<Cache::kReadOnly>(p.rows + r) + p.row_offset;
    const Global<T> y = p.y + (static_cast<int64_t>(r) * p.y_width + p.column);
    SIMT_UNROLL_BY(4)
    for (int j = LaneIndex() * kVector; j < p.width; j += 32 * kVector) {
      if constexpr (kVector == 1) {
        Store(y + j, empty ? FromFloat<T>(0) : Load(p.x + (row * p.width + j)));
      } else {
        Vector<T, kVector> values{};
        if (!empty) values = LoadVector<kVector>(p.x + (row * p.width + j));
        StoreVector(y + j, values);
      }
    }
  }
};

template <typename T>
struct NormalizeKernelParams {
  Global<T> x;
  int rows, width;
};

// A warp per row, in place: squares in one pass, the quotients in another, which finds the row in
// the first-level cache.
// Requires: width a multiple of kVector.
template <typename T, int kVector>
struct NormalizeKernel {
  static constexpr const char* kName = "normalize";
  static constexpr int kThreads = 128;
  using Params = NormalizeKernelParams<T>;

  SIMT_FN static void Run(const Params& p) {
    const int r = BlockIndex() * (kThreads / 32) + WarpIndex();
    if (r >= p.rows) return;
    const Global<T> row = p.x + static_cast<int64_t>(r) * p.width;
    const int first = LaneIndex() * kVector, stride = 32 * kVector;
    float squares = 0;
    SIMT_UNROLL_BY(4)
    for (int j = first; j < p.width; j += stride) {
      const auto x = LoadFloats<kVector>(row + j);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) squares = Fma(x[i], x[i], squares);
    }
    const float inverse = Divide(1, Max(Sqrt(WarpSum(squares)), 1e-12f));
    SIMT_UNROLL_BY(4)
    for (int j = first; j < p.width; j += stride) {
      auto x = LoadFloats<kVector>(row + j);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) x[i] *= inverse;
      StoreFloats(row + j, x);
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
