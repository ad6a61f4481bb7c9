#pragma once

// Which tile and how many splits of k the small-M GEMM uses: a pure function of the shape and of
// the number of multiprocessors, by a model of the time from bytes and products. Plain data; any
// thread.
//
// The model's constants are an H100's (SXM, 1.7 GHz) from published measurements, none by us yet:
// an A100 differs by about the same factor in all of them, so the order of the candidates holds
// there. Where cuBLASLt competes, gemm.h times the best few instead of believing the model.

#include <cstdint>

#include "kernels/gemm/gemm_tile.cuh"

namespace bertrand::gpu {

// More partial sums than this cost more than they hide.
inline constexpr int kMaxGemmSplits = 8;

struct SmallGemmPlan {
  int tile = 0;         // of kGemmTiles
  int splits = 1;       // of k; more than one need a workspace and a second kernel
  int k_per_split = 0;  // a multiple of the tile's k
  double time_us = 0;   // the model's
};

constexpr int64_t CeilDivide(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

// Bytes of the partial sums [splits, m, n rounded up to 4] in float.
constexpr int64_t SmallGemmWorkspaceBytes(int m, int n, int splits) {
  return splits == 1 ? 0 : int64_t{splits} * m * CeilDivide(n, 4) * 16;
}

// A launch in a CUDA graph, its first bytes from memory and the epilogue.
inline constexpr double kGemmLaunchUs = 1.0, kGemmLatencyUs = 0.8;
inline constexpr double kGemmMemoryBytesPerUs = 3.0e6;    // HBM3, 90 % of it
inline constexpr double kGemmCacheBytesPerUs = 6.0e6;     // second-level cache, all SMs together
inline constexpr double kGemmSmCacheBytesPerUs = 0.09e6;  // one SM: 64 bytes a clock, 80 % of it
inline constexpr double kGemmSmSharedBytesPerUs = 0.2e6;  // one SM: 128 bytes a clock, 90 % of it
inline constexpr double kGemmSmFlopPerUs = 4.4e6;         // mma.sync: 60 % of the wgmma rate

// The model's time for one shape, tile and split, in microseconds.
//
// Weights come from memory once; tiles are read from the second-level cache by every block. One SM
// reads no faster than its port, nor than its stages in flight allow at the memory's latency (the
// first of them are paid for by every kernel).
constexpr double SmallGemmTimeUs(int m, int n, int k, const GemmTile& tile, int splits,
                                 int num_sms) {
  const double k_block = static_cast<double>(CeilDivide(CeilDivide(k, splits), tile.k) * tile.k);
  const double blocks = static_cast<double>(CeilDivide(m, tile.m) * CeilDivide(n, tile.n) * splits);
  const double per_sm = static_cast<double>(CeilDivide(static_cast<int64_t>(blocks), num_sms));
  const double block_bytes = (tile.m + tile.n) * k_block * 2;
  const int fit = 227 * 1024 / tile.shared_bytes();
  const double resident = per_sm < fit ? per_sm : fit;
  const double flight = resident * (tile.stages - 1) * tile.stage_bytes();
  const double in_flight_bytes = flight < block_bytes * resident ? flight : block_bytes * resident;
  const double warps = tile.warps_m * tile.warps_n * tile.warps_k;
  const double fragment_bytes =
      (tile.m / tile.warps_m + tile.n / tile.warps_n) * k_block * 2 * warps / tile.warps_k;

  const double limits[] = {
      double{2} * n * k / kGemmMemoryBytesPerUs,
      blocks * block_bytes / kGemmCacheBytesPerUs,
      per_sm * block_bytes / kGemmSmCacheBytesPerUs,
      (per_sm * block_bytes / in_flight_bytes - 1) * kGemmLatencyUs,
      per_sm * (fragment_bytes + block_bytes) / kGemmSmSharedBytesPerUs,
      per_sm * tile.m * tile.n * k_block * 2 / kGemmSmFlopPerUs,
  };
  double slowest = 0;
  for (const double limit : limits) slowest = limit > slowest ? limit : slowest;
  double time = kGemmLaunchUs + kGemmLatencyUs + slowest;
  if (splits > 1) {
    const double partial_bytes = static_cast<double>(SmallGemmWorkspaceBytes(m, n, splits));
    time += kGemmLaunchUs + kGemmLatencyUs / 2 + 2 * partial_bytes / kGemmCacheBytesPerUs;
  }
  return time;
}

// k cut into `splits` multiples of the tile's k. Fewer splits come out when k has not so many.
constexpr SmallGemmPlan CutSmallGemm(int m, int n, int k, int tile, int splits, int num_sms) {
  const int64_t k_tile = kGemmTiles[tile].k;
  const int64_t k_per_split = CeilDivide(CeilDivide(k, splits), k_tile) * k_tile;
  SmallGemmPlan plan;
  plan.tile = tile;
  plan.splits = static_cast<int>(CeilDivide(k, k_per_split));
  plan.k_per_split = static_cast<int>(k_per_split);
  plan.time_us = SmallGemmTimeUs(m, n, k, kGemmTiles[tile], plan.splits, num_sms);
  return plan;
}

// The fastest by the model whose partial sums fit into the workspace.
// Requires: m, n, k, num_sms > 0.
constexpr SmallGemmPlan PlanSmallGemm(int m, int n, int k, int num_sms, int64_t workspace_bytes) {
  SmallGemmPlan best = CutSmallGemm(m, n, k, 0, 1, num_sms);
  for (int tile = 0; tile < kNumGemmTiles; ++tile) {
    for (int splits = 1; splits <= kMaxGemmSplits; ++splits) {
      const SmallGemmPlan plan = CutSmallGemm(m, n, k, tile, splits, num_sms);
      if (plan.splits != splits) continue;
      if (SmallGemmWorkspaceBytes(m, n, splits) > workspace_bytes) break;
      if (plan.time_us < best.time_us) best = plan;
    }
  }
  return best;
}

}  // namespace bertrand::gpu
