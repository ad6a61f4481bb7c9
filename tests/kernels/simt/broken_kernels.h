#pragma once

// Small kernels, each in two versions: right (kBroken false) and with the one mistake that its name
// says. The emulator must find every mistake under every thread order, and nothing in the right
// versions (broken_kernels_test.cc). docs/emulator.md lists them.
//
// All run with 64 threads (two warps) unless they say otherwise, and read and write Params.

#include "kernels/simt/simt.h"

namespace bertrand::simt::inline SIMT_TARGET {

inline constexpr int kBlock = 64;

struct BrokenParams {
  Global<const float> x;      // 256 floats
  Global<float> y;            // 256 floats, unwritten
  Global<const Half> a;       // 16 x 16
  Global<const Half> b;       // 8 x 16
  Global<int> counter;        // one, 0
  Global<const float> slice;  // a workspace slice of 64 floats, as a view of 65
};

struct BrokenKernel {
  static constexpr const char* kName = "broken";
  static constexpr int kThreads = kBlock;
  using Params = BrokenParams;
  struct Layout {
    alignas(16) float s[kBlock];
    float t[kBlock];
    alignas(16) Half half[16 * 16];
    alignas(16) float stages[2][kBlock];
  };
};

// Reads what another warp wrote, without the barrier before the read.
template <bool kBroken>
struct NoBarrierBeforeRead : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto s = SharedArray<&Layout::s>();
    Store(s + ThreadIndex(), 0.0f);
    SyncThreads();
    Store(s + ThreadIndex(), Load(p.x + ThreadIndex()));
    if (!kBroken) SyncThreads();
    Store(p.y + ThreadIndex(), Load(s + (ThreadIndex() + 32) % kBlock));
  }
};

// Overwrites what another warp may still be reading.
template <bool kBroken>
struct NoBarrierAfterRead : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto s = SharedArray<&Layout::s>();
    float sum = 0;
    for (int i = 0; i < 2; ++i) {
      Store(s + ThreadIndex(), Load(p.x + i * kBlock + ThreadIndex()));
      SyncThreads();
      sum += Load(s + (ThreadIndex() + 32) % kBlock);
      if (!kBroken) SyncThreads();
    }
    Store(p.y + ThreadIndex(), sum);
  }
};

// Overwrites what both warps have read, in orders that let the other one read first.
template <bool kBroken>
struct NoBarrierAfterAllRead : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto s = SharedArray<&Layout::s>();
    if (ThreadIndex() == 0) Store(s, Load(p.x));
    SyncThreads();
    const float value = ShuffleXor(Load(s), 1);
    if (!kBroken) SyncThreads();
    if (ThreadIndex() == 0) Store(s, 2 * value);
    Store(p.y + ThreadIndex(), value);
  }
};

// Passes values between the lanes of a warp through shared memory. The shuffle orders nothing.
template <bool kBroken>
struct NoSyncWarp : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto s = SharedArray<&Layout::s>().Slice(32 * WarpIndex(), 32);
    Store(s + LaneIndex(), Load(p.x + ThreadIndex()));
    if (!kBroken) SyncWarp();
    const float other = ShuffleXor(1.0f, 1);
    Store(p.y + ThreadIndex(), other * Load(s + (LaneIndex() + 1) % 32));
  }
};

// A row that its own lane has written is not ready for the warp's ldmatrix.
template <bool kBroken>
struct NoSyncWarpBeforeLoadMatrix : BrokenKernel {
  static constexpr int kThreads = 32;
  SIMT_FN static void Run(const Params& p) {
    const auto rows = SharedArray<&Layout::half>();
    if (LaneIndex() < 16) {
      for (int i = 0; i < 16; i += 8) {
        StoreVector(rows + 16 * LaneIndex() + i, LoadVector<8>(p.a + 16 * LaneIndex() + i));
      }
    }
    if (!kBroken) SyncWarp();
    uint32_t r[1];
    LoadMatrix(r, rows + 16 * (LaneIndex() % 16));
    Store(p.y + LaneIndex(), static_cast<float>(r[0] != 0));
  }
};

// y = a b by one mma; two registers of A are swapped. Nothing but the result can show it.
template <bool kBroken>
struct WrongFragment : BrokenKernel {
  static constexpr int kThreads = 32;
  SIMT_FN static void Run(const Params& p) {
    const int g = LaneIndex() / 4, t = LaneIndex() % 4;
    const auto a = Cast<const uint32_t>(p.a), b = Cast<const uint32_t>(p.b);
    MmaA left;
    left.r[0] = Load(a + 8 * g + t);
    left.r[kBroken ? 2 : 1] = Load(a + 8 * (g + 8) + t);
    left.r[kBroken ? 1 : 2] = Load(a + 8 * g + t + 4);
    left.r[3] = Load(a + 8 * (g + 8) + t + 4);
    const MmaB right = {{Load(b + 8 * g + t), Load(b + 8 * g + t + 4)}};
    MmaC c = {};
    Mma<Half>(c, left, right);
    for (int i = 0; i < 4; ++i) Store(p.y + 8 * (g + 8 * (i / 2)) + 2 * t + i % 2, c.v[i]);
  }
};

