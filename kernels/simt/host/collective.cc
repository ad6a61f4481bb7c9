#include "kernels/simt/host/collective.h"

#include <cstring>

#include "kernels/simt/host/block.h"
#include "kernels/simt/host/checks.h"

namespace bertrand::simt::emulator {
namespace {

WordArgument& Word(void* const* arguments, int lane) {
  return *static_cast<WordArgument*>(arguments[lane]);
}

void PerformSyncWarp(void* const*, int, const Site&) {
  context.warp->first_id = NewGroup(context.warp_index);
  ++context.counters.warp_barriers;
}

// Lane i takes what lane `source(i)` brought.
template <typename Source>
void Exchange(void* const* arguments, Source source) {
  for (int lane = 0; lane < kLanes; ++lane) {
    Word(arguments, lane).out = Word(arguments, source(lane)).in;
  }
  ++context.counters.shuffles;
}

void PerformShuffleXor(void* const* arguments, int mask, const Site&) {
  Exchange(arguments, [mask](int lane) { return (lane ^ mask) % kLanes; });
}
// Beyond the warp's end a lane keeps its own.
void PerformShuffleDown(void* const* arguments, int delta, const Site&) {
  Exchange(arguments, [delta](int lane) { return lane + delta < kLanes ? lane + delta : lane; });
}
void PerformShuffleUp(void* const* arguments, int delta, const Site&) {
  Exchange(arguments, [delta](int lane) { return lane >= delta ? lane - delta : lane; });
}
void PerformShuffle(void* const* arguments, int, const Site&) {
  Exchange(arguments, [arguments](int lane) {
    return static_cast<int>(static_cast<unsigned>(Word(arguments, lane).lane) % kLanes);
  });
}

void PerformBallot(void* const* arguments, int, const Site&) {
  uint32_t votes = 0;
  for (int lane = 0; lane < kLanes; ++lane) votes |= Word(arguments, lane).in << lane;
  for (int lane = 0; lane < kLanes; ++lane) Word(arguments, lane).out = votes;
  ++context.counters.shuffles;
}

// The warp as a whole reads the rows: a row that one lane wrote is not ordered before that by the
// lane's own program, so only a barrier will do.
void CheckRows(void* const* arguments, int matrices, const Site& site) {
  const uint32_t mine = context.mine;
  const int thread_index = context.thread_index;
  const bool logging = context.logging;
  context.mine = context.warp->first_id + kSeveralLanes;
  context.logging = false;
  for (int lane = 0; lane < 8 * matrices; ++lane) {
    const MatrixArgument& argument = *static_cast<MatrixArgument*>(arguments[lane]);
    context.thread_index = context.warp_index * kLanes + lane;
    OnLoad<16, true>(argument.row, {argument.bounds_begin, argument.bounds_bytes}, site);
  }
  context.mine = mine;
  context.thread_index = thread_index;
  context.logging = logging;
  ++context.counters.ldmatrix;
  if (!block.options.count_requests) return;
  for (int matrix = 0; matrix < matrices; ++matrix) {
    uint64_t rows[8];
    for (int row = 0; row < 8; ++row) {
      const void* argument = arguments[8 * matrix + row];
      rows[row] = reinterpret_cast<uint64_t>(static_cast<const MatrixArgument*>(argument)->row);
    }
    CountSharedRequest(site, false, rows, 8, 16);
  }
}

template <bool kTransposed>
void PerformLoadMatrix(void* const* arguments, int matrices, const Site& site) {
  CheckRows(arguments, matrices, site);
  for (int matrix = 0; matrix < matrices; ++matrix) {
    uint16_t values[8][8];
    for (int row = 0; row < 8; ++row) {
      std::memcpy(values[row], static_cast<const MatrixArgument*>(arguments[8 * matrix + row])->row,
                  16);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      const int g = lane / 4, t = lane % 4;
      const uint32_t low = kTransposed ? values[2 * t][g] : values[g][2 * t];
      const uint32_t high = kTransposed ? values[2 * t + 1][g] : values[g][2 * t + 1];
      static_cast<MatrixArgument*>(arguments[lane])->registers[matrix] = low | high << 16;
    }
  }
}

template <size_t kBytes>
void CheckCopy(const char* to, const Bounds& to_bounds, const char* from, const Bounds& from_bounds,
               bool reads, const Site& site) {
  if (reads) OnLoad<kBytes, false>(from, from_bounds, site);
  OnStore<kBytes, true>(to, to_bounds, site);
}

}  // namespace

const Operation kSyncWarp = {"SyncWarp", PerformSyncWarp};
const Operation kShuffleXor = {"ShuffleXor", PerformShuffleXor};
const Operation kShuffleDown = {"ShuffleDown", PerformShuffleDown};
const Operation kShuffleUp = {"ShuffleUp", PerformShuffleUp};
const Operation kShuffle = {"Shuffle", PerformShuffle};
const Operation kBallot = {"a vote", PerformBallot};
const Operation kLoadMatrix = {"LoadMatrix", PerformLoadMatrix<false>};
const Operation kLoadMatrixTransposed = {"LoadMatrixTransposed", PerformLoadMatrix<true>};

void StartCopy(const char* to, const char* to_begin, size_t to_bytes, const char* from,
               const char* from_begin, size_t from_bytes, int bytes, int valid_bytes,
               const Site& site) {
  const Bounds to_bounds{to_begin, to_bytes}, from_bounds{from_begin, from_bytes};
  if (valid_bytes < 0 || valid_bytes > bytes) {
    Violate(site, "CopyAsync<%d> of %d valid bytes", bytes, valid_bytes);
  }
  // A copy of some of the bytes reads those alone, at an address aligned for all.
  const bool whole = valid_bytes == bytes;
  if (!whole && valid_bytes > 0) {
    if (reinterpret_cast<uintptr_t>(from) % static_cast<size_t>(bytes) != 0) {
      Violate(site, "misaligned load: CopyAsync<%d>", bytes);
    }
    for (int i = 0; i < valid_bytes; ++i) OnLoad<1, false>(from + i, from_bounds, site);
  }
  switch (bytes) {
    case 4:
      CheckCopy<4>(to, to_bounds, from, from_bounds, whole, site);
      break;
    case 8:
      CheckCopy<8>(to, to_bounds, from, from_bounds, whole, site);
      break;
    default:
      CheckCopy<16>(to, to_bounds, from, from_bounds, whole, site);
      break;
  }
  AsyncCopy copy{
      const_cast<char*>(to), {}, static_cast<uint8_t>(bytes), context.thread->copy_group};
  std::memcpy(copy.data, from, static_cast<size_t>(valid_bytes));
  context.thread->copies.push_back(copy);
  std::memset(copy.to, 0xff, static_cast<size_t>(bytes));
  std::memset(arena.states + (to - arena.base), kInFlight, static_cast<size_t>(bytes));
  ++context.counters.async_copies;
  context.counters.async_bytes += valid_bytes;
}

void CommitCopies() { ++context.thread->copy_group; }

void WaitForCopies(uint32_t in_flight) {
  Thread& thread = *context.thread;
  while (thread.copies_landed < thread.copies.size()) {
    const AsyncCopy& copy = thread.copies[thread.copies_landed];
    if (copy.group + in_flight >= thread.copy_group) return;
    const size_t at = static_cast<size_t>(copy.to - arena.base);
    std::memcpy(copy.to, copy.data, copy.bytes);
    std::memset(arena.states + at, kInitialised, copy.bytes);
    for (int i = 0; i < copy.bytes / 2; ++i) arena.writers[at / 2 + i] = context.mine;
    ++thread.copies_landed;
  }
  thread.copies.clear();
  thread.copies_landed = 0;
}

}  // namespace bertrand::simt::emulator
