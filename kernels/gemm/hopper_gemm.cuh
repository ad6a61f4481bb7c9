#pragma once

// The body of hopper_gemm.h. A block per multiprocessor goes through tiles of y, 128 rows each. Its
// warpgroups have parts of their own:
//
//   0     loads: one warp fills a ring of stages by tile loads (x [128][64], weight [kN][64])
//   1, 2  multiply: 64 rows of the tile each, kN columns, sums in registers, and finish them
//
// The two that multiply meet only in the ring: a stage is filled again when both have read it. They
// are never made to run abreast, so one finishes its sums (the GELU of 64 x 256 values is a tenth
// of the products' time at k = 1024) while the other has the tensor cores, as far as the ring
// reaches.
//
// Tiles go in bands of kBandRows tiles of rows, columns outside, rows inside: what 132 blocks work
// on at a time is about square, so the second-level cache reads least.

#include "kernels/bias_activation/epilogue.cuh"
#include "kernels/gemm/hopper_tile.cuh"
#include "kernels/gemm/transpose_quad.cuh"
#include "kernels/simt/hopper.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// x Phi(x) = max(x, 0) - |x| Phi(-|x|), and log2 Phi(-h) is a smooth function: a polynomial of
// degree 7, minimax on [0, 6], error 3.9e-6 of Phi; beyond it falls on to -infinity. One
// special-function operation and nine others; erff takes about 25. What is not finite stays so.
SIMT_FN float GeluByTail(float x) {
  const float h = simt::Abs(x);
  float log2_tail = simt::Fma(h, -1.7937851e-6f, 6.0726255e-5f);
  log2_tail = simt::Fma(h, log2_tail, -9.2318646e-4f);
  log2_tail = simt::Fma(h, log2_tail, 8.4768501e-3f);
  log2_tail = simt::Fma(h, log2_tail, -5.3890944e-2f);
  log2_tail = simt::Fma(h, log2_tail, -4.5854158e-1f);
  log2_tail = simt::Fma(h, log2_tail, -1.1512144f);
  log2_tail = simt::Fma(h, log2_tail, -1.0f);
  return simt::Fma(-h, simt::Exp2(log2_tail), simt::Max(x, 0.0f));
}

// With GELU there is no residual.
template <typename T, int kTileIndex, bool kGelu>
struct HopperGemmKernel {
  static constexpr const char* kName = "hopper_gemm";
  static constexpr int kThreads = 384;
  static constexpr bool kWaitsItself = true;
  static constexpr int kM = kHopperTileRows, kN = kHopperTileColumns[kTileIndex];
  static constexpr int kK = kHopperTileK, kStages = HopperStages(kN);
  static constexpr int kStageBytes = (kM + kN) * kK * 2;
  static constexpr int kBandRows = 16;
  // Of 65536: 128 x 40 + 256 x 232 = 64512.
  static constexpr int kLoaderRegisters = 40, kMultiplierRegisters = 232;

  struct Params {
    simt::TileMap x;       // [m, k] in boxes of kM rows
    simt::TileMap weight;  // [n, k] in boxes of kN rows
    Epilogue<T> epilogue;
    int m, n, k;
  };
  struct Layout {
    alignas(1024) T x[kStages][kM * kK];
    alignas(1024) T weight[kStages][kN * kK];
    simt::PhaseBarrier full[kStages], empty[kStages];
  };
  using Sums = simt::WgmmaC<kN>;

  // A place in the ring; what lies there has been there `parity` (modulo 2) times before.
  struct Place {
    int stage = 0, parity = 0;
    SIMT_FN void Next() {
      if (++stage == kStages) stage = 0, parity ^= 1;
    }
  };
  SIMT_FN static simt::Shared<simt::PhaseBarrier> Full(int stage) {
    return simt::SharedArray<&Layout::full>() + stage;
  }
  SIMT_FN static simt::Shared<simt::PhaseBarrier> Empty(int stage) {
    return simt::SharedArray<&Layout::empty>() + stage;
  }
  SIMT_FN static simt::Shared<T> X(int stage) {
    return simt::SharedArray<&Layout::x>() + stage * (kM * kK);
  }
  SIMT_FN static simt::Shared<T> Weight(int stage) {
    return simt::SharedArray<&Layout::weight>() + stage * (kN * kK);
  }

  struct Tile {
    int row, column;
  };
  SIMT_FN static int NumTiles(const Params& p) {
    return simt::DivideUp(p.m, kM) * simt::DivideUp(p.n, kN);
  }
  SIMT_FN static Tile TileAt(const Params& p, int index) {
    const int m_tiles = simt::DivideUp(p.m, kM), band_tiles = kBandRows * simt::DivideUp(p.n, kN);
    const int first = index / band_tiles * kBandRows, within = index % band_tiles;
    const int rows = simt::Min(kBandRows, m_tiles - first);
    return {(first + within % rows) * kM, within / rows * kN};
  }

  // Weights are no kernel's output, so those of the first ring come before the wait.
  SIMT_FN static void LoadTiles(const Params& p) {
    const int k_tiles = simt::DivideUp(p.k, kK);
    const int early = simt::Min(k_tiles, kStages);
    const Tile first = TileAt(p, simt::BlockIndex());
    for (int i = 0; i < early; ++i) {
      simt::ArriveExpecting(Full(i), kStageBytes);
      simt::LoadTile(Weight(i), p.weight, Full(i), i * kK, first.column);
    }
    simt::WaitForEarlierKernels();
    Place place;
    int ahead = early;
    for (int index = simt::BlockIndex(); index < NumTiles(p); index += simt::NumBlocks()) {
      const Tile tile = TileAt(p, index);
      for (int i = 0; i < k_tiles; ++i, place.Next()) {
        if (ahead > 0) {
          --ahead;
        } else {
          simt::WaitForPhase(Empty(place.stage), place.parity ^ 1);
          simt::ArriveExpecting(Full(place.stage), kStageBytes);
          simt::LoadTile(Weight(place.stage), p.weight, Full(place.stage), i * kK, tile.column);
        }
        simt::LoadTile(X(place.stage), p.x, Full(place.stage), i * kK, tile.row);
      }
    }
  }