template <bool kBroken>
struct ReadPastEnd : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    Store(p.y + ThreadIndex(), Load(p.x + ThreadIndex() + (kBroken ? 193 : 192)));
  }
};

template <bool kBroken>
struct WriteBeforeBegin : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    Store(p.y + (ThreadIndex() - (kBroken ? 1 : 0)), Load(p.x + ThreadIndex()));
  }
};

// The view is one float longer than the slice it stands for, as a wrong size in a launcher makes
// it.
template <bool kBroken>
struct ReadPastSlice : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    Store(p.y + ThreadIndex(), Load(p.slice + ThreadIndex() + (kBroken ? 1 : 0)));
  }
};

// From one array of the layout into the next.
template <bool kBroken>
struct PastSharedArray : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    Store(SharedArray<&Layout::t>() + ThreadIndex(), 1.0f);
    const auto s = SharedArray<&Layout::s>();
    Store(s + ThreadIndex(), Load(p.x + ThreadIndex()));
    SyncThreads();
    Store(p.y + ThreadIndex(), Load(s + ThreadIndex() + (kBroken ? 1 : 0)));
  }
};

template <bool kBroken>
struct RaceBetweenWarps : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto s = SharedArray<&Layout::s>();
    if (LaneIndex() == 0) Store(s + (kBroken ? 0 : WarpIndex()), Load(p.x + WarpIndex()));
    SyncThreads();
    Store(p.y + ThreadIndex(), Load(s));
  }
};

// Two blocks write to the same place of global memory.
template <bool kBroken>
struct RaceBetweenBlocks : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const int block = kBroken ? 0 : BlockIndex();
    Store(p.y + block * kBlock + ThreadIndex(), Load(p.x + ThreadIndex()));
  }
};

// Reads what the kernel before it wrote, and writes what that one read, while it may still run.
template <bool kBroken>
struct ReadOfEarlierKernel : BrokenKernel {
  static constexpr bool kWaitsItself = true;
  SIMT_FN static void Run(const Params& p) {
    if (!kBroken) WaitForEarlierKernels();
    const float value = Load(p.x + ThreadIndex());
    WaitForEarlierKernels();
    Store(p.y + ThreadIndex(), value);
  }
};
template <bool kBroken>
struct ReadOnlyOfEarlierKernel : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    constexpr Cache kCache = kBroken ? Cache::kReadOnly : Cache::kDefault;
    Store(p.y + ThreadIndex(), Load<kCache>(p.x + ThreadIndex()));
  }
};
template <bool kBroken>
struct WriteOverEarlierKernel : BrokenKernel {
  static constexpr bool kWaitsItself = true;
  SIMT_FN static void Run(const Params& p) {
    if (!kBroken) WaitForEarlierKernels();
    Store(p.y + ThreadIndex(), 1.0f);
    WaitForEarlierKernels();
  }
};
template <bool kBroken>
struct NoWaitForEarlierKernels : BrokenKernel {
  static constexpr bool kWaitsItself = true;
  SIMT_FN static void Run(const Params& p) {
    if (kBroken && ThreadIndex() == 7) return;
    WaitForEarlierKernels();
    Store(p.y + ThreadIndex(), Load(p.x + ThreadIndex()));
  }
};

// Two stages of one float a thread. Broken: waits for all but one group where the one it reads is
// the last; on a GPU mostly right.
template <bool kBroken>
struct StaleStage : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto stages = SharedArray<&Layout::stages>();
    float sum = 0;
    CopyAsync<4>(stages + ThreadIndex(), p.x + ThreadIndex());
    CopyAsyncCommit();
    for (int i = 0; i < 3; ++i) {
      if (i + 1 < 3) {
        CopyAsync<4>(stages + (i + 1) % 2 * kBlock + ThreadIndex(),
                     p.x + (i + 1) * kBlock + ThreadIndex());
        CopyAsyncCommit();
      }
      if (i + 1 < 3 || kBroken) {
        CopyAsyncWait<1>();
      } else {
        CopyAsyncWait<0>();
      }
      SyncThreads();
      sum += Load(stages + i % 2 * kBlock + (ThreadIndex() + 32) % kBlock);
      SyncThreads();
    }
    Store(p.y + ThreadIndex(), sum);
  }
};

// The next copy into a stage starts while another warp may still read it.
template <bool kBroken>
struct OverwrittenStage : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto stage = SharedArray<&Layout::s>();
    float sum = 0;
    for (int i = 0; i < 2; ++i) {
      CopyAsync<4>(stage + ThreadIndex(), p.x + i * kBlock + ThreadIndex());
      CopyAsyncCommit();
      CopyAsyncWait<0>();
      SyncThreads();
      sum += Load(stage + (ThreadIndex() + 32) % kBlock);
      if (!kBroken) SyncThreads();
    }
    Store(p.y + ThreadIndex(), sum);
  }
};

