#include "kernels/simt/host/checks.h"

#include <algorithm>
#include <cstdio>

#include "kernels/simt/host/block.h"

namespace bertrand::simt::emulator {
namespace {

size_t CellOf(const Access& access) { return static_cast<size_t>(access.address - arena.base) / 2; }
size_t NumCells(const Access& access) { return (access.bytes + 1) / 2; }

// Ids of this block: which group, and which of its ids.
uint32_t GroupOf(uint32_t id) { return (id - block.first_id) / kIdsPerGroup; }
uint32_t PlaceOf(uint32_t id) { return (id - block.first_id) % kIdsPerGroup; }
bool OfMyWarp(uint32_t id) { return WarpOf(id) == context.warp_index; }

// Whether what `id` did comes before what the running thread does now.
bool Ordered(uint32_t id, bool shared) {
  if (id < context.first_global) return true;
  if (id < block.first_id) return shared;  // another block's
  if (id < context.first_shared || id == context.mine) return true;
  if (PlaceOf(id) == kSeveralWarps) return false;
  if (!OfMyWarp(id)) return id < context.warp->clock.before[WarpOf(id)];
  return GroupOf(id) != GroupOf(context.mine);
}

const char* MemoryName(const Access& access) { return access.shared ? "shared" : "global"; }

// A violation never returns, so what it prints owns no memory.
struct Text {
  char text[384] = "";
};

Text NameOf(uint32_t id) {
  Text name;
  if (id < context.launch_first) return {"an earlier kernel, which may still run,"};
  if (id < block.first_id) {
    return id == context.launch_first ? Text{"several blocks"} : Text{"another block"};
  }
  const uint32_t place = PlaceOf(id);
  const int warp = block.group_warps[GroupOf(id)];
  if (warp >= kMaxWarps) {
    std::snprintf(name.text, sizeof(name.text), "a tile load to barrier %d", warp - kMaxWarps);
    return name;
  }
  if (place == kSeveralWarps) return {"several warps"};
  if (place == kSeveralLanes) {
    std::snprintf(name.text, sizeof(name.text), "several lanes of warp %d", warp);
  } else {
    std::snprintf(name.text, sizeof(name.text), "thread %d",
                  warp * kLanes + static_cast<int>(place));
  }
  return name;
}

// " at file:line" of the other access, where it is known.
Text PlaceOfTrace(size_t cell, bool writer) {
  Text place;
  const auto trace = block.traces.find(cell);
  if (trace == block.traces.end()) return place;
  const Site& site = writer ? trace->second.writer : trace->second.reader;
  if (site.file != nullptr) {
    std::snprintf(place.text, sizeof(place.text), " at %s:%d", site.file, site.line);
  }
  return place;
}

[[noreturn]] void ReportRace(const Access& access, size_t cell, uint32_t id, const char* other,
                             const char* now) {
  const char* address = arena.base + cell * 2;
  Violate(
      access.site,
      "race in %s memory: %s %s byte %td of the view%s and this thread %s it, and nothing orders "
      "the two",
      MemoryName(access), NameOf(id).text, other, address - access.bounds.begin,
      PlaceOfTrace(cell, other[0] == 'w').text, now);
}

// Violates for every reason that loads and stores share.
void RefuseOutside(const Access& access, const char* what) {
  const ptrdiff_t offset = access.address - access.bounds.begin;
  if (access.bounds.begin == nullptr) Violate(access.site, "%s through an absent operand", what);
  if (access.bounds.bytes == 0) {
    Violate(access.site, "%s through a view that is empty or not of device memory", what);
  }
  if (offset < 0 || static_cast<size_t>(offset) + access.bytes > access.bounds.bytes) {
    Violate(access.site, "%s out of bounds: bytes %td to %td of a %s view of %zu bytes", what,
            offset, offset + static_cast<ptrdiff_t>(access.bytes) - 1, MemoryName(access),
            access.bounds.bytes);
  }
  if (reinterpret_cast<uintptr_t>(access.address) % access.bytes != 0) {
    Violate(access.site, "misaligned %s: %zu bytes at byte %td of a %s view", what, access.bytes,
            offset, MemoryName(access));
  }
  const uint8_t* states = arena.states + (access.address - arena.base);
  for (size_t i = 0; i < access.bytes; ++i) {
    if (states[i] == kUnallocated) {
      Violate(access.site, "%s of unallocated memory: byte %td of a %s view, beyond its allocation",
              what, offset + static_cast<ptrdiff_t>(i), MemoryName(access));
    }
    if (states[i] == kInFlight) {
      Violate(access.site,
              "%s of byte %td of a shared view, which is the destination of a copy by %s that has "
              "not been waited for",
              what, offset + static_cast<ptrdiff_t>(i), NameOf(arena.writers[CellOf(access)]).text);
    }
  }
}

}  // namespace

bool IsOrdered(uint32_t id) { return Ordered(id, true); }
bool IsOfSeveralWarps(uint32_t id) { return PlaceOf(id) == kSeveralWarps; }
int WarpOf(uint32_t id) { return block.group_warps[GroupOf(id)]; }

void RefuseLoad(const Access& access) {
  RefuseOutside(access, "load");
  const uint8_t* states = arena.states + (access.address - arena.base);
  const ptrdiff_t first = std::find(states, states + access.bytes, kUninitialised) - states;
  Violate(access.site, "load of uninitialised %s memory: byte %td of the view", MemoryName(access),
          access.address - access.bounds.begin + first);
}

void RefuseStore(const Access& access) {
  RefuseOutside(access, "store");
  Violate(access.site, "store refused");
}

void InitialiseForStore(const Access& access) {
  RefuseOutside(access, "store");
  std::memset(arena.states + (access.address - arena.base), kInitialised, access.bytes);
}

void CheckWriters(const Access& access, bool reading) {
  const size_t first = CellOf(access);
  for (size_t cell = first; cell < first + NumCells(access); ++cell) {
    const uint32_t id = arena.writers[cell] & ~kAtomic;
    if (!Ordered(id, access.shared)) {
      ReportRace(access, cell, id, "wrote", reading ? "reads" : "writes");
    }
  }
}

void CheckReaders(const Access& access) {
  const size_t first = CellOf(access);
  for (size_t cell = first; cell < first + NumCells(access); ++cell) {
    const uint32_t id = arena.readers[cell];
    if (id == kAsyncReaders) {
      CheckTileReaders(access);
      continue;
    }
    if (!Ordered(id, access.shared)) ReportRace(access, cell, id, "read", "writes");
  }
}

void CheckReadOnly(const Access& access) {
  if (!arena.Contains(access.address, access.bytes)) return;  // OnLoad says it
  const size_t first = CellOf(access);
  for (size_t cell = first; cell < first + NumCells(access); ++cell) {
    const uint32_t id = arena.writers[cell] & ~kAtomic;
    if (id >= block.settled_id && id < context.launch_first) {
      Violate(access.site,
              "load with Cache::kReadOnly of byte %td of the view, which an earlier kernel wrote: "
              "what is cached may be older",
              access.address - access.bounds.begin);
    }
  }
}

void AddReader(const Access& access) {
  const size_t first = CellOf(access);
  const uint32_t several_warps = context.first_shared + kSeveralWarps;
  for (size_t cell = first; cell < first + NumCells(access); ++cell) {
    uint32_t& reader = arena.readers[cell];
    const uint32_t id = reader;
    if (id == several_warps || id == context.mine) continue;
    if (id == kAsyncReaders) {
      AddTileReader(access.address);
      continue;
    }
    if (id < context.launch_first) {
      reader = context.mine;
    } else if (id < block.first_id) {
      reader = access.shared ? context.mine : context.launch_first;  // several blocks
    } else if (id < context.first_shared) {
      reader = context.mine;
    } else if (!OfMyWarp(id)) {
      reader = several_warps;
    } else {
      // An older group's readers are ordered before all that this warp does, and for other warps
      // any reader of this one will do.
      reader = GroupOf(id) == GroupOf(context.mine) ? context.warp->first_id + kSeveralLanes
                                                    : context.mine;
    }
  }
}

void OnAtomic(const Access& access) {
  const size_t offset = static_cast<size_t>(access.address - access.bounds.begin);
  const size_t at = static_cast<size_t>(access.address - arena.base);
  if (offset >= access.bounds.bytes || access.bounds.bytes - offset < access.bytes ||
      reinterpret_cast<uintptr_t>(access.address) % access.bytes != 0 ||
      std::any_of(arena.states + at, arena.states + at + access.bytes,
                  [](uint8_t state) { return state != kInitialised; })) {
    RefuseLoad(access);
  }
  CheckReaders(access);
  for (size_t cell = at / 2; cell < at / 2 + NumCells(access); ++cell) {
    const uint32_t writer = arena.writers[cell];
    if ((writer & kAtomic) == 0 && !Ordered(writer, access.shared)) {
      ReportRace(access, cell, writer, "wrote", "changes");
    }
    arena.writers[cell] = context.mine | kAtomic;
  }
  ++context.counters.atomics;
}

void LogAccess(AccessKind kind, const Access& access) {
  if (block.options.count_requests) {
    context.thread->log.push_back({access.site, reinterpret_cast<uint64_t>(access.address),
                                   static_cast<uint32_t>(access.bytes), kind});
  }
  if (!block.options.trace) return;
  const bool store = kind == AccessKind::kGlobalStore || kind == AccessKind::kSharedStore;
  const size_t first = CellOf(access);
  for (size_t cell = first; cell < first + NumCells(access); ++cell) {
    Trace& trace = block.traces[cell];
    (store ? trace.writer : trace.reader) = access.site;
  }
}

}  // namespace bertrand::simt::emulator
