#pragma once

// The bodies of small_gemm.h: tensor-core tiles fed by a ring of stages in shared memory, and the
// sum over splits of k.
//
// A stage holds k-tiles of x and of the weight, rows of kK values. The 16-byte chunk c of row r
// lies at c ^ (r & 7): the eight rows of one ldmatrix matrix are in eight different chunks modulo
// 128 bytes, and cp.async writes whole rows, so neither has bank conflicts.
//
//   stage:  x tile  [kM][kK]   row r: chunk 0^r 1^r 2^r ...      warps: kWarpsM x kWarpsN over the
//           w tile  [kN][kK]                                     outputs, each k-tile shared out
//                                                                among kWarpsK of them
//
// Weights go first into the prologue: no kernel writes them, so they are on their way while the
// kernel before this one ends.

#include "kernels/bias_activation/epilogue.cuh"
#include "kernels/gemm/gemm_tile.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T, int kTileIndex>
struct SmallGemmKernel {
  static constexpr GemmTile kTile = kGemmTiles[kTileIndex];
  static constexpr const char* kName = "small_gemm";
  static constexpr int kThreads = kTile.threads();
  static constexpr bool kWaitsItself = true;
  static constexpr int kM = kTile.m, kN = kTile.n, kK = kTile.k, kStages = kTile.stages;
  static constexpr int kWarpsN = kTile.warps_n, kWarpsK = kTile.warps_k;
  static constexpr int kWarpRows = kM / kTile.warps_m, kWarpColumns = kN / kWarpsN;
  static constexpr int kFragmentsM = kWarpRows / 16, kFragmentsN = kWarpColumns / 8;
  static constexpr int kChunks = kK / 8;
  static constexpr int kStageValues = kTile.stage_bytes() / 2;
  static constexpr int kSumPitch = kTile.sum_pitch();
  static_assert(kWarpRows % 16 == 0 && kWarpColumns % 16 == 0 && kK % (16 * kWarpsK) == 0);
  static_assert(kK % 64 == 0 && kThreads % kChunks == 0);

  struct Params {
    simt::Global<const T> x;       // [m, k], rows 16-byte aligned
    simt::Global<const T> weight;  // [n, k], likewise
    Epilogue<T> epilogue;
    simt::Global<float> partial;  // [splits, m, n rounded up to 4]; absent with one split
    int m, n, k;
    int m_tiles, n_tiles;
    int k_per_split;  // a multiple of kK
  };
  struct Layout {
    // The ring; after it the warps' sums, [kWarpsK][kM][kSumPitch] floats.
    alignas(128) T values[kTile.shared_bytes() / 2];
  };

  // The block's outputs and its part of k.
  struct Part {
    int row, column, split;
    int k_begin, k_end, k_tiles;
  };

  SIMT_FN static Part ThisPart(const Params& p) {
    // Tiles of the same weight rows are neighbours: they share its reads of memory.
    const int tile = simt::BlockIndex();
    Part part;
    part.row = tile % p.m_tiles * kM;
    part.column = tile / p.m_tiles % p.n_tiles * kN;
    part.split = tile / (p.m_tiles * p.n_tiles);
    part.k_begin = part.split * p.k_per_split;
    part.k_end = simt::Min(p.k, part.k_begin + p.k_per_split);
    part.k_tiles = simt::DivideUp(part.k_end - part.k_begin, kK);
    return part;
  }

  SIMT_FN static int Place(int row, int chunk) { return row * kK + (chunk ^ (row & 7)) * 8; }

  // Starts the copy of rows [first_row, first_row + kRows) and columns [column, column + kK) of
  // `from` [num_rows, k]; what lies beyond it or k_end becomes zero.
  template <int kRows>
  SIMT_FN static void CopyTile(simt::Shared<T> to, simt::Global<const T> from, int first_row,
                               int num_rows, int column, int k_end, int k) {
    SIMT_UNROLL
    for (int first = 0; first < kRows * kChunks; first += kThreads) {
      const int index = first + simt::ThreadIndex();
      if (kRows * kChunks % kThreads != 0 && index >= kRows * kChunks) break;
      const int row = index / kChunks, chunk = index % kChunks;
      const int from_row = first_row + row, from_column = column + chunk * 8;
      const bool inside = from_row < num_rows && from_column < k_end;
      const int64_t at = inside ? int64_t{from_row} * k + from_column : 0;
      simt::CopyAsync<16>(to + Place(row, chunk), from + at, inside ? 16 : 0);
    }
  }

