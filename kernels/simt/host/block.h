#pragma once

// The block that is being emulated: its threads as fibres, their warps, and who runs next. One
// block at a time, on one thread of the process (context.h). Included by the emulator's sources,
// not by kernels, which see `Collective`, `BlockBarrier` and `StartCopy` of intrinsics.h.

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kernels/simt/host/async.h"
#include "kernels/simt/host/context.h"
#include "kernels/simt/host/emulator.h"

namespace bertrand::simt::emulator {

inline constexpr int kLanes = 32, kMaxWarps = 32;

// A cp.async on its way. Its data was read when it was issued and lands when it is waited for.
struct AsyncCopy {
  char* to;
  uint8_t data[16];
  uint8_t bytes;
  uint32_t group;
};

struct LoggedAccess {
  Site site;
  uint64_t address;
  uint32_t bytes;
  AccessKind kind;
};

struct Thread {
  void* stack_pointer = nullptr;  // while it does not run
  char* stack = nullptr;          // lowest address
  void* fake_stack = nullptr;     // AddressSanitizer's
  std::vector<AsyncCopy> copies;
  size_t copies_landed = 0;
  uint32_t copy_group = 0;  // the open one
  bool waited = false;      // came to WaitForEarlierKernels
  std::vector<LoggedAccess> log;
};

// With EmulationOptions::trace: where two bytes were last written and read.
struct Trace {
  Site writer, reader;
};

struct Operation;

struct Warp {
  uint32_t first_id = 0;  // of its current group
  uint32_t ready = 0, exited = 0, at_collective = 0, at_barrier = 0;
  // The collective that its lanes are gathering at.
  const Operation* operation = nullptr;
  int immediate = 0;
  Site site;
  void* arguments[kLanes];
  // Of async.h.
  Clock clock;
  WarpProducts products;
  int registers = 0;
};

struct Block {
  Warp warps[kMaxWarps];
  Thread threads[kLanes * kMaxWarps];
  int num_warps = 0;
  int alive = 0, at_barrier = 0;
  Site barrier_site;
  uint64_t random = 1;
  // Ids: the next one, and of this block the first and each group's warp.
  uint32_t next_id = 1, first_id = 1;
  // Launches with ids from here on may still run when the next one begins.
  uint32_t settled_id = 1;
  std::vector<uint8_t> group_warps;
  void (*entry)(const void* params) = nullptr;
  const void* params = nullptr;
  Thread main;  // Emulate's own stack
  bool failed = false;
  std::string violation, waiting;
  EmulationOptions options;
  std::vector<SiteCount> sites;
  std::unordered_set<uint64_t> loaded_sectors;  // of this block, where requests are counted
  std::unordered_map<size_t, Trace> traces;     // by cell: address / 2 from the arena's base
};

inline Block block;

// A group of ids for the warp, ordered after all before.
uint32_t NewGroup(int warp_index);
// New ids for all warps: what follows a block barrier.
void NewBlockSegment();
// The running lane, the last of its warp to arrive at a collective, cannot perform it yet: others
// run until somebody wakes it.
void Park();
void Wake(int warp_index, int lane);
// Runs all threads of the block to their ends, or to the first violation.
void RunBlock();

// Turns the accesses that the warp's lanes have logged into requests, and forgets them.
void CountRequests(int warp_index);
// What comes and goes by whole rows of shared memory: requests of 128 bytes without conflicts.
void CountSharedBytes(int64_t bytes);
// A row that a tile load reads from global memory, `bytes` long; sixteen sectors are a request.
void CountTileRow(const char* from, int64_t bytes);
// Adds a request to shared memory by lanes of `bytes` each, at once.
void CountSharedRequest(const Site& site, bool store, const uint64_t* addresses, int num_lanes,
                        int bytes);

}  // namespace bertrand::simt::emulator
