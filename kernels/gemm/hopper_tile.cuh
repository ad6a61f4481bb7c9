#pragma once

// The tiles of hopper_gemm.h: 128 rows, 64 of k at a time, and so many columns. Plain data.

namespace bertrand::gpu {

inline constexpr int kHopperTileRows = 128, kHopperTileK = 64;
inline constexpr int kHopperTileColumns[] = {256, 128};
inline constexpr int kNumHopperTiles = 2;

// Stages of a ring in shared memory, 48 or 32 KiB each: 192 KiB of the 227 that a block may have.
constexpr int HopperStages(int columns) { return columns == 256 ? 4 : 6; }

}  // namespace bertrand::gpu
