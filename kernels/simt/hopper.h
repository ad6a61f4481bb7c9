#pragma once

// Hopper's part of the vocabulary (simt.h): barriers with phases in shared memory, tile loads by
// the copy engine (TMA) and matrix products of a warpgroup (wgmma). Machine code for sm_90a alone:
// elsewhere these words trap, so launchers ask TileMap's maker first, which refuses other devices.
// The emulator has them in full (docs/emulator.md says how, and what it finds).
//
// Unless they say otherwise these are collectives of a warp: all 32 lanes, at the same place in the
// source, with the same arguments. Where the hardware wants one thread, the word picks it.
//
// Phases. A PhaseBarrier (8 bytes of the Layout) counts arrivals, and bytes that were promised. A
// phase is over when all of both have come, and the next one begins. Phases have parities: 0, 1,
// 0..
//   InitBarrier(Shared<PhaseBarrier> b, int arrivals)   one thread; SyncThreads before any use
//   ArriveAtBarrier(b)                       one arrival of the warp: what its lanes have done
//   until
//                                            now is done for those who wait
//   ArriveExpecting(b, bytes)                and that many bytes of tile loads belong to the phase;
//                                            before those loads are started
//   WaitForPhase(b, parity)                  until the phase of that parity is over: b's present
//                                            phase has the other one. (So a wait for parity 1 at a
//                                            new barrier goes on at once.)
//
// Tile loads. A TileMap describes a row-major matrix of 16-bit values and a box of it, `rows` x 64;
// or one [rows, planes, columns], whose boxes lie in one plane. It's made on the host (MakeTileMap)
// and lies in Params.
//   LoadTile(Shared<T> to, const TileMap& map, b, int column, int row)
//       starts the copy of the box that begins there to `to`: [rows][64] values, 128 bytes a row;
//       16-byte chunk c of row r lies at c ^ (r & 7) (128-byte swizzle). Columns and rows beyond
//       the matrix become zero. Its bytes, rows x 128 whatever the matrix's size, come to b's
//       phase. `to` begins at a multiple of 1024 bytes. Nobody reads it before WaitForPhase.
//   LoadTile(to, map, b, column, plane, row)   the same of a map with planes
//
// Products. A warpgroup, warps 4i to 4i + 3, multiplies A [64][16] by B [kN][16], transposed, both
// from tiles as LoadTile leaves them, and adds to its accumulators. All four warps do the same.
//   WgmmaC<kN>::v[4 j + i]   row 16 (warp % 4) + lane / 4 + 8 (i / 2), column 8 j + 2 (lane % 4) +
//                            i % 2. Neither read nor written from a Wgmma to its WgmmaWait
//   WgmmaOperand MakeOperand(Shared<T> tile)   the first 16 of k of a tile's rows from there on
//   operand.AtK(int k)                         16 of k from `k` on, a multiple of 16 below 64
//   WgmmaFence()                               before the first Wgmma of each group: orders it
//   after
//                                              what the warp did with the accumulators
//   Wgmma<T>(WgmmaC<kN>& c, a, b, bool accumulate)   starts c = a b^T (+ c)
//   A in registers: `a` is a uint32_t[4] in each lane, MmaA (simt.h) of the warp's 16 rows, so that
//                            v[8 j..] of a WgmmaC are, packed, the A of 16 columns from 16 j on.
//                            Not written until WgmmaWait
//   B as it lies in memory: `b` is a WgmmaRows, B^T [16][kN] of a tile's rows: c = a b. A tile of
//                            more than 64 columns is tiles of 64 one after another
//   WgmmaRows MakeRowsOperand(Shared<T> tile, int rows)   of tiles of `rows` rows, the first 16
//   rows.AtRow(int row)                        16 rows from `row` on, a multiple of 16
//   WgmmaCommit()                              closes the group
//   WgmmaWait<n>(WgmmaC<kN>& c)                until at most n groups are in flight: then what
//                                              older ones read may be overwritten, and their
//                                              accumulators are there. `c`: the accumulators
//   FenceAsync()       before an arrival, or a barrier, that makes what this warp has written by
//                      ordinary stores readable by Wgmma
//
// Registers, of a warpgroup (all four warps, once): the first gives some back, the second waits
// until there are so many. A block's must fit into 65536.
//   ReleaseRegisters<count>()   ClaimRegisters<count>()

#include "kernels/simt/simt.h"

namespace bertrand::simt::inline SIMT_TARGET {
inline constexpr int kTileColumns = 64, kTileRowBytes = 128;
}  // namespace bertrand::simt::inline SIMT_TARGET

#ifdef __CUDACC__
#include "kernels/simt/device/hopper.h"
#else
#include "kernels/simt/host/hopper.h"
#endif

#include <absl/status/statusor.h>

namespace bertrand::simt::inline SIMT_TARGET {

// Of a matrix [rows, columns] of 16-bit values on a device of this capability, and boxes of
// `box_rows` x 64. FailedPrecondition unless major.minor is 9.0 (sm_90a's code runs nowhere else),
// and where the driver has no such maps. Requires: data aligned to 16 bytes; columns % 8 == 0;
// rows, columns > 0; 1 <= box_rows <= 256.
absl::StatusOr<TileMap> MakeTileMap(int major, int minor, const void* data, int rows, int columns,
                                    int box_rows);
// The same of a matrix [rows, planes, columns].
absl::StatusOr<TileMap> MakeTileMap(int major, int minor, const void* data, int rows, int planes,
                                    int columns, int box_rows);

}  // namespace bertrand::simt::inline SIMT_TARGET
