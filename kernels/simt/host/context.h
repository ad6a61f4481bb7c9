#pragma once

// What the emulator knows about the thread it is running, and the order of accesses.
//
// Time is cut into *segments*: what one thread does between two barriers. A segment has an id. Ids
// only grow: a block barrier gives new ids to every thread of the block, a warp barrier to its
// warp's. Each group of kIdsPerGroup ids belongs to one warp between two barriers:
//
//   first .. first + 31   its lanes
//   first + 32            several lanes of it (readers), or the warp as a whole (ldmatrix)
//   first + 33            several warps (readers; of the block's first group after a barrier only)
//
// Two accesses of different segments to the same byte, one of them a write, are a race unless the
// earlier one's id is below the block's last barrier, or is an older one of the same warp. For
// global memory every id of another block of the launch is unordered; `launch_first` itself stands
// for readers in several blocks. A writer's id has kAtomic set when it was an atomic operation.
//
// One launch runs at a time in a process (Emulate holds a lock), on the caller's thread, so the
// context is a plain global: a thread_local would cost more than the check.

#include <cstddef>
#include <cstdint>

#include "kernels/simt/host/arena.h"

// A place in the source, taken where it stands as a default argument: the caller's.
#define SIMT_HERE ::bertrand::simt::emulator::Here()

namespace bertrand::simt::emulator {

struct Site {
  const char* file = nullptr;
  int line = 0;
  bool operator==(const Site&) const = default;
};

constexpr Site Here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return {file, line};
}

inline constexpr uint32_t kIdsPerGroup = 34;
inline constexpr uint32_t kSeveralLanes = 32, kSeveralWarps = 33;
inline constexpr uint32_t kAtomic = 0x80000000u;

struct Warp;
struct Thread;

// Totals of one launch, or of several added up. Requests are a warp's: lanes that make the same
// access of the same place in the source between the same two collectives count as one.
struct Counters {
  int64_t launches = 0, blocks = 0, threads = 0;
  int64_t grid_blocks = 0;    // with those that a sample left out
  int64_t block_sectors = 0;  // load_sectors less those that the same block loaded before
  int64_t load_requests = 0, load_sectors = 0, load_bytes = 0;     // global memory; sectors of 32 B
  int64_t store_requests = 0, store_sectors = 0, store_bytes = 0;  // bytes: what lanes asked for
  // Shared memory, with ldmatrix, cp.async's and tile loads' writes, and what Wgmma reads. The last
  // two are 128 bytes a request, and never in conflict: their layout is the hardware's own.
  int64_t shared_requests = 0;
  int64_t shared_wavefronts = 0;  // passes needed; without bank conflicts shared_ideal
  int64_t shared_ideal = 0;
  int64_t mma = 0, ldmatrix = 0;  // instructions of a warp; products of Wgmma are so many of Mma
  int64_t wgmma = 0;              // those of mma that Wgmma did
  int64_t special = 0;            // special-function operations of a thread
  int64_t barriers = 0, warp_barriers = 0, shuffles = 0;  // of a block; of a warp; with votes
  int64_t atomics = 0;                                    // of a thread
  int64_t async_copies = 0, async_bytes = 0;              // of a thread

  Counters& operator+=(const Counters& other);
};

struct Context {
  // Ids, see above. `first_shared` and `first_global`: ids below are over and ordered, in shared
  // memory (the last barrier's) and in global memory: `launch_first`, or, until the thread has come
  // to WaitForEarlierKernels, the first of the launches that this one may overlap.
  uint32_t mine = 0;
  uint32_t first_shared = 0;
  uint32_t first_global = 0;
  uint32_t launch_first = 0;
  uint32_t lane = 0;
  Warp* warp = nullptr;
  Thread* thread = nullptr;
  bool logging = false;  // LogAccess wants to hear of accesses
  int thread_index = 0, warp_index = 0, num_threads = 0;
  int block[3] = {0, 0, 0}, grid[3] = {0, 0, 0};
  char* shared_base = nullptr;
  size_t shared_bytes = 0;
  Counters counters;
};

inline Context context;

enum class AccessKind : uint8_t { kGlobalLoad, kGlobalStore, kSharedLoad, kSharedStore };

// Ends the launch with a violation; `text` begins after "block .. thread ..: ".
[[noreturn]] void Violate(const Site& site, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

}  // namespace bertrand::simt::emulator
