#pragma once

// The body of scores.h's TopK.
//
// A candidate is a key of 64 bits: its value, made an integer that is ordered as floats are, above
// the complement of its place, so keys are distinct and the larger one is the one that comes first
// in the answer. A block has a row. In a round it finds the next `wanted` keys below the last one
// that was taken:
//   1. each thread keeps the largest of its keys; these maxima are sorted;
//   2. at least `wanted` keys are not below the wanted-th maximum, and usually hardly more: they
//   are
//      gathered into shared memory, in whatever order they come, and sorted;
//   3. should they not fit (the large values are few threads'), the wanted-th of those that did is
//   the
//      next threshold, which lets about a quarter of them pass; the result is the same whichever
//      they were.
// Two passes over the row for k <= 256. Histograms (radix select) were not taken: logits share
// their leading bits, so a warp's shared-memory atomics fall on one bin.

#include "kernels/gpu/row_access.cuh"

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

// Requires: width a multiple of kVector; kVector == 1 with columns.
template <typename T, int kVector>
struct TopKKernel {
  static constexpr const char* kName = "top_k";
  static constexpr int kThreads = 512;
  static constexpr int kCapacity = 1024;  // of gathered keys
  static constexpr int kWantedMax = 256;
  using Params = TopKKernelParams<T>;
  struct Layout {
    alignas(16) uint64_t maxima[kThreads];
    uint64_t gathered[kCapacity];
    int num_gathered;
  };

  // Not 0; NaN is below all numbers, the zeros are equal.
  SIMT_FN static uint64_t KeyOf(float value, int place) {
    const uint32_t bits = static_cast<uint32_t>(FloatAsInt(value + 0.0f));
    uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    if (value != value) ordered = 0;
    return static_cast<uint64_t>(ordered) << 32 | ~static_cast<uint32_t>(place);
  }
  SIMT_FN static int PlaceOf(uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); }
  SIMT_FN static int ColumnOf(const Params& p, int place) {
    return p.columns ? Load<Cache::kReadOnly>(p.columns + place) : place;
  }

  SIMT_FN static Vector<float, kVector> Values(const Params& p, Global<const T> row, int place) {
    return LoadFloats<kVector>(row + ColumnOf(p, place));
  }

  // The largest of this thread's keys below `last`; 0: none.
  SIMT_FN static uint64_t Largest(const Params& p, Global<const T> row, uint64_t last) {
    uint64_t largest = 0;
    SIMT_UNROLL_BY(4)
    for (int place = ThreadIndex() * kVector; place < p.candidates; place += kThreads * kVector) {
      const auto values = Values(p, row, place);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) {
        const uint64_t key = KeyOf(values[i], place + i);
        if (key < last && key > largest) largest = key;
      }
    }
    return largest;
  }

  // Puts the keys in [threshold, last) into `gathered`, as far as there is room; returns how many
  // there are.
  SIMT_FN static int Gather(const Params& p, Global<const T> row, uint64_t threshold,
                            uint64_t last) {
    const Shared<uint64_t> gathered = SharedArray<&Layout::gathered>();
    const Shared<int> count = SharedArray<&Layout::num_gathered>();
    SyncThreads();
    if (ThreadIndex() == 0) Store(count, 0);
    SyncThreads();
    SIMT_UNROLL_BY(4)
    for (int place = ThreadIndex() * kVector; place < p.candidates; place += kThreads * kVector) {
      const auto values = Values(p, row, place);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) {
        const uint64_t key = KeyOf(values[i], place + i);
        if (key >= threshold && key < last) {
          const int slot = AtomicAdd(count, 1);
          if (slot < kCapacity) Store(gathered + slot, key);
        }
      }
    }
    SyncThreads();
    return Load(count);
  }

  // Bitonic, the largest first. All threads; count a power of two. A barrier before and after.
  SIMT_FN static void Sort(Shared<uint64_t> keys, int count) {
    SyncThreads();
    for (int size = 2; size <= count; size *= 2) {
      for (int stride = size / 2; stride > 0; stride /= 2) {
        for (int pair = ThreadIndex(); pair < count / 2; pair += kThreads) {
          const int low = 2 * pair - (pair & (stride - 1)), high = low + stride;
          const uint64_t a = Load(keys + low), b = Load(keys + high);
          if ((a < b) == ((low & size) == 0)) {
            Store(keys + low, b);
            Store(keys + high, a);
          }
        }
        SyncThreads();
      }
    }
  }

  SIMT_FN static void Run(const Params& p) {
    const int64_t r = BlockIndex();
    const Global<const T> row = p.x + r * p.width;
    const Shared<uint64_t> maxima = SharedArray<&Layout::maxima>();
    const Shared<uint64_t> gathered = SharedArray<&Layout::gathered>();
    uint64_t last = ~uint64_t{0};
    int done = 0;
    while (done < p.k) {
      Store(maxima + ThreadIndex(), Largest(p, row, last));
      Sort(maxima, kThreads);
      const int wanted = Min(p.k - done, kWantedMax);
      int found = Gather(p, row, Load(maxima + (wanted - 1)), last);
      while (found > kCapacity) {
        Sort(gathered, kCapacity);
        found = Gather(p, row, Load(gathered + (wanted - 1)), last);
      }
      int size = 32;
      while (size < found) size *= 2;
      for (int i = found + ThreadIndex(); i < size; i += kThreads) Store(gathered + i, uint64_t{0});
      Sort(gathered, size);
      for (int i = ThreadIndex(); i < wanted; i += kThreads) {
        const int column = ColumnOf(p, PlaceOf(Load(gathered + i)));
        Store(p.values + (r * p.k + done + i), Load(row + column));
        Store(p.indices + (r * p.k + done + i), column);
      }
      last = Load(gathered + (wanted - 1));
      done += wanted;
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
