#pragma once

// Small kernels over kernels/simt/hopper.h, each right (kBroken false) and with the one mistake
// that its name says. All compute y = a b^T [64, 128] of a [64, 64] and b [128, 64]: 160 threads, a
// warpgroup of products and a warp (the last) that loads both in one stage, twice. As in
// broken_kernels.h.

#include "kernels/simt/hopper.h"

namespace bertrand::simt::inline SIMT_TARGET {

struct HopperKernel {
  static constexpr const char* kName = "hopper";
  static constexpr int kThreads = 160, kColumns = 128;
  static constexpr int kBytes = (64 + kColumns) * kTileRowBytes;

  struct Params {
    TileMap a, b;
    Global<const Half> values;  // a's
    Global<float> y;            // [64, 128]
  };
  struct Layout {
    alignas(1024) Half a[64 * kTileColumns];
    alignas(1024) Half b[kColumns * kTileColumns];
    PhaseBarrier full, empty, unused;
  };
  using C = WgmmaC<kColumns>;

  SIMT_FN static Shared<PhaseBarrier> Full() { return SharedArray<&Layout::full>(); }
  SIMT_FN static Shared<PhaseBarrier> Empty() { return SharedArray<&Layout::empty>(); }
  SIMT_FN static bool Loads() { return WarpIndex() == 4; }

  SIMT_FN static void Begin(int full_arrivals = 1, int empty_arrivals = 4) {
    if (ThreadIndex() == 0) {
      InitBarrier(Full(), full_arrivals);
      InitBarrier(Empty(), empty_arrivals);
    }
    SyncThreads();
  }
  SIMT_FN static void Load(const Params& p, int bytes = kBytes) {
    ArriveExpecting(Full(), bytes);
    LoadTile(SharedArray<&Layout::a>(), p.a, Full(), 0, 0);
    LoadTile(SharedArray<&Layout::b>(), p.b, Full(), 0, 0);
  }
  SIMT_FN static void Start(C& c, int first_k = 0) {
    const WgmmaOperand a = MakeOperand(SharedArray<&Layout::a>());
    const WgmmaOperand b = MakeOperand(SharedArray<&Layout::b>());
    SIMT_UNROLL
    for (int k = first_k; k < kTileColumns; k += 16) Wgmma<Half>(c, a.AtK(k), b.AtK(k), k > 0);
  }
  SIMT_FN static void Multiply(C& c) {
    WgmmaFence();
    Start(c);
    WgmmaCommit();
    WgmmaWait<0>(c);
  }
  SIMT_FN static void StoreC(const Params& p, const C& c, bool swapped = false) {
    const int row = 16 * WarpIndex() + LaneIndex() / 4, column = LaneIndex() % 4 * 2;
    SIMT_UNROLL
    for (int i = 0; i < kColumns / 2; ++i) {
      const int half = swapped ? i % 2 : i / 2 % 2, next = swapped ? i / 2 % 2 : i % 2;
      Store(p.y + ((row + 8 * half) * kColumns + i / 4 * 8 + column + next), c.v[i]);
    }
  }
  SIMT_FN static void Consume(const Params& p, C& c) {
    WaitForPhase(Full(), 0);
    Multiply(c);
    StoreC(p, c);
  }
};

// One stage that is filled twice; the consumers keep the second.
template <bool kBroken>
struct TwoPhases : HopperKernel {
  // The producer does not wait until the stage is empty.
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) {
      Load(p);
      if (!kBroken) WaitForPhase(Empty(), 0);
      Load(p);
      return;
    }
    C c;
    for (int i = 0; i < 2; ++i) {
      WaitForPhase(Full(), i);
      Multiply(c);
      ArriveAtBarrier(Empty());
    }
    StoreC(p, c);
  }
};

// The stage is given back while products read it.
template <bool kBroken>
struct EmptyBeforeWait : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) {
      Load(p);
      WaitForPhase(Empty(), 0);
      Load(p);
      return;
    }
    C c;
    for (int i = 0; i < 2; ++i) {
      WaitForPhase(Full(), i);
      WgmmaFence();
      Start(c);
      WgmmaCommit();
      if (kBroken) ArriveAtBarrier(Empty());
      WgmmaWait<0>(c);
      if (!kBroken) ArriveAtBarrier(Empty());
    }
    StoreC(p, c);
  }
};

// One warp tells for its warpgroup that the stage is empty.
template <bool kBroken>
struct EmptyByOneWarp : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin(1, kBroken ? 1 : 4);
    if (Loads()) {
      Load(p);
      WaitForPhase(Empty(), 0);
      Load(p);
      return;
    }
    C c;
    for (int i = 0; i < 2; ++i) {
      WaitForPhase(Full(), i);
      Multiply(c);
      if (!kBroken || WarpIndex() == 0) ArriveAtBarrier(Empty());
    }
    StoreC(p, c);
  }
};

// No wait before the products.
template <bool kBroken>
struct ReadBeforePhase : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c;
    if (!kBroken || WarpIndex() != 1) WaitForPhase(Full(), 0);
    Multiply(c);
    StoreC(p, c);
    if (kBroken && WarpIndex() == 1) WaitForPhase(Full(), 0);
  }
};

// The parity of the phase before: the wait goes on at once, or for ever when it comes late.
template <bool kBroken>
struct WrongParity : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c;
    WaitForPhase(Full(), kBroken && WarpIndex() == 2 ? 1 : 0);
    Multiply(c);
    StoreC(p, c);
  }
};

