#pragma once

// The body of scores.h's TopK: a block has a row, whose columns are the keys of a selection.

#include "kernels/gpu/row_access.cuh"
#include "kernels/scores/selection.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T>
struct TopKKernelParams {
  Global<const T> x;
  Global<const int32_t> columns;  // optional
  Global<T> values;
  Global<int32_t> indices;
  int width;
  int candidates;  // width without columns
  int k;
};

// A row's values as keys, above the complement of their places.
template <typename T, int kVector, int kThreads>
struct RowKeys {
  Global<const T> row;
  Global<const int32_t> columns;
  int candidates;

  // Not 0; NaN is below all numbers, the zeros are equal.
  SIMT_FN static uint64_t KeyOf(float value, int place) {
    const uint32_t bits = static_cast<uint32_t>(FloatAsInt(value + 0.0f));
    uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    if (value != value) ordered = 0;
    return static_cast<uint64_t>(ordered) << 32 | ~static_cast<uint32_t>(place);
  }
  SIMT_FN static int PlaceOf(uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); }
  SIMT_FN int ColumnOf(int place) const {
    return columns ? Load<Cache::kReadOnly>(columns + place) : place;
  }

  template <typename Taker>
  SIMT_FN void Visit(Taker& taker) const {
    // By 4 sm_100 spills.
    SIMT_UNROLL_BY(2)
    for (int place = ThreadIndex() * kVector; place < candidates; place += kThreads * kVector) {
      const auto values = LoadFloats<kVector>(row + ColumnOf(place));
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) taker.Take(KeyOf(values[i], place + i));
    }
  }
};

// Requires: width a multiple of kVector; kVector == 1 with columns.
template <typename T, int kVector>
struct TopKKernel {
  static constexpr const char* kName = "top_k";
  static constexpr int kThreads = 512;
  using Params = TopKKernelParams<T>;
  using Keys = RowKeys<T, kVector, kThreads>;
  using Selector = Selection<kThreads, Keys>;
  using Layout = typename Selector::Layout;

  SIMT_FN static void Run(const Params& p) {
    const int64_t r = BlockIndex();
    const Global<const T> row = p.x + r * p.width;
    const Keys keys{row, p.columns, p.candidates};
    uint64_t last = ~uint64_t{0};
    for (int done = 0; done < p.k;) {
      const int wanted = Min(p.k - done, Selector::kWantedMax);
      Selector::Next(keys, last, wanted);
      for (int i = ThreadIndex(); i < wanted; i += kThreads) {
        const int column = keys.ColumnOf(Keys::PlaceOf(Load(Selector::Keys() + i)));
        Store(p.values + (r * p.k + done + i), Load(row + column));
        Store(p.indices + (r * p.k + done + i), column);
      }
      last = Load(Selector::Keys() + (wanted - 1));
      done += wanted;
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
