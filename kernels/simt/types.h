#pragma once

// Plain types that kernels, their launchers and the runtime share. Trivial, without any operation
// that differs between a GPU and the emulator (those are in simt.h), so their bytes may be copied.

#include <cstddef>
#include <cstdint>

// What is compiled is one of two halves: "device" by nvcc, "host" (the emulator) by any C++
// compiler. Everything that is compiled twice lives in `inline namespace SIMT_TARGET`, so that both
// halves can be in one process and the linker cannot take a template of one for that of the other.
#ifdef __CUDACC__
#define SIMT_TARGET device
#define SIMT_FN __device__ __forceinline__
#define SIMT_BOTH __host__ __device__ __forceinline__
#define SIMT_PRAGMA_(text) _Pragma(#text)
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_UNROLL_BY(count) SIMT_PRAGMA_(unroll count)
#else
#define SIMT_TARGET host
#define SIMT_FN inline
#define SIMT_BOTH inline
#define SIMT_UNROLL
#define SIMT_UNROLL_BY(count)
#endif

namespace bertrand::simt {

// IEEE binary16, bfloat16, and e4m3 (OCP FP8: no infinity, largest value 448) by their bits.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};
struct Float8 {
  uint8_t bits;
};

// A few values in registers; also the unit of vector loads and stores, up to 16 bytes.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Vector {
  static_assert((kCount & (kCount - 1)) == 0, "a power of two");
  T values[kCount];
  SIMT_BOTH constexpr T& operator[](int index) { return values[index]; }
  SIMT_BOTH constexpr const T& operator[](int index) const { return values[index]; }
};

// How a global access uses the caches.
enum class Cache {
  kDefault,
  kReadOnly,   // loads: what no kernel writes, weights and what was copied (ld.global.nc)
  kStreaming,  // loads and stores: touched once, evicted first (ld.global.cs, st.global.cs)
};

// A launch's grid. Tiles belong on x: y and z are at most 65535.
struct Grid {
  int x = 1, y = 1, z = 1;
};

SIMT_BOTH constexpr int DivideUp(int value, int divisor) { return (value + divisor - 1) / divisor; }
SIMT_BOTH constexpr int RoundUp(int value, int multiple) {
  return DivideUp(value, multiple) * multiple;
}

}  // namespace bertrand::simt
