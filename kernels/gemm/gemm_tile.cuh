#pragma once

// The tiles of the small-M GEMM: plain data that its body is instantiated with and its plan
// (small_gemm_plan.h) chooses from. The same in both halves.

#include "kernels/simt/simt.h"

namespace bertrand::gpu {

// A block computes m x n outputs, k deep at a time, `stages` of them in shared memory. Its warps
// are a grid of warps_m x warps_n over the outputs, times warps_k that share out each k-tile and
// are added up at the end: narrow tiles would leave warps without work otherwise.
struct GemmTile {
  int m, n, k, stages;
  int warps_m, warps_n, warps_k;

  constexpr int threads() const { return warps_m * warps_n * warps_k * 32; }
  constexpr int stage_bytes() const { return (m + n) * k * 2; }
  // Floats from one row of the sums to the next: 8 more, so that the fragments' rows are 8 banks
  // apart.
  constexpr int sum_pitch() const { return n + 8; }
  constexpr int shared_bytes() const {
    const int sums = warps_k * m * sum_pitch() * 4;
    return stages * stage_bytes() > sums ? stages * stage_bytes() : sums;
  }
};

// At most 96 KiB each: sm_86, 89 and 120 have 99 for a block.
inline constexpr GemmTile kGemmTiles[] = {
    {16, 16, 128, 6, 1, 1, 4},   // 48 KiB
    {16, 32, 128, 6, 1, 1, 4},   // 72 KiB
    {16, 64, 128, 4, 1, 2, 2},   // 80 KiB
    {32, 32, 128, 6, 1, 2, 2},   // 96 KiB
    {32, 64, 128, 4, 1, 2, 2},   // 96 KiB
    {64, 32, 64, 4, 2, 1, 2},    // 48 KiB
    {64, 64, 64, 4, 2, 2, 1},    // 64 KiB
    {64, 128, 64, 4, 2, 2, 1},   // 96 KiB
    {128, 64, 64, 4, 4, 2, 1},   // 96 KiB
    {128, 128, 64, 3, 2, 4, 1},  // 96 KiB
};
inline constexpr int kNumGemmTiles = sizeof(kGemmTiles) / sizeof(kGemmTiles[0]);

}  // namespace bertrand::gpu
