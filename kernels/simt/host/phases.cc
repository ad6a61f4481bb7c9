#include <algorithm>
#include <cstdio>
#include <cstring>

#include "kernels/simt/host/async.h"
#include "kernels/simt/host/block.h"
#include "kernels/simt/host/checks.h"
#include "kernels/simt/host/collective.h"

namespace bertrand::simt::emulator {
namespace {

constexpr int kRowBytes = 128, kChunkBytes = 16;
constexpr int kBlockRegisters = 65536;

struct Phases {
  Barrier barriers[kMaxBarriers];
  int num_barriers = 0;
  // Warps that wait for registers, and the lane of each that performs the wait.
  uint32_t waiting_warps = 0;
  uint8_t waiting_lanes[32] = {};
};
Phases phases;

struct Arguments {
  const char* barrier = nullptr;
  int64_t number = 0;  // bytes, parity or registers
  // Of a tile load.
  const char* to = nullptr;
  Bounds to_bounds;
  const TileSource* source = nullptr;
  TileCorner corner;

  bool operator==(const Arguments& other) const {
    return barrier == other.barrier && number == other.number && to == other.to &&
           corner == other.corner &&
           (source == other.source || std::memcmp(source, other.source, sizeof(*source)) == 0);
  }
};

const Arguments& AllAlike(void* const* arguments, const Site& site) {
  const Arguments& first = *static_cast<const Arguments*>(arguments[0]);
  for (int lane = 1; lane < kLanes; ++lane) {
    if (!(*static_cast<const Arguments*>(arguments[lane]) == first)) {
      Violate(site, "lane %d of the warp brings other arguments than lane 0", lane);
    }
  }
  return first;
}

Barrier& Find(const char* address, const Site& site) {
  for (int i = 0; i < phases.num_barriers; ++i) {
    Barrier& barrier = phases.barriers[i];
    if (barrier.address != address) continue;
    if (!IsOrdered(barrier.init_id)) {
      Violate(site, "race: nothing orders InitBarrier before this use of barrier %d", i);
    }
    return barrier;
  }
  Violate(site, "a barrier that InitBarrier has not made");
}

// A phase is over when all has come: the next one begins, and who waited goes on.
void EndPhase(Barrier& barrier) {
  if (barrier.missing != 0 || barrier.missing_bytes != 0) return;
  barrier.over = barrier.arriving;
  barrier.arriving = {};
  barrier.missing = barrier.arrivals;
  ++barrier.phase;
  for (int warp = 0; warp < kMaxWarps; ++warp) {
    if ((barrier.waiting_warps >> warp & 1) != 0) Wake(warp, barrier.waiting_lanes[warp]);
  }
  barrier.waiting_warps = 0;
}

void PerformArrive(void* const* arguments, int, const Site& site) {
  const Arguments& argument = AllAlike(arguments, site);
  Barrier& barrier = Find(argument.barrier, site);
  if (argument.number < 0 || argument.number >= 1 << 20) {
    Violate(site, "%lld bytes are expected; a phase takes up to 1048575",
            static_cast<long long>(argument.number));
  }
  Warp& warp = *context.warp;
  barrier.arriving.Join(warp.clock);
  uint32_t& mine = barrier.arriving.before[context.warp_index];
  mine = std::max(mine, warp.first_id + kIdsPerGroup);
  warp.first_id = NewGroup(context.warp_index);
  barrier.missing_bytes += argument.number;
  --barrier.missing;
  EndPhase(barrier);
  ++context.counters.warp_barriers;
}

// The data of loads whose phase is over. They were written by the barrier, now.
void Land(Barrier& barrier) {
  const auto over = [&](const TileLoad& load) { return load.phase < barrier.phase; };
  if (std::none_of(barrier.loads.begin(), barrier.loads.end(), over)) return;
  const uint32_t id = NewGroup(kMaxWarps + barrier.index);
  for (const TileLoad& load : barrier.loads) {
    if (!over(load)) continue;
    const size_t at = static_cast<size_t>(load.to - arena.base);
    std::memcpy(load.to, load.data.data(), load.data.size());
    std::memset(arena.states + at, kInitialised, load.data.size());
    std::fill_n(arena.writers + at / 2, load.data.size() / 2, id);
  }
  std::erase_if(barrier.loads, over);
  barrier.over.before[kMaxWarps + barrier.index] = id + kIdsPerGroup;
}

void PerformWait(void* const* arguments, int, const Site& site) {
  const Arguments argument = AllAlike(arguments, site);
  Barrier& barrier = Find(argument.barrier, site);
  while (static_cast<int64_t>(barrier.phase & 1) == argument.number) {
    barrier.waiting_warps |= uint32_t{1} << context.warp_index;
    barrier.waiting_lanes[context.warp_index] = static_cast<uint8_t>(context.lane);
    Park();
  }
  Land(barrier);
  context.warp->clock.Join(barrier.over);
}

// The box's bytes as they will lie: swizzled, zero beyond the matrix. Checks the source. The buffer
// is kept, since a violation never returns.
const std::vector<char>& ReadBox(const Arguments& argument, const Site& site) {
  static std::vector<char> box;
  const TileSource& source = *argument.source;
  const TileCorner& corner = argument.corner;
  const size_t plane_bytes = static_cast<size_t>(source.columns) * 2;
  const size_t row_bytes = plane_bytes * static_cast<size_t>(std::max(source.planes, 1));
  const Bounds bounds{source.data, row_bytes * static_cast<size_t>(source.rows)};
  box.assign(static_cast<size_t>(source.box_rows) * kRowBytes, 0);
  const auto place = static_cast<size_t>(argument.to - context.shared_base);
  for (int r = 0; r < source.box_rows && corner.row + r < source.rows; ++r) {
    const char* from = source.data + static_cast<size_t>(corner.row + r) * row_bytes +
                       static_cast<size_t>(std::max(corner.plane, 0)) * plane_bytes;
    const int64_t inside = std::min<int64_t>(kRowBytes, 2 * (source.columns - corner.column));
    if (block.options.count_requests && inside > 0) CountTileRow(from + corner.column * 2, inside);
    for (int c = 0; c < kRowBytes / kChunkBytes; ++c) {
      const int column = corner.column + c * kChunkBytes / 2;
      if (column >= source.columns) break;
      OnLoad<kChunkBytes, false>(from + column * 2, bounds, site);
      const size_t at = static_cast<size_t>(r) * kRowBytes + static_cast<size_t>(c) * kChunkBytes;
      const size_t swizzled = (place + at) ^ (((place + at) >> 7 & 7) << 4);
      std::memcpy(box.data() + (swizzled - place), from + column * 2, kChunkBytes);
    }
  }
  return box;
}

// The destination: nobody reads or writes it any more, and until the load has landed nobody may.
void Claim(char* to, const Bounds& bounds, size_t bytes, uint32_t id, const Site& site) {
  const size_t at = static_cast<size_t>(to - arena.base);
  for (size_t i = 0; i < bytes; i += kChunkBytes) {
    const Access access{to + i, bounds, kChunkBytes, true, site};
    if (!Reaches<kChunkBytes>(to + i, bounds)) RefuseStore(access);
    if (!AllInitialised<kChunkBytes>(arena.states + at + i)) InitialiseForStore(access);
    if (!AllBelow<8>(arena.writers + (at + i) / 2, context.first_shared)) {
      CheckWriters(access, false);
    }
    if (!AllBelow<8>(arena.readers + (at + i) / 2, context.first_shared)) CheckReaders(access);
  }
  std::memset(to, 0xff, bytes);
  std::memset(arena.states + at, kInFlight, bytes);
  std::fill_n(arena.writers + at / 2, bytes / 2, id);
  std::fill_n(arena.readers + at / 2, bytes / 2, 0u);
}

void PerformLoadTile(void* const* arguments, int, const Site& site) {
  const Arguments& argument = AllAlike(arguments, site);
  Barrier& barrier = Find(argument.barrier, site);
  const size_t bytes = static_cast<size_t>(argument.source->box_rows) * kRowBytes;
  if (static_cast<size_t>(argument.to - context.shared_base) % kAtomBytes != 0) {
    Violate(site, "misaligned tile load: to byte %td of shared memory, which 1024 does not divide",
            argument.to - context.shared_base);
  }
  const TileCorner& corner = argument.corner;
  if ((corner.plane < 0) != (argument.source->planes == 0)) {
    Violate(site, "a tile load of %d dimensions by a map of %d", corner.plane < 0 ? 2 : 3,
            argument.source->planes == 0 ? 2 : 3);
  }
  if (corner.column < 0 || corner.row < 0 || corner.plane >= std::max(argument.source->planes, 1)) {
    Violate(site, "a tile load from column %d, plane %d, row %d", corner.column, corner.plane,
            corner.row);
  }
  if (static_cast<int64_t>(bytes) > barrier.missing_bytes) {
    Violate(site, "a tile load of %zu bytes, of which the phase of barrier %d expects %lld", bytes,
            barrier.index, static_cast<long long>(barrier.missing_bytes));
  }
  const uint32_t mine = context.mine;
  context.mine = context.warp->first_id + kSeveralLanes;
  const std::vector<char>& data = ReadBox(argument, site);
  Claim(const_cast<char*>(argument.to), argument.to_bounds, bytes,
        NewGroup(kMaxWarps + barrier.index), site);
  context.mine = mine;
  barrier.loads.push_back({const_cast<char*>(argument.to), barrier.phase, data});
  barrier.missing_bytes -= static_cast<int64_t>(bytes);
  EndPhase(barrier);
  ++context.counters.async_copies;
  context.counters.async_bytes += static_cast<int64_t>(bytes);
  if (block.options.count_requests) CountSharedBytes(static_cast<int64_t>(bytes));
}

void PerformFenceAsync(void* const*, int, const Site&) {
  Warp& warp = *context.warp;
  warp.products.store_fence = warp.first_id + kIdsPerGroup;
  warp.first_id = NewGroup(context.warp_index);
}

int RegistersInUse() {
  int registers = 0;
  for (int w = 0; w < block.num_warps; ++w) registers += block.warps[w].registers * kLanes;
  return registers;
}

void PerformRelease(void* const* arguments, int, const Site& site) {
  Warp& warp = *context.warp;
  const int count = static_cast<int>(AllAlike(arguments, site).number);
  if (count > warp.registers) {
    Violate(site, "%d registers are not fewer than the warp's %d", count, warp.registers);
  }
  warp.registers = count;
  for (int w = 0; w < kMaxWarps; ++w) {
    if ((phases.waiting_warps >> w & 1) != 0) Wake(w, phases.waiting_lanes[w]);
  }
  phases.waiting_warps = 0;
}

void PerformClaim(void* const* arguments, int, const Site& site) {
  Warp& warp = *context.warp;
  const int count = static_cast<int>(AllAlike(arguments, site).number);
  if (count < warp.registers) {
    Violate(site, "%d registers are not more than the warp's %d", count, warp.registers);
  }
  while (RegistersInUse() + (count - warp.registers) * kLanes > kBlockRegisters) {
    phases.waiting_warps |= uint32_t{1} << context.warp_index;
    phases.waiting_lanes[context.warp_index] = static_cast<uint8_t>(context.lane);
    Park();
  }
  warp.registers = count;
}

const Operation kArrive = {"ArriveAtBarrier", PerformArrive};
const Operation kWait = {"WaitForPhase", PerformWait};
const Operation kLoadTile = {"LoadTile", PerformLoadTile};
const Operation kFenceAsync = {"FenceAsync", PerformFenceAsync};
const Operation kRelease = {"ReleaseRegisters", PerformRelease};
const Operation kClaim = {"ClaimRegisters", PerformClaim};

void Meet(const Operation& operation, const char* barrier, int64_t number, const Site& site) {
  Arguments argument;
  argument.barrier = barrier;
  argument.number = number;
  Collective(operation, 0, &argument, site);
}

}  // namespace

void InitBarrier(const char* address, int arrivals, const Site& site) {
  OnStore<8, true>(address, {context.shared_base, context.shared_bytes}, site);
  if (arrivals < 1 || arrivals >= 1 << 20) Violate(site, "a barrier of %d arrivals", arrivals);
  int index = 0;
  while (index < phases.num_barriers && phases.barriers[index].address != address) ++index;
  if (index == kMaxBarriers) Violate(site, "more than %d barriers in a block", kMaxBarriers);
  phases.num_barriers = std::max(phases.num_barriers, index + 1);
  phases.barriers[index] = {};
  Barrier& barrier = phases.barriers[index];
  barrier.address = address;
  barrier.index = index;
  barrier.init_id = context.mine;
  barrier.arrivals = barrier.missing = arrivals;
}

void Arrive(const char* address, int64_t bytes, const Site& site) {
  Meet(kArrive, address, bytes, site);
}
void WaitForPhase(const char* address, int parity, const Site& site) {
  Meet(kWait, address, parity, site);
}
void FenceAsync(const Site& site) { Meet(kFenceAsync, nullptr, 0, site); }
void ReleaseRegisters(int count, const Site& site) { Meet(kRelease, nullptr, count, site); }
void ClaimRegisters(int count, const Site& site) { Meet(kClaim, nullptr, count, site); }

void LoadTile(const char* to, const Bounds& to_bounds, const TileSource& source,
              const char* barrier, const TileCorner& corner, const Site& site) {
  Arguments argument{barrier, 0, to, to_bounds, &source, corner};
  Collective(kLoadTile, 0, &argument, site);
}

void ResetPhases() {
  for (int i = 0; i < phases.num_barriers; ++i) phases.barriers[i] = {};
  phases.num_barriers = 0;
  phases.waiting_warps = 0;
  // What the compiler may give each thread: all registers shared out, in units of 8.
  for (int w = 0; w < block.num_warps; ++w) {
    block.warps[w].registers = std::min(kBlockRegisters / (block.num_warps * kLanes) / 8 * 8, 248);
  }
}

void CheckPhasesEnd() {
  for (int i = 0; i < phases.num_barriers; ++i) {
    const size_t loads = phases.barriers[i].loads.size();
    if (loads > 0) {
      Violate({}, "the block ends with %zu tile loads to barrier %d that nobody has waited for",
              loads, i);
    }
  }
}

void DescribeWait(int warp, char* text, size_t size) {
  text[0] = '\0';
  for (int i = 0; i < phases.num_barriers; ++i) {
    const Barrier& barrier = phases.barriers[i];
    if ((barrier.waiting_warps >> warp & 1) == 0) continue;
    std::snprintf(text, size, " (barrier %d, phase %u: %d arrivals and %lld bytes are missing)", i,
                  barrier.phase, barrier.missing, static_cast<long long>(barrier.missing_bytes));
  }
  if ((phases.waiting_warps >> warp & 1) != 0) {
    std::snprintf(text, size, " (%d registers are in use)", RegistersInUse());
  }
}

}  // namespace bertrand::simt::emulator
