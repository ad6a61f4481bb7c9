#pragma once

// The emulator's device memory: one range of addresses, with the shadow that every access is
// checked against beside it. For each byte its state; for each two bytes who wrote and who read it
// last (ids as in context.h). Two bytes, because the smallest stores that neighbouring threads make
// to neighbouring addresses are of 16-bit values: a store of one byte counts as one of both.
//
// Process-wide and made at the first use; never freed. Allocate, Free and the Mark functions may be
// called from any thread; a range belongs to one caller. Address space is reserved, memory is taken
// as it is touched: 1 byte of state and, where kernels go, 4 bytes of ids for each byte.

#include <cstddef>
#include <cstdint>

namespace bertrand::simt::emulator {

enum ByteState : uint8_t {
  kUnallocated = 0,
  kUninitialised = 1,
  kInFlight = 2,  // the destination of a cp.async that has not been waited for
  kInitialised = 3,
};

struct Arena {
  char* base = nullptr;
  uint8_t* states = nullptr;
  uint32_t* writers = nullptr;
  uint32_t* readers = nullptr;
  size_t size_bytes = 0;

  bool Contains(const void* address, size_t bytes) const {
    const size_t offset = static_cast<size_t>(static_cast<const char*>(address) - base);
    return offset < size_bytes && bytes <= size_bytes - offset;
  }
};

// What lies between two allocations, at least.
inline constexpr size_t kRedZoneBytes = 256;

// Valid once Allocate or Reserve has been called.
inline Arena arena;

void ReserveArena();

// Aligned to 256 bytes, unreachable memory around it, contents uninitialised (all bits set: NaN).
// nullptr when the arena is full.
void* AllocateInArena(size_t size_bytes);
void FreeInArena(void* memory);
// Calls of AllocateInArena so far.
uint64_t NumArenaAllocations();

// Contents are overwritten with all bits set, too.
void MarkUninitialised(void* memory, size_t size_bytes);
void MarkUnallocated(void* memory, size_t size_bytes);
void MarkInitialised(void* memory, size_t size_bytes);

// The first byte of [memory, memory + size_bytes) whose state is below `at_least`, or size_bytes.
size_t FirstBelow(const void* memory, size_t size_bytes, ByteState at_least);

// Forgets who read and wrote what (ids start again).
void ForgetAccesses();

}  // namespace bertrand::simt::emulator
