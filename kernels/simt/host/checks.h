#pragma once

// The check of one access, inlined into every load and store of an emulated kernel: a few compares
// when all is well. What is not plainly well goes to checks.cc, which knows the rules (context.h).

#include <cstring>

#include "kernels/simt/host/context.h"

namespace bertrand::simt::emulator {

// The memory a view may reach.
struct Bounds {
  const char* begin = nullptr;
  size_t bytes = 0;
};

// One access by the running thread, for the slow paths.
struct Access {
  const char* address;
  Bounds bounds;
  size_t bytes;
  bool shared;
  Site site;
};

// Bounds, alignment or state forbid the access; says which.
[[noreturn]] void RefuseLoad(const Access& access);
// The states of a store or atomic that are not all kInitialised: violates, or makes them so.
void InitialiseForStore(const Access& access);
[[noreturn]] void RefuseStore(const Access& access);
// Violates unless the last writers (readers) are ordered before the running thread.
void CheckWriters(const Access& access, bool reading);
void CheckReaders(const Access& access);
// A load past the caches' coherence: violates if a kernel that may overlap this one wrote there.
void CheckReadOnly(const Access& access);
// Adds the running thread to the readers.
void AddReader(const Access& access);
void LogAccess(AccessKind kind, const Access& access);

// Ids (context.h): whether what `id` did comes before what the running thread does now, in shared
// memory; of which warp it is, or barrier (async.h). Requires: an id of this block's, but for the
// first.
bool IsOrdered(uint32_t id);
bool IsOfSeveralWarps(uint32_t id);
int WarpOf(uint32_t id);

// Checks and records an atomic operation of `access.bytes` bytes.
void OnAtomic(const Access& access);
// One row of 16 bytes that the running thread's warp reads as a whole (ldmatrix).
void OnMatrixRow(const Access& access);

typedef uint32_t Ids __attribute__((vector_size(16)));
typedef uint64_t IdsWords __attribute__((vector_size(16)));

inline bool AnySet(Ids mask) {
  const IdsWords words = reinterpret_cast<IdsWords>(mask);
  return (words[0] | words[1]) != 0;
}

inline Ids LoadIds(const uint32_t* ids) {
  Ids loaded;
  std::memcpy(&loaded, ids, sizeof(loaded));
  return loaded;
}

// Whether every one of kCells ids is below `first` or is `mine`.
template <int kCells>
inline bool AllOver(const uint32_t* ids, uint32_t first, uint32_t mine) {
  if constexpr (kCells >= 4) {
    Ids bad{};
    for (int i = 0; i < kCells; i += 4) {
      const Ids id = LoadIds(ids + i);
      bad |= reinterpret_cast<Ids>(id >= first) & reinterpret_cast<Ids>(id != mine);
    }
    return !AnySet(bad);
  } else {
    bool over = true;
    for (int i = 0; i < kCells; ++i) over &= (ids[i] < first) | (ids[i] == mine);
    return over;
  }
}

template <int kCells>
inline bool AllBelow(const uint32_t* ids, uint32_t first) {
  if constexpr (kCells >= 4) {
    Ids bad{};
    for (int i = 0; i < kCells; i += 4) bad |= reinterpret_cast<Ids>(LoadIds(ids + i) >= first);
    return !AnySet(bad);
  } else {
    bool below = true;
    for (int i = 0; i < kCells; ++i) below &= ids[i] < first;
    return below;
  }
}

template <int kCells>
inline bool AllEqual(const uint32_t* ids, uint32_t value) {
  if constexpr (kCells >= 4) {
    Ids bad{};
    for (int i = 0; i < kCells; i += 4) bad |= reinterpret_cast<Ids>(LoadIds(ids + i) != value);
    return !AnySet(bad);
  } else {
    bool equal = true;
    for (int i = 0; i < kCells; ++i) equal &= ids[i] == value;
    return equal;
  }
}

template <size_t kBytes>
inline bool AllInitialised(const uint8_t* states) {
  static_assert(kBytes == 1 || kBytes == 2 || kBytes == 4 || kBytes == 8 || kBytes == 16);
  constexpr uint64_t kAll = 0x0101010101010101u * kInitialised;
  uint64_t words[2] = {kAll, kAll};
  std::memcpy(words, states, kBytes);
  return words[0] == kAll && (kBytes <= 8 || words[1] == kAll);
}

template <size_t kBytes>
inline bool Reaches(const char* address, const Bounds& bounds) {
  const size_t offset = static_cast<size_t>(address - bounds.begin);
  return offset < bounds.bytes && bounds.bytes - offset >= kBytes &&
         reinterpret_cast<uintptr_t>(address) % kBytes == 0;
}

template <size_t kBytes, bool kShared>
inline void OnLoad(const char* address, const Bounds& bounds, const Site& site) {
  constexpr int kCells = (kBytes + 1) / 2;
  const size_t at = static_cast<size_t>(address - arena.base);
  if (!Reaches<kBytes>(address, bounds) || !AllInitialised<kBytes>(arena.states + at))
      [[unlikely]] {
    RefuseLoad({address, bounds, kBytes, kShared, site});
  }
  const uint32_t first = kShared ? context.first_shared : context.first_global;
  const uint32_t mine = context.mine;
  if (!AllOver<kCells>(arena.writers + at / 2, first, mine)) [[unlikely]] {
    CheckWriters({address, bounds, kBytes, kShared, site}, true);
  }
  uint32_t* readers = arena.readers + at / 2;
  if (AllBelow<kCells>(readers, first)) {
    for (int i = 0; i < kCells; ++i) readers[i] = mine;
  } else if (!AllEqual<kCells>(readers, mine) &&
             !AllEqual<kCells>(readers, context.first_shared + kSeveralWarps) &&
             (kShared || !AllEqual<kCells>(readers, context.launch_first))) {
    AddReader({address, bounds, kBytes, kShared, site});
  }
  if (context.logging) [[unlikely]] {
    LogAccess(kShared ? AccessKind::kSharedLoad : AccessKind::kGlobalLoad,
              {address, bounds, kBytes, kShared, site});
  }
}

template <size_t kBytes, bool kShared>
inline void OnStore(const char* address, const Bounds& bounds, const Site& site) {
  constexpr int kCells = (kBytes + 1) / 2;
  if (!Reaches<kBytes>(address, bounds)) [[unlikely]] {
    RefuseStore({address, bounds, kBytes, kShared, site});
  }
  const size_t at = static_cast<size_t>(address - arena.base);
  if (!AllInitialised<kBytes>(arena.states + at)) {
    InitialiseForStore({address, bounds, kBytes, kShared, site});
  }
  const uint32_t first = kShared ? context.first_shared : context.first_global;
  const uint32_t mine = context.mine;
  uint32_t* writers = arena.writers + at / 2;
  if (!AllOver<kCells>(writers, first, mine)) [[unlikely]] {
    CheckWriters({address, bounds, kBytes, kShared, site}, false);
  }
  if (!AllOver<kCells>(arena.readers + at / 2, first, mine)) [[unlikely]] {
    CheckReaders({address, bounds, kBytes, kShared, site});
  }
  for (int i = 0; i < kCells; ++i) writers[i] = mine;
  if (context.logging) [[unlikely]] {
    LogAccess(kShared ? AccessKind::kSharedStore : AccessKind::kGlobalStore,
              {address, bounds, kBytes, kShared, site});
  }
}

}  // namespace bertrand::simt::emulator
