#include "kernels/simt/host/block.h"

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <utility>

#include "kernels/simt/host/collective.h"
#include "kernels/simt/host/fibre.h"
#include "kernels/status.h"

namespace bertrand::simt::emulator {
namespace {

constexpr uint32_t kEveryLane = 0xffffffffu;
// Ids start again between launches when this many are used up; a launch may use as many again.
constexpr uint32_t kIdsBeforeReset = 0x40000000u;

uint32_t Bit(uint32_t lane) { return uint32_t{1} << lane; }

// xorshift64
uint64_t NextRandom() {
  block.random ^= block.random << 13;
  block.random ^= block.random >> 7;
  block.random ^= block.random << 17;
  return block.random;
}

int NthSetBit(uint32_t bits, int n) {
  for (; n > 0; --n) bits &= bits - 1;
  return std::countr_zero(bits);
}

uint32_t TakeLane(Warp& warp) {
  uint32_t lane = 0;
  switch (block.options.order) {
    case ThreadOrder::kRoundRobin:
    case ThreadOrder::kGreedy:
      lane = static_cast<uint32_t>(std::countr_zero(warp.ready));
      break;
    case ThreadOrder::kReversed:
      lane = static_cast<uint32_t>(31 - std::countl_zero(warp.ready));
      break;
    case ThreadOrder::kRandom:
      lane = static_cast<uint32_t>(NthSetBit(
          warp.ready,
          static_cast<int>(NextRandom() % static_cast<uint64_t>(std::popcount(warp.ready)))));
      break;
  }
  warp.ready &= ~Bit(lane);
  return lane;
}

// The warp whose turn it is among those with a thread that can run; null when there is none.
Warp* NextWarp(int current) {
  if (block.options.order == ThreadOrder::kRandom) {
    uint32_t ready = 0;
    for (int w = 0; w < block.num_warps; ++w) {
      if (block.warps[w].ready != 0) ready |= Bit(static_cast<uint32_t>(w));
    }
    if (ready == 0) return nullptr;
    const uint64_t count = static_cast<uint64_t>(std::popcount(ready));
    return &block.warps[NthSetBit(ready, static_cast<int>(NextRandom() % count))];
  }
  const int step = block.options.order == ThreadOrder::kReversed ? block.num_warps - 1 : 1;
  for (int i = 1, w = current; i <= block.num_warps; ++i) {
    w = (w + step) % block.num_warps;
    if (block.warps[w].ready != 0) return &block.warps[w];
  }
  return nullptr;
}

int IndexOf(const Warp& warp) { return static_cast<int>(&warp - block.warps); }

// Makes `context` that of a lane. Returns its thread.
Thread& Activate(Warp& warp, uint32_t lane) {
  const int warp_index = IndexOf(warp);
  context.warp = &warp;
  context.lane = lane;
  context.mine = warp.first_id + lane;
  context.warp_index = warp_index;
  context.thread_index = warp_index * kLanes + static_cast<int>(lane);
  context.thread = &block.threads[context.thread_index];
  context.first_global = context.thread->waited ? context.launch_first : block.settled_id;
  return *context.thread;
}

// Kept in the block, since a violation never returns.
const char* WaitingThreads() {
  std::string& text = block.waiting;
  text.clear();
  char line[512];
  for (int w = 0; w < block.num_warps; ++w) {
    const Warp& warp = block.warps[w];
    if (warp.at_collective != 0) {
      std::snprintf(line, sizeof(line), "; lanes %08x of warp %d wait in %s at %s:%d",
                    warp.at_collective, w, warp.operation->name, warp.site.file, warp.site.line);
      text += line;
      DescribeWait(w, line, sizeof(line));
      text += line;
    }
    if (warp.at_barrier != 0) {
      std::snprintf(line, sizeof(line), "; lanes %08x of warp %d wait in SyncThreads at %s:%d",
                    warp.at_barrier, w, block.barrier_site.file, block.barrier_site.line);
      text += line;
    }
    if (warp.exited != 0) {
      std::snprintf(line, sizeof(line), "; lanes %08x of warp %d have returned", warp.exited, w);
      text += line;
    }
  }
  return text.c_str();
}

// The running thread cannot go on now: somebody else does.
void Leave() {
  Thread& from = *context.thread;
  Warp* warp = context.warp;
  if (warp->ready == 0) {
    warp = NextWarp(context.warp_index);
    if (warp == nullptr) {
      Violate({}, "deadlock: no thread can go on%s", WaitingThreads());
    }
  }
  SwitchFibre(from, Activate(*warp, TakeLane(*warp)));
}

// The running thread could go on, but it is another warp's turn under most orders.
void TakeTurns() {
  if (block.options.order == ThreadOrder::kGreedy || block.options.order == ThreadOrder::kReversed)
    return;
  context.warp->ready |= Bit(context.lane);
  Thread& from = *context.thread;
  Warp* warp = NextWarp(context.warp_index);
  Thread& to = Activate(*warp, TakeLane(*warp));
  if (&to != &from) SwitchFibre(from, to);
}

void ReleaseBarrier() {
  block.at_barrier = 0;
  if (block.options.count_requests) {
    for (int w = 0; w < block.num_warps; ++w) CountRequests(w);
  }
  NewBlockSegment();
  for (int w = 0; w < block.num_warps; ++w) {
    Warp& warp = block.warps[w];
    warp.ready |= warp.at_barrier;
    warp.at_barrier = 0;
  }
  ++context.counters.barriers;
}

[[noreturn]] void ThreadExit() {
  Warp& warp = *context.warp;
  if (warp.at_collective != 0) {
    Violate(warp.site,
            "divergent collective: this thread returned; lanes %08x of its warp wait in %s",
            warp.at_collective, warp.operation->name);
  }
  if (!context.thread->waited) Violate({}, "this thread returned without WaitForEarlierKernels");
  warp.exited |= Bit(context.lane);
  if (warp.exited == kEveryLane) CheckWarpEnd();
  if (block.options.count_requests && warp.exited == kEveryLane) CountRequests(context.warp_index);
  --block.alive;
  if (block.alive == 0) {
    CheckPhasesEnd();
    CheckProductsEnd();
    LeaveFibre(*context.thread, block.main);
  }
  if (block.at_barrier == block.alive) ReleaseBarrier();
  Thread& from = *context.thread;
  Warp* next = warp.ready != 0 ? &warp : NextWarp(context.warp_index);
  if (next == nullptr) Violate({}, "deadlock: no thread can go on%s", WaitingThreads());
  LeaveFibre(from, Activate(*next, TakeLane(*next)));
}

[[noreturn]] void FibreMain() {
  EnterFibre();
  block.entry(block.params);
  ThreadExit();
}

[[noreturn]] void RefuseCollective(const Operation& operation, int immediate, const Site& site) {
  const Warp& warp = *context.warp;
  if (warp.exited != 0) {
    Violate(site, "divergent collective: %s, but lanes %08x of the warp have returned",
            operation.name, warp.exited);
  }
  if (warp.operation == &operation && warp.site == site) {
    Violate(site, "divergent collective: %s with %d, but lanes %08x of the warp have %d",
            operation.name, immediate, warp.at_collective, warp.immediate);
  }
  Violate(site, "divergent collective: %s, but lanes %08x of the warp wait in %s at %s:%d",
          operation.name, warp.at_collective, warp.operation->name, warp.site.file, warp.site.line);
}

}  // namespace

void Violate(const Site& site, const char* format, ...) {
  BERTRAND_CHECK(context.thread != nullptr, "device memory is only for kernels");
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  char where[512] = "";
  if (site.file != nullptr) std::snprintf(where, sizeof(where), ", at %s:%d", site.file, site.line);
  char prefix[128];
  std::snprintf(prefix, sizeof(prefix), "block (%d, %d, %d) thread %d: ", context.block[0],
                context.block[1], context.block[2], context.thread_index);
  block.violation = std::string(prefix) + text + where;
  block.failed = true;
  LeaveFibre(*context.thread, block.main);
}

void Collective(const Operation& operation, int immediate, void* argument, const Site& site) {
  Warp& warp = *context.warp;
  if (warp.at_collective == 0) {
    if (warp.exited != 0) RefuseCollective(operation, immediate, site);
    warp.operation = &operation;
    warp.immediate = immediate;
    warp.site = site;
  } else if (warp.operation != &operation || warp.immediate != immediate || warp.site != site) {
    RefuseCollective(operation, immediate, site);
  }
  warp.arguments[context.lane] = argument;
  warp.at_collective |= Bit(context.lane);
  if (warp.at_collective != kEveryLane) return Leave();
  if (block.options.count_requests) CountRequests(context.warp_index);
  operation.perform(warp.arguments, immediate, site);
  warp.at_collective = 0;
  warp.ready = kEveryLane & ~Bit(context.lane);
  context.mine = warp.first_id + context.lane;
  TakeTurns();
}

void Park() { Leave(); }

void Wake(int warp_index, int lane) {
  block.warps[warp_index].ready |= Bit(static_cast<uint32_t>(lane));
}

void BlockBarrier(const Site& site) {
  if (block.at_barrier == 0) {
    block.barrier_site = site;
  } else if (block.barrier_site != site) {
    Violate(site, "divergent barrier: SyncThreads, but %d threads wait in the one at %s:%d",
            block.at_barrier, block.barrier_site.file, block.barrier_site.line);
  }
  Warp& warp = *context.warp;
  warp.at_barrier |= Bit(context.lane);
  if (++block.at_barrier != block.alive) return Leave();
  ReleaseBarrier();
  warp.ready &= ~Bit(context.lane);
  context.mine = warp.first_id + context.lane;
  TakeTurns();
}

void WaitForEarlierKernels() {
  context.thread->waited = true;
  context.first_global = context.launch_first;
}

uint32_t NewGroup(int warp_index) {
  const uint32_t id = block.next_id;
  if (id >= kAtomic - kIdsPerGroup) Violate({}, "more barriers than the emulator can count");
  block.next_id += kIdsPerGroup;
  block.group_warps.push_back(static_cast<uint8_t>(warp_index));
  return id;
}

void NewBlockSegment() {
  context.first_shared = block.next_id;
  for (int w = 0; w < block.num_warps; ++w) block.warps[w].first_id = NewGroup(w);
}

void RunBlock() {
  block.first_id = block.next_id;
  block.group_warps.clear();
  block.loaded_sectors.clear();
  block.at_barrier = 0;
  block.alive = context.num_threads;
  for (int w = 0; w < block.num_warps; ++w) {
    block.warps[w] = {};
    block.warps[w].ready = kEveryLane;
  }
  ResetPhases();
  ResetProducts();
  for (int t = 0; t < context.num_threads; ++t) {
    Thread& thread = block.threads[t];
    PrepareFibre(thread, t, FibreMain);
    thread.copies.clear();
    thread.copies_landed = 0;
    thread.copy_group = 0;
    thread.waited = false;
    thread.log.clear();
  }
  NewBlockSegment();
  if (context.shared_bytes > 0) MarkUninitialised(context.shared_base, context.shared_bytes);
  const int last = block.options.order == ThreadOrder::kReversed ? 0 : block.num_warps - 1;
  Warp* warp = NextWarp(last);
  SwitchFibre(block.main, Activate(*warp, TakeLane(*warp)));
  context.thread = nullptr;
  if (block.failed) {
    for (int t = 0; t < context.num_threads; ++t) AbandonFibre(block.threads[t]);
  }
}

namespace {

std::mutex launches;  // one at a time

// Shared memory is one allocation of the arena, as large as any GPU's.
constexpr size_t kSharedCapacityBytes = size_t{256} << 10;

void PrepareLaunch(const EmulatedLaunch& launch, const EmulationOptions& options) {
  static char* const allocated =
      static_cast<char*>(AllocateInArena(kSharedCapacityBytes + kAtomBytes));
  BERTRAND_CHECK(allocated != nullptr && launch.shared_bytes <= kSharedCapacityBytes,
                 "no room for the emulator's shared memory");
  // Swizzles go by addresses, so it begins where their period does.
  char* const shared = allocated + (-reinterpret_cast<uintptr_t>(allocated)) % kAtomBytes;
  MarkUnallocated(shared, kSharedCapacityBytes);
  if (block.next_id > kIdsBeforeReset) {
    ForgetAccesses();
    block.next_id = block.settled_id = 1;
  }
  block.options = options;
  block.random = options.seed * 0x9e3779b97f4a7c15u + 1;
  block.num_warps = launch.threads / kLanes;
  block.entry = launch.entry;
  block.params = launch.params;
  block.failed = false;
  block.violation.clear();
  block.sites.clear();
  block.traces.clear();
  context = {};
  context.launch_first = block.next_id++;
  context.logging = options.count_requests || options.trace;
  context.num_threads = launch.threads;
  context.shared_base = shared;
  context.shared_bytes = launch.shared_bytes;
  context.grid[0] = launch.grid.x;
  context.grid[1] = launch.grid.y;
  context.grid[2] = launch.grid.z;
}

// Blocks in the order asked for; false at the first violation.
bool RunBlocks() {
  const int64_t x = context.grid[0], y = context.grid[1];
  const int64_t count = x * y * context.grid[2];
  const auto divisor = [](int64_t a, int64_t b) {
    while (b != 0) a = std::exchange(b, a % b);
    return a;
  };
  const int64_t most = block.options.most_blocks;
  const int64_t run = most > 0 && most < count ? most : count;
  // A permutation by a step that shares no divisor with the count.
  int64_t step = block.options.order == ThreadOrder::kReversed ? count - 1 : 1, at = 0;
  if (block.options.order == ThreadOrder::kReversed) at = count - 1;
  if (block.options.order == ThreadOrder::kRandom) {
    do {
      step = static_cast<int64_t>(NextRandom() % static_cast<uint64_t>(count)) + 1;
    } while (divisor(step, count) != 1);
    at = static_cast<int64_t>(NextRandom() % static_cast<uint64_t>(count));
  }
  if (run < count) {
    // Multiples of the golden ratio are spread over the grid, however few, and follow no period of
    // its tiles.
    step = std::max<int64_t>(1, static_cast<int64_t>(0.6180339887 * static_cast<double>(count)));
    while (divisor(step, count) != 1) ++step;
  }
  for (int64_t i = 0; i < run; ++i, at = (at + step) % count) {
    context.block[0] = static_cast<int>(at % x);
    context.block[1] = static_cast<int>(at / x % y);
    context.block[2] = static_cast<int>(at / (x * y));
    RunBlock();
    if (block.failed) return false;
  }
  context.counters.launches = 1;
  context.counters.blocks = run;
  context.counters.grid_blocks = count;
  context.counters.threads = run * context.num_threads;
  return true;
}

}  // namespace

void Settle() {
  const std::lock_guard<std::mutex> lock(launches);
  block.settled_id = block.next_id;
}

absl::Status Emulate(const EmulatedLaunch& launch, const EmulationOptions& options,
                     LaunchReport* report) {
  const std::lock_guard<std::mutex> lock(launches);
  PrepareLaunch(launch, options);
  if (!RunBlocks()) return Internal(std::string(launch.kernel) + ": " + block.violation);
  if (report != nullptr) {
    *report += {context.counters, launch.type, launch.threads, launch.shared_bytes,
                std::move(block.sites)};
  }
  return absl::OkStatus();
}

}  // namespace bertrand::simt::emulator
