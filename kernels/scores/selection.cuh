#pragma once

// A block finds the largest of many keys, in order: what top-k and the search for answer spans are.
//
// A key is 64 bits, a value made an integer that is ordered as the values are, above what tells
// equal ones apart: keys are distinct, not 0, and the larger one comes first in the answer. Keys
// are made when they are looked at (`Source`), never stored. In a round a block finds the next
// `wanted` ones below the last that was taken:
//   1. each thread keeps the largest of its keys; these maxima are sorted;
//   2. at least `wanted` keys are not below the wanted-th maximum, and usually hardly more: they
//      are gathered into shared memory, in whatever order they come, and sorted;
//   3. should they not fit (the large values are few threads'), the wanted-th of those that did is
//      the next threshold, which lets about a quarter of them pass; the result is the same
//      whichever they were.
// Two looks at every key for each 256 in the answer. Histograms (radix select) were not taken:
// logits share their leading bits, so a warp's shared-memory atomics fall on one bin.

#include "kernels/gpu/row_access.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

// The largest key below `last`; 0: none.
struct LargestBelow {
  uint64_t last, largest;

  // Whether a key of at most `bound` matters.
  SIMT_FN bool Wants(uint64_t bound) const { return bound > largest; }
  SIMT_FN void Take(uint64_t key) {
    if (key < last && key > largest) largest = key;
  }
};

// Appends the keys in [threshold, last) to `gathered`, as far as there is room, and counts them.
template <int kCapacity>
struct GatherFrom {
  uint64_t last, threshold;
  Shared<uint64_t> gathered;
  Shared<int> count;

  SIMT_FN bool Wants(uint64_t bound) const { return bound >= threshold; }
  SIMT_FN void Take(uint64_t key) const {
    if (key < threshold || key >= last) return;
    const int slot = AtomicAdd(count, 1);
    if (slot < kCapacity) Store(gathered + slot, key);
  }
};

// Source: plain data with `template <typename Taker> void Visit(Taker&) const`, which calls Take
// for each key of this thread; the same keys every time.
template <int kThreads, typename Source>
struct Selection {
  static constexpr int kCapacity = 1024;  // of gathered keys
  static constexpr int kWantedMax = 256;
  static_assert(kWantedMax <= kThreads);
  struct Layout {
    alignas(16) uint64_t maxima[kThreads];
    uint64_t gathered[kCapacity];
    int num_gathered;
  };

  // Where Next leaves its answer.
  SIMT_FN static Shared<uint64_t> Keys() { return SharedArray<&Layout::gathered>(); }

  // The next `wanted` keys below `last`, the largest first; fewer where there are no more. Returns
  // how many keys there are now, the first min(wanted, that) of which are the answer. All threads;
  // a barrier before and after.
  SIMT_FN static int Next(const Source& source, uint64_t last, int wanted) {
    const Shared<uint64_t> maxima = SharedArray<&Layout::maxima>();
    LargestBelow best{last, 0};
    source.Visit(best);
    Store(maxima + ThreadIndex(), best.largest);
    Sort(maxima, kThreads);
    int found = Gather(source, Load(maxima + (wanted - 1)), last);
    while (found > kCapacity) {
      Sort(Keys(), kCapacity);
      found = Gather(source, Load(Keys() + (wanted - 1)), last);
    }
    int size = 32;
    while (size < found) size *= 2;
    for (int i = found + ThreadIndex(); i < size; i += kThreads) Store(Keys() + i, uint64_t{0});
    Sort(Keys(), size);
    return found;
  }

 private:
  SIMT_FN static int Gather(const Source& source, uint64_t threshold, uint64_t last) {
    const Shared<int> count = SharedArray<&Layout::num_gathered>();
    SyncThreads();
    if (ThreadIndex() == 0) Store(count, 0);
    SyncThreads();
    GatherFrom<kCapacity> taker{last, threshold, Keys(), count};
    source.Visit(taker);
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
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