template <bool kBroken>
struct ReadBeforeWait : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto s = SharedArray<&Layout::s>();
    CopyAsync<4>(s + ThreadIndex(), p.x + ThreadIndex());
    CopyAsyncCommit();
    if (!kBroken) CopyAsyncWait<0>();
    Store(p.y + ThreadIndex(), Load(s + ThreadIndex()));
  }
};

// Each thread waits for its own copies alone.
template <bool kBroken>
struct WaitWithoutBarrier : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto s = SharedArray<&Layout::s>();
    Store(s + ThreadIndex(), 0.0f);
    SyncThreads();
    CopyAsync<4>(s + ThreadIndex(), p.x + ThreadIndex());
    CopyAsyncCommit();
    CopyAsyncWait<0>();
    if (!kBroken) SyncThreads();
    Store(p.y + ThreadIndex(), Load(s + (ThreadIndex() + 1) % kBlock));
  }
};

// Two shuffles where one was meant: each half of the warp would get the other's.
template <bool kBroken>
struct DivergentShuffle : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    float value = Load(p.x + ThreadIndex());
    if (kBroken && LaneIndex() < 16) {
      value = ShuffleXor(value, 1);
    } else {
      value = ShuffleXor(value, 1);
    }
    Store(p.y + ThreadIndex(), value);
  }
};

template <bool kBroken>
struct DifferentMasks : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const int mask = kBroken && LaneIndex() == 7 ? 2 : 1;
    Store(p.y + ThreadIndex(), ShuffleXor(Load(p.x + ThreadIndex()), mask));
  }
};

template <bool kBroken>
struct ReturnBeforeShuffle : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    if (kBroken && ThreadIndex() == 40) return;
    Store(p.y + ThreadIndex(), WarpSum(Load(p.x + ThreadIndex())));
  }
};

template <bool kBroken>
struct MisalignedVector : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto v = LoadVector<4>(p.x + 2 * ThreadIndex() / 4 * 4 + (kBroken ? 2 : 0));
    Store(p.y + ThreadIndex(), v[0]);
  }
};

template <bool kBroken>
struct UninitialisedShared : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto s = SharedArray<&Layout::s>();
    if (!kBroken || ThreadIndex() < 63) Store(s + ThreadIndex(), Load(p.x + ThreadIndex()));
    SyncThreads();
    Store(p.y + ThreadIndex(), Load(s + (ThreadIndex() + 1) % kBlock));
  }
};

template <bool kBroken>
struct UninitialisedGlobal : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    if (!kBroken) Store(p.y + ThreadIndex(), 1.0f);
    Store(p.y + ThreadIndex(), Load(p.y + ThreadIndex()) + 1.0f);
  }
};

template <bool kBroken>
struct AbsentOperand : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    const Global<const float> absent = kBroken ? Global<const float>() : p.x;
    Store(p.y + ThreadIndex(), Load(absent + ThreadIndex()));
  }
};

// Half of a warp waits for the block, the other half for the warp.
template <bool kBroken>
struct Deadlock : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    if (kBroken && LaneIndex() < 16) {
      SyncThreads();
      SyncWarp();
    } else {
      SyncWarp();
      SyncThreads();
    }
    Store(p.y + ThreadIndex(), 1.0f);
  }
};

template <bool kBroken>
struct DivergentBarrier : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    if (kBroken && WarpIndex() == 1) {
      SyncThreads();
    } else if (kBroken) {
      SyncThreads();
    }
    if (!kBroken) SyncThreads();
    Store(p.y + ThreadIndex(), 1.0f);
  }
};

// An atomic sum is complete for others after a barrier only.
template <bool kBroken>
struct ReadOfAtomic : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    AtomicAdd(p.counter, 1);
    if (!kBroken) SyncThreads();
    Store(p.y + ThreadIndex(), static_cast<float>(Load(p.counter)));
  }
};

// Atomics beside another thread's ordinary store.
template <bool kBroken>
struct AtomicBesideStore : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    if (ThreadIndex() == 0) Store(p.counter, 7);
    if (!kBroken) SyncThreads();
    if (ThreadIndex() != 0) AtomicAdd(p.counter, 1);
    Store(p.y + ThreadIndex(), 0.0f);
  }
};

// Leaves the last output unwritten: found when it is copied to the host.
template <bool kBroken>
struct MissingOutput : BrokenKernel {
  SIMT_FN static void Run(const Params& p) {
    if (!kBroken || ThreadIndex() < 63) Store(p.y + ThreadIndex(), Load(p.x + ThreadIndex()));
  }
};

}  // namespace bertrand::simt::inline SIMT_TARGET