  SIMT_FN static simt::Shared<T> Stage(int stage) {
    return simt::SharedArray<&Layout::values>().Slice(stage * kStageValues, kStageValues);
  }
  SIMT_FN static void CopyX(const Params& p, const Part& part, int k_tile, int stage) {
    CopyTile<kM>(Stage(stage), p.x, part.row, p.m, part.k_begin + k_tile * kK, part.k_end, p.k);
  }
  SIMT_FN static void CopyWeight(const Params& p, const Part& part, int k_tile, int stage) {
    CopyTile<kN>(Stage(stage) + kM * kK, p.weight, part.column, p.n, part.k_begin + k_tile * kK,
                 part.k_end, p.k);
  }

  struct Fragments {
    simt::MmaA a[kFragmentsM];
    simt::MmaB b[kFragmentsN];
  };
  struct Sums {
    simt::MmaC c[kFragmentsM][kFragmentsN];
  };

  // The warp's place in the block.
  SIMT_FN static int WarpK() { return simt::WarpIndex() % kWarpsK; }
  SIMT_FN static int WarpColumn() { return simt::WarpIndex() / kWarpsK % kWarpsN * kWarpColumns; }
  SIMT_FN static int WarpRow() { return simt::WarpIndex() / (kWarpsK * kWarpsN) * kWarpRows; }

  // `step` counts 16 of k within the stage.
  SIMT_FN static void LoadFragments(Fragments& fragments, simt::Shared<T> stage, int step) {
    const int lane = simt::LaneIndex();
    const int a_row = WarpRow() + lane % 16, a_chunk = 2 * step + lane / 16;
    SIMT_UNROLL
    for (int i = 0; i < kFragmentsM; ++i) {
      simt::LoadMatrix(fragments.a[i].r, stage + Place(a_row + 16 * i, a_chunk));
    }
    const simt::Shared<T> weight = stage + kM * kK;
    const int b_row = WarpColumn() + lane % 8 + lane / 16 * 8, b_chunk = 2 * step + lane / 8 % 2;
    SIMT_UNROLL
    for (int j = 0; j < kFragmentsN; j += 2) {
      uint32_t r[4];
      simt::LoadMatrix(r, weight + Place(b_row + 8 * j, b_chunk));
      fragments.b[j] = {{r[0], r[1]}};
      fragments.b[j + 1] = {{r[2], r[3]}};
    }
  }