  SIMT_FN static void MultiplyStage(Sums& sums, int stage, bool accumulate) {
    const auto x = simt::MakeOperand(X(stage) + (simt::WarpIndex() / 4 - 1) * (64 * kK));
    const auto weight = simt::MakeOperand(Weight(stage));
    simt::WgmmaFence();
    SIMT_UNROLL
    for (int k = 0; k < kK; k += 16) {
      simt::Wgmma<T>(sums, x.AtK(k), weight.AtK(k), accumulate || k > 0);
    }
    simt::WgmmaCommit();
  }

  // A stage is given back when the products of the next one are on their way.
  SIMT_FN static void MultiplyTile(Sums& sums, Place& place, int k_tiles) {
    simt::WaitForPhase(Full(place.stage), place.parity);
    MultiplyStage(sums, place.stage, false);
    int previous = place.stage;
    place.Next();
    for (int i = 1; i < k_tiles; ++i) {
      simt::WaitForPhase(Full(place.stage), place.parity);
      MultiplyStage(sums, place.stage, true);
      simt::WgmmaWait<1>(sums);
      simt::ArriveAtBarrier(Empty(previous));
      previous = place.stage;
      place.Next();
    }
    simt::WgmmaWait<0>(sums);
    simt::ArriveAtBarrier(Empty(previous));
  }

  // Four blocks of eight columns of a row at a time: a lane has two columns of each, and takes
  // eight of one for what it reads and writes: 64 bytes of a row by four lanes.
  SIMT_FN static void FinishTile(const Params& p, const Tile& tile, const Sums& sums) {
    const int lane = simt::LaneIndex();
    const int row = tile.row + (simt::WarpIndex() - 4) * 16 + lane / 4;
    SIMT_UNROLL
    for (int first = 0; first < kN; first += 32) {
      const int column = tile.column + first + lane % 4 * 8;
      uint32_t bias[4] = {};
      if (p.epilogue.bias) LoadBias(bias, p, tile.column + first);
      SIMT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int64_t at = int64_t{row + 8 * half} * p.n + column;
        const bool inside = row + 8 * half < p.m && column < p.n;
        uint32_t residual[4] = {};
        if (!kGelu && p.epilogue.residual) LoadResidual(residual, p, at, inside);
        uint32_t words[4];
        SIMT_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int v = (first / 8 + i) * 4 + half * 2;
          words[i] = FinishPair(sums.v[v], sums.v[v + 1], bias[i], residual[i]);
        }
        TransposeQuad(words);
        if (inside) {
          const simt::Vector<uint32_t, 4> vector = {{words[0], words[1], words[2], words[3]}};
          simt::StoreVector(simt::Cast<uint32_t>(p.epilogue.y + at), vector);
        }
      }
    }
  }
  // The lane's two columns of each of the four blocks; zeros where a block is outside.
  SIMT_FN static void LoadBias(uint32_t (&words)[4], const Params& p, int column) {
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int at = column + 8 * i;
      if (at >= p.n) continue;
      words[i] = simt::Load<simt::Cache::kReadOnly>(
          simt::Cast<const uint32_t>(p.epilogue.bias + (at + simt::LaneIndex() % 4 * 2)));
    }
  }
  // Likewise, of the residual's row: the lane reads eight columns of the block that it will write.
  SIMT_FN static void LoadResidual(uint32_t (&words)[4], const Params& p, int64_t at, bool inside) {
    if (inside) {
      const auto vector = simt::LoadVector<4>(simt::Cast<const uint32_t>(p.epilogue.residual + at));
      SIMT_UNROLL
      for (int i = 0; i < 4; ++i) words[i] = vector[i];
    }
    TransposeQuad(words);
  }
  SIMT_FN static uint32_t FinishPair(float low, float high, uint32_t bias, uint32_t residual) {
    float more_low, more_high;
    simt::Unpack<T>(bias, more_low, more_high);
    low += more_low, high += more_high;
    if constexpr (kGelu) return simt::Pack<T>(GeluByTail(low), GeluByTail(high));
    simt::Unpack<T>(residual, more_low, more_high);
    return simt::Pack<T>(low + more_low, high + more_high);
  }

  SIMT_FN static void MultiplyTiles(const Params& p) {
    const int k_tiles = simt::DivideUp(p.k, kK);
    Place place;
    for (int index = simt::BlockIndex(); index < NumTiles(p); index += simt::NumBlocks()) {
      Sums sums;
      MultiplyTile(sums, place, k_tiles);
      FinishTile(p, TileAt(p, index), sums);
    }
  }

  SIMT_FN static void Run(const Params& p) {
    if (simt::ThreadIndex() == 0) {
      SIMT_UNROLL
      for (int stage = 0; stage < kStages; ++stage) {
        simt::InitBarrier(Full(stage), 1);
        simt::InitBarrier(Empty(stage), 8);  // the warps that multiply
      }
    }
    simt::SyncThreads();
    if (simt::WarpIndex() < 4) {
      simt::ReleaseRegisters<kLoaderRegisters>();
      if (simt::WarpIndex() == 0) {
        LoadTiles(p);
      } else {
        simt::WaitForEarlierKernels();
      }
    } else {
      simt::ClaimRegisters<kMultiplierRegisters>();
      simt::WaitForEarlierKernels();
      MultiplyTiles(p);
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
