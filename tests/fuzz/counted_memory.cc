#include "tests/fuzz/counted_memory.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

// What is allocated, in bytes: each block remembers its size in front of itself.
std::atomic<size_t> live_bytes{0}, peak_bytes{0};
constexpr size_t kHeader = 64;

void* Allocate(size_t size, size_t alignment) {
  void* block = std::aligned_alloc(std::max(alignment, kHeader),
                                   (size + 2 * kHeader - 1) / kHeader * kHeader);
  if (block == nullptr) std::abort();
  *static_cast<size_t*>(block) = size;
  const size_t live = live_bytes.fetch_add(size) + size;
  if (live > peak_bytes.load()) peak_bytes.store(live);
  return static_cast<char*>(block) + kHeader;
}

void Free(void* memory) {
  if (memory == nullptr) return;
  void* block = static_cast<char*>(memory) - kHeader;
  live_bytes.fetch_sub(*static_cast<size_t*>(block));
  std::free(block);
}

}  // namespace

// Every form: a sanitizer's own must not meet ours.
void* operator new(size_t size) { return Allocate(size, kHeader); }
void* operator new[](size_t size) { return Allocate(size, kHeader); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return Allocate(size, kHeader); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size, kHeader);
}
void* operator new(size_t size, std::align_val_t) { return Allocate(size, kHeader); }
void operator delete(void* memory) noexcept { Free(memory); }
void operator delete[](void* memory) noexcept { Free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { Free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { Free(memory); }
void operator delete(void* memory, size_t) noexcept { Free(memory); }
void operator delete[](void* memory, size_t) noexcept { Free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Free(memory); }

namespace bertrand {

CountedMemory::CountedMemory() : before_(live_bytes.load()) { ::peak_bytes.store(before_); }

size_t CountedMemory::peak_bytes() const { return ::peak_bytes.load() - before_; }

}  // namespace bertrand
