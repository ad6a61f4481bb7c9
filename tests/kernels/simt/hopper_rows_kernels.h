#pragma once

// As hopper_kernels.h, for products of registers and of rows: y = a v [64, 128] of a [64, 64],
// which each warp takes into registers, and v [64, 2, 64], a tile of two planes whose rows are k.

#include "kernels/simt/hopper.h"

namespace bertrand::simt::inline SIMT_TARGET {

struct RowsKernel {
  static constexpr const char* kName = "hopper";
  static constexpr int kThreads = 160, kColumns = 128, kK = 64;
  static constexpr int kPlane = kK * kTileColumns;
  static constexpr int kBytes = 3 * 64 * kTileRowBytes;

  struct Params {
    TileMap a, v;
    Global<float> y;  // [64, 128]
  };
  struct Layout {
    alignas(1024) Half a[64 * kTileColumns];
    alignas(1024) Half v[2 * kPlane];
    PhaseBarrier loaded, ready;
  };
  using C = WgmmaC<kColumns>;
  using Words = uint32_t[kK / 16][4];

  SIMT_FN static Shared<PhaseBarrier> Loaded() { return SharedArray<&Layout::loaded>(); }
  SIMT_FN static Shared<PhaseBarrier> Ready() { return SharedArray<&Layout::ready>(); }
  SIMT_FN static bool Loads() { return WarpIndex() == 4; }

  SIMT_FN static void Begin() {
    if (ThreadIndex() == 0) {
      InitBarrier(Loaded(), 1);
      InitBarrier(Ready(), 1);
    }
    SyncThreads();
  }
  SIMT_FN static void Load(const Params& p) {
    ArriveExpecting(Loaded(), kBytes);
    LoadTile(SharedArray<&Layout::a>(), p.a, Loaded(), 0, 0);
    for (int plane = 0; plane < 2; ++plane) {
      LoadTile(SharedArray<&Layout::v>() + plane * kPlane, p.v, Loaded(), 0, plane, 0);
    }
  }
  SIMT_FN static void TakeA(Words& words) {
    const int row = 16 * WarpIndex() + LaneIndex() % 16;
    SIMT_UNROLL
    for (int k = 0; k < kK / 16; ++k) {
      const int chunk = 2 * k + LaneIndex() / 16;
      LoadMatrix(words[k],
                 SharedArray<&Layout::a>() + (row * kTileColumns + (chunk ^ (row & 7)) * 8));
    }
  }
  SIMT_FN static void Start(C& c, const Words& words, int rows = kK) {
    const WgmmaRows v = MakeRowsOperand(SharedArray<&Layout::v>(), rows);
    WgmmaFence();
    SIMT_UNROLL
    for (int k = 0; k < kK / 16; ++k) Wgmma<Half>(c, words[k], v.AtRow(16 * k), k > 0);
    WgmmaCommit();
  }
  SIMT_FN static void StoreC(const Params& p, const C& c) {
    const int row = 16 * WarpIndex() + LaneIndex() / 4, column = LaneIndex() % 4 * 2;
    SIMT_UNROLL
    for (int i = 0; i < kColumns / 2; ++i) {
      Store(p.y + ((row + i / 2 % 2 * 8) * kColumns + i / 4 * 8 + column + i % 2), c.v[i]);
    }
  }
};

// A word of A is packed anew while a product reads it.
template <bool kBroken>
struct RegistersUnderProduct : RowsKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    WaitForPhase(Loaded(), 0);
    Words words;
    C c;
    TakeA(words);
    Start(c, words);
    if (kBroken) words[2][1] = Pack<Half>(1, 2);
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

// Two words of A are taken for each other: the result shows it.
template <bool kBroken>
struct WrongFragmentOfA : RowsKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    WaitForPhase(Loaded(), 0);
    Words words;
    C c;
    TakeA(words);
    if (kBroken) {
      const uint32_t word = words[0][1];
      words[0][1] = words[0][2], words[0][2] = word;
    }
    Start(c, words);
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

// The second 64 columns are looked for behind half as many rows: the result shows it.
template <bool kBroken>
struct WrongRowsOfTile : RowsKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    WaitForPhase(Loaded(), 0);
    Words words;
    C c;
    TakeA(words);
    Start(c, words, kBroken ? kK / 2 : kK);
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

// An ordinary store into the second plane, whose rows products read.
template <bool kBroken>
struct StoreUnderRows : RowsKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) return Load(p);
    WaitForPhase(Loaded(), 0);
    Words words;
    C c;
    TakeA(words);
    Start(c, words);
    if (kBroken) Store(SharedArray<&Layout::v>() + (kPlane + ThreadIndex()), Half{0});
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

// The loading warp clears the last eight rows of v when they have come, without FenceAsync.
template <bool kBroken>
struct ClearedWithoutFence : RowsKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) {
      Load(p);
      WaitForPhase(Loaded(), 0);
      const auto v = SharedArray<&Layout::v>();
      for (int plane = 0; plane < 2; ++plane) {
        for (int i = LaneIndex(); i < 8 * kTileColumns / 8; i += 32) {
          StoreVector(v + (plane * kPlane + 56 * kTileColumns + i * 8), Vector<Half, 8>{});
        }
      }
      if (!kBroken) FenceAsync();
      ArriveAtBarrier(Ready());
      return;
    }
    WaitForPhase(Ready(), 0);
    Words words;
    C c;
    WaitForPhase(Loaded(), 0);
    TakeA(words);
    Start(c, words);
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

// A map of three dimensions, a box by two numbers.
template <bool kBroken>
struct WrongDimensions : RowsKernel {
  SIMT_FN static void Run(const Params& p) {
    Begin();
    if (Loads()) {
      if (!kBroken) return Load(p);
      ArriveExpecting(Loaded(), kBytes);
      LoadTile(SharedArray<&Layout::v>(), p.v, Loaded(), 0, 0);
      return;
    }
    WaitForPhase(Loaded(), 0);
    Words words;
    C c;
    TakeA(words);
    Start(c, words);
    WgmmaWait<0>(c);
    StoreC(p, c);
  }
};

}  // namespace bertrand::simt::inline SIMT_TARGET