// Fewer bytes are promised than come, or more.
template <bool kBroken>
struct FewerBytes : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p, kBroken ? kBytes - kColumns * kTileRowBytes : kBytes);
    C c;
    Consume(p, c);
  }
};
template <bool kBroken>
struct MoreBytes : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p, kBroken ? kBytes + 16 : kBytes);
    C c;
    Consume(p, c);
  }
};

// An arrival that never comes.
template <bool kBroken>
struct MissingArrival : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin(kBroken ? 2 : 1);
    if (Loads()) return Load(p);
    C c;
    Consume(p, c);
  }
};

template <bool kBroken>
struct NoInit : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) {
      Load(p);
      ArriveAtBarrier(kBroken ? SharedArray<&Layout::unused>() : Empty());
      return;
    }
    C c;
    Consume(p, c);
  }
};

template <bool kBroken>
struct NoBarrierAfterInit : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    if (ThreadIndex() == 128) InitBarrier(Full(), 1);
    if (!kBroken) SyncThreads();
    if (Loads()) {
      if (kBroken) SyncWarp();
      Load(p);
    } else {
      if (kBroken) SyncWarp();
      C c;
      Consume(p, c);
    }
  }
};

// The block ends while a tile load is on its way.
template <bool kBroken>
struct LoadWithoutWait : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) {
      Load(p);
      WaitForPhase(Empty(), 0);
      if (kBroken) Load(p);
      return;
    }
    C c;
    Consume(p, c);
    ArriveAtBarrier(Empty());
  }
};

template <bool kBroken>
struct MisalignedTile : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) {
      ArriveExpecting(Full(), kBytes);
      LoadTile(SharedArray<&Layout::a>() + (kBroken ? 64 : 0), p.a, Full(), 0, 0);
      LoadTile(SharedArray<&Layout::b>(), p.b, Full(), 0, 0);
      return;
    }
    C c;
    Consume(p, c);
  }
};

// An ordinary read of a tile by another warp than those that have waited.
template <bool kBroken>
struct LoadOfTileWithoutWait : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) {
      Load(p);
      if (!kBroken) WaitForPhase(Full(), 0);
      Store(p.y + LaneIndex(), ToFloat(simt::Load(SharedArray<&Layout::a>() + LaneIndex())));
      return;
    }
    WaitForPhase(Full(), 0);
    for (int i = 32 + ThreadIndex(); i < 64 * kColumns; i += 128) Store(p.y + i, 0.0f);
  }
};

// An ordinary store into a tile that products read.
template <bool kBroken>
struct StoreUnderProduct : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c;
    WaitForPhase(Full(), 0);
    WgmmaFence();
    Start(c);
    WgmmaCommit();
    if (kBroken) Store(SharedArray<&Layout::a>() + ThreadIndex(), Half{0});
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

template <bool kBroken>
struct NoWgmmaFence : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c;
    WaitForPhase(Full(), 0);
    if (!kBroken) WgmmaFence();
    Start(c);
    WgmmaCommit();
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

// The accumulators are read too early: NaN. Nothing but the result can show it.
template <bool kBroken>
struct ReadBeforeWgmmaWait : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c;
    WaitForPhase(Full(), 0);
    WgmmaFence();
    Start(c);
    WgmmaCommit();
    if (kBroken) StoreC(p, c);
    WgmmaWait<0>(c);
    if (!kBroken) StoreC(p, c);
  }
};

// Zeroed once the first product has begun.
template <bool kBroken>
struct WriteBeforeWgmmaWait : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c;
    WaitForPhase(Full(), 0);
    WgmmaFence();
    Start(c);
    WgmmaCommit();
    if (kBroken) c.v[5] = 0;
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

template <bool kBroken>
struct ReturnBeforeWgmmaWait : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c, d;
    WaitForPhase(Full(), 0);
    Multiply(c);
    StoreC(p, c);
    WgmmaFence();
    Start(d);
    WgmmaCommit();
    if (!kBroken) WgmmaWait<0>(d);
  }
};

// One warp of four starts elsewhere in k.
template <bool kBroken>
struct DivergentWarpgroup : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c;
    WaitForPhase(Full(), 0);
    WgmmaFence();
    Start(c, kBroken && WarpIndex() == 3 ? 16 : 0);
    WgmmaCommit();
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

// Tile a is written by the threads, as LoadTile would.
template <bool kBroken>
struct NoFenceAsync : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin(5);
    if (Loads()) {
      ArriveExpecting(Full(), kColumns * kTileRowBytes);
      LoadTile(SharedArray<&Layout::b>(), p.b, Full(), 0, 0);
      return;
    }
    const auto a = SharedArray<&Layout::a>();
    for (int i = ThreadIndex(); i < 64 * 8; i += 128) {
      const int row = i / 8, chunk = i % 8;
      StoreVector(a + (row * 64 + (chunk ^ (row & 7)) * 8), LoadVector<8>(p.values + i * 8));
    }
    if (!kBroken) FenceAsync();
    ArriveAtBarrier(Full());
    C c;
    Consume(p, c);
  }
};

// Two registers of the accumulators are taken for each other: the result shows it.
template <bool kBroken>
struct WrongAccumulators : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    C c;
    WaitForPhase(Full(), 0);
    Multiply(c);
    StoreC(p, c, kBroken);
  }
};

// More registers than the block has are claimed, since nobody releases any.
template <bool kBroken>
struct TooManyRegisters : HopperKernel {
  static constexpr int kThreads = 512;
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (WarpIndex() >= 4) {
      if (!kBroken) ReleaseRegisters<40>();
      if (Loads()) Load(p);
      return;
    }
    ClaimRegisters<256>();
    C c;
    Consume(p, c);
  }
};

}  // namespace bertrand::simt::inline SIMT_TARGET