  SIMT_FN static void Multiply(Sums& sums, const Fragments& fragments) {
    SIMT_UNROLL
    for (int i = 0; i < kFragmentsM; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < kFragmentsN; ++j) {
        simt::Mma<T>(sums.c[i][j], fragments.a[i], fragments.b[j]);
      }
    }
  }

  // Fragments of the next step are loaded before the products of this one, which hide them.
  SIMT_FN static void MultiplyStage(Sums& sums, simt::Shared<T> stage) {
    constexpr int kSteps = kK / 16 / kWarpsK;
    Fragments fragments[2];
    LoadFragments(fragments[0], stage, WarpK());
    SIMT_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      if (step + 1 < kSteps) {
        LoadFragments(fragments[(step + 1) % 2], stage, (step + 1) * kWarpsK + WarpK());
      }
      Multiply(sums, fragments[step % 2]);
    }
  }

  SIMT_FN static void StoreSums(simt::Shared<float> to, const Sums& sums) {
    const int lane = simt::LaneIndex();
    to = to + (WarpK() * kM * kSumPitch + (WarpRow() + lane / 4) * kSumPitch + WarpColumn() +
               lane % 4 * 2);
    SIMT_UNROLL
    for (int i = 0; i < kFragmentsM; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < kFragmentsN; ++j) {
        const float(&v)[4] = sums.c[i][j].v;
        const int at = 16 * i * kSumPitch + 8 * j;
        simt::StoreVector(to + at, simt::Vector<float, 2>{{v[0], v[1]}});
        simt::StoreVector(to + (at + 8 * kSumPitch), simt::Vector<float, 2>{{v[2], v[3]}});
      }
    }
  }

  // Adds the warps' sums up, in order, and finishes them, or leaves them for SumSplitsKernel.
  SIMT_FN static void FinishTile(const Params& p, const Part& part, simt::Shared<float> sums) {
    const int pitch = simt::RoundUp(p.n, 4);
    for (int index = simt::ThreadIndex(); index < kM * kN / 4; index += kThreads) {
      const int row = index / (kN / 4), column = index % (kN / 4) * 4;
      if (part.row + row >= p.m || part.column + column >= p.n) continue;
      auto values = simt::LoadVector<4>(sums + (row * kSumPitch + column));
      SIMT_UNROLL
      for (int k = 1; k < kWarpsK; ++k) {
        const auto more = simt::LoadVector<4>(sums + ((k * kM + row) * kSumPitch + column));
        SIMT_UNROLL
        for (int i = 0; i < 4; ++i) values[i] += more[i];
      }
      if (p.partial) {
        const int64_t at =
            (int64_t{part.split} * p.m + part.row + row) * pitch + part.column + column;
        simt::StoreVector(p.partial + at, values);
      } else {
        Finish<4>(p.epilogue, part.row + row, part.column + column, values);
      }
    }
  }

  SIMT_FN static void Run(const Params& p) {
    const Part part = ThisPart(p);
    SIMT_UNROLL
    for (int i = 0; i < kStages - 1; ++i) {
      if (i < part.k_tiles) CopyWeight(p, part, i, i);
    }
    simt::WaitForEarlierKernels();
    SIMT_UNROLL
    for (int i = 0; i < kStages - 1; ++i) {
      if (i < part.k_tiles) CopyX(p, part, i, i);
      simt::CopyAsyncCommit();  // the first group has all weights; an empty one counts too
    }

    Sums sums{};
    int stage = 0, next_stage = kStages - 1;
    for (int k_tile = 0; k_tile < part.k_tiles; ++k_tile) {
      simt::CopyAsyncWait<kStages - 2>();
      // Makes the stage visible, and tells that every warp is done with the one before, which the
      // next copies overwrite.
      simt::SyncThreads();
      const int next = k_tile + kStages - 1;
      if (next < part.k_tiles) {
        CopyWeight(p, part, next, next_stage);
        CopyX(p, part, next, next_stage);
      }
      simt::CopyAsyncCommit();
      MultiplyStage(sums, Stage(stage));
      next_stage = stage;
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }

    simt::SyncThreads();  // the ring becomes the sums
    const auto shared = simt::Cast<float>(simt::SharedArray<&Layout::values>());
    StoreSums(shared, sums);
    simt::SyncThreads();
    FinishTile(p, part, shared);
  }
};

// y = epilogue(sum of the partial sums over the splits, the first one first).
template <typename T>
struct SumSplitsKernel {
  static constexpr const char* kName = "sum_splits";
  static constexpr int kThreads = 128;

  struct Params {
    simt::Global<const float> partial;  // [splits, m, n rounded up to 4]
    Epilogue<T> epilogue;
    int m, splits;
  };

  SIMT_FN static void Run(const Params& p) {
    const int vectors = simt::DivideUp(p.epilogue.n, 4);
    const int index = simt::BlockIndex() * kThreads + simt::ThreadIndex();
    if (index >= p.m * vectors) return;
    const int64_t split_size = int64_t{p.m} * vectors * 4;
    simt::Vector<float, 4> values{};
    SIMT_UNROLL_BY(4)
    for (int split = 0; split < p.splits; ++split) {
      const auto more = simt::LoadVector<4>(p.partial + (split * split_size + int64_t{index} * 4));
      SIMT_UNROLL
      for (int i = 0; i < 4; ++i) values[i] += more[i];
    }
    Finish<4>(p.epilogue, index / vectors, index % vectors * 4, values);
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
