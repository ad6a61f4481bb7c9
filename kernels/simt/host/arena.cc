#include "kernels/simt/host/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

#include "kernels/status.h"

namespace bertrand::simt::emulator {
namespace {

constexpr size_t kLargestArena = size_t{16} << 30, kSmallestArena = size_t{64} << 20;
constexpr size_t kPage = 4096;

std::mutex mutex;
std::map<size_t, size_t> free_ranges;  // offset -> bytes
std::map<size_t, size_t> used_ranges;  // offset -> bytes, red zone included
uint64_t num_allocations = 0;

// States, then two arrays of ids at 4 bytes for every 2: six bytes in all for a byte.
void* ReserveAddresses(size_t data_bytes) {
  void* memory = mmap(nullptr, data_bytes * 6, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  madvise(memory, data_bytes * 6, MADV_DONTDUMP);
  return memory;
}

void ReserveArenaLocked() {
  if (arena.base != nullptr) return;
  for (size_t bytes = kLargestArena; bytes >= kSmallestArena; bytes /= 2) {
    char* memory = static_cast<char*>(ReserveAddresses(bytes));
    if (memory == nullptr) continue;
    arena.states = reinterpret_cast<uint8_t*>(memory + bytes);
    arena.writers = reinterpret_cast<uint32_t*>(memory + 2 * bytes);
    arena.readers = reinterpret_cast<uint32_t*>(memory + 4 * bytes);
    arena.size_bytes = bytes;
    arena.base = memory;
    free_ranges[kRedZoneBytes] = bytes - kRedZoneBytes;
    return;
  }
  BERTRAND_CHECK(false, "no address space for the emulator's memory");
}

size_t OffsetOf(const void* memory) {
  return static_cast<size_t>(static_cast<const char*>(memory) - arena.base);
}

void SetStates(void* memory, size_t size_bytes, ByteState state) {
  BERTRAND_CHECK(arena.Contains(memory, size_bytes), "not the emulator's memory");
  std::memset(arena.states + OffsetOf(memory), state, size_bytes);
}

// Gives whole pages back to the system; they read as zero afterwards.
void DropPages(void* memory, size_t size_bytes) {
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + size_bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace

void ReserveArena() {
  const std::lock_guard<std::mutex> lock(mutex);
  ReserveArenaLocked();
}

void* AllocateInArena(size_t size_bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  ++num_allocations;
  ReserveArenaLocked();
  if (size_bytes > arena.size_bytes) return nullptr;
  const size_t bytes = (size_bytes + 255) / 256 * 256 + kRedZoneBytes;
  const auto found = std::find_if(free_ranges.begin(), free_ranges.end(),
                                  [bytes](const auto& range) { return range.second >= bytes; });
  if (found == free_ranges.end()) return nullptr;
  const auto [offset, available] = *found;
  free_ranges.erase(found);
  if (available > bytes) free_ranges[offset + bytes] = available - bytes;
  used_ranges[offset] = bytes;
  MarkUninitialised(arena.base + offset, size_bytes);
  return arena.base + offset;
}

uint64_t NumArenaAllocations() {
  const std::lock_guard<std::mutex> lock(mutex);
  return num_allocations;
}

void FreeInArena(void* memory) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto used = used_ranges.find(OffsetOf(memory));
  BERTRAND_CHECK(used != used_ranges.end(), "freed memory that is not allocated");
  auto [offset, bytes] = *used;
  used_ranges.erase(used);
  MarkUnallocated(arena.base + offset, bytes);
  DropPages(arena.base + offset, bytes);
  auto after = free_ranges.lower_bound(offset);
  if (after != free_ranges.end() && after->first == offset + bytes) {
    bytes += after->second;
    after = free_ranges.erase(after);
  }
  if (after != free_ranges.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  free_ranges[offset] = bytes;
}

void MarkUninitialised(void* memory, size_t size_bytes) {
  SetStates(memory, size_bytes, kUninitialised);
  std::memset(memory, 0xff, size_bytes);
}

void MarkUnallocated(void* memory, size_t size_bytes) {
  SetStates(memory, size_bytes, kUnallocated);
}

void MarkInitialised(void* memory, size_t size_bytes) {
  SetStates(memory, size_bytes, kInitialised);
}

size_t FirstBelow(const void* memory, size_t size_bytes, ByteState at_least) {
  if (!arena.Contains(memory, size_bytes)) return 0;
  const uint8_t* states = arena.states + OffsetOf(memory);
  return static_cast<size_t>(
      std::find_if(states, states + size_bytes, [=](uint8_t state) { return state < at_least; }) -
      states);
}

void ForgetAccesses() {
  if (arena.base == nullptr) return;
  DropPages(arena.writers, arena.size_bytes * 2);
  DropPages(arena.readers, arena.size_bytes * 2);
}

}  // namespace bertrand::simt::emulator
