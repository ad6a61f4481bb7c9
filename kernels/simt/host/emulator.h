#pragma once

// Runs a kernel's blocks on this thread and checks all they do: docs/emulator.md.
//
// Emulate may be called from any thread; launches run one after another, whoever asks. The memory
// that kernels reach is the arena's (arena.h): runtime.h's Device::Allocate.

#include <absl/status/status.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/simt/host/context.h"
#include "kernels/simt/types.h"

namespace bertrand::simt::emulator {

// Which thread runs when several can. A kernel is right when every order gives its result.
enum class ThreadOrder {
  kRoundRobin,  // a warp's lanes upwards; the next warp after every collective
  kGreedy,      // a warp goes on until a block barrier or its end
  kReversed,    // greedy from the last lane, warp and block to the first
  kRandom,      // lane, warp and block at random, from the seed
};

// What one line of the source asked of memory.
struct SiteCount {
  Site site;
  AccessKind kind = AccessKind::kGlobalLoad;
  int64_t requests = 0;
  int64_t passes = 0;  // sectors (global), wavefronts (shared)
  int64_t ideal = 0;   // the least that these bytes could take
};

struct EmulationOptions {
  ThreadOrder order = ThreadOrder::kGreedy;
  uint64_t seed = 1;
  // Sectors and bank conflicts as well: several times slower.
  bool count_requests = false;
  // Of each launch only so many blocks run, spread over the grid: to count what a large one does.
  // 0: all. What the others would have written stays as it is.
  int most_blocks = 0;
  // Races are reported with both places in the source: ten times slower, for the debugging of one.
  bool trace = false;
};

struct LaunchReport {
  Counters counters;
  // Of the last launch: the kernel's type, as typeid names it, and what its blocks are made of.
  const char* type = "";
  int threads = 0;
  size_t shared_bytes = 0;
  std::vector<SiteCount> sites;  // only with count_requests

  LaunchReport& operator+=(const LaunchReport& other);
};

struct EmulatedLaunch {
  const char* kernel = "";
  const char* type = "";
  Grid grid;
  int threads = 0;
  size_t shared_bytes = 0;
  void (*entry)(const void* params) = nullptr;
  const void* params = nullptr;
};

// Adds to `report` (may be null). Internal, when the kernel violates a rule: which, the kernel, the
// block, the thread and the place in the source. Memory is then as the violation left it.
// Requires: geometry that Launch has checked.
absl::Status Emulate(const EmulatedLaunch& launch, const EmulationOptions& options,
                     LaunchReport* report);

// How often graphs have been run in this process: tests ask whether work was replayed at all.
uint64_t NumGraphRuns();

// Whatever was launched is over before the next launch begins, and may be read at once there
// (simt.h, WaitForEarlierKernels).
void Settle();

}  // namespace bertrand::simt::emulator
