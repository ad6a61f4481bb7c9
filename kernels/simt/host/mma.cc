#include <cstring>

#include "kernels/simt/host/async.h"
#include "kernels/simt/host/block.h"
#include "kernels/simt/host/collective.h"

// An mma is most of what emulated attention does, so it is done with vectors, of AVX2 where the
// machine has it: 0.35 us with its 32 switches, of which 0.2 are the switches.

namespace bertrand::simt::emulator {
namespace {

typedef float Floats __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));
#define SIMT_INLINE __attribute__((always_inline)) inline

struct HalfFormat {
  // The 16 low bits of each word.
  static SIMT_INLINE Floats ToFloats(Words half) {
    const Words magnitude = (half & 0x7fffu) << 13;
    Words bits = reinterpret_cast<Words>(reinterpret_cast<Floats>(magnitude) * 0x1p112f);
    // Infinity and NaN.
    bits |= reinterpret_cast<Words>(magnitude >= 0x0f800000u) & 0x7f800000u;
    return reinterpret_cast<Floats>(bits | (half & 0x8000u) << 16);
  }
};

struct BFloat16Format {
  static SIMT_INLINE Floats ToFloats(Words half) { return reinterpret_cast<Floats>(half << 16); }
};

// The fragments' words as matrices of pairs: pair j holds k = 2 j (low) and 2 j + 1 (high).
struct Fragments {
  alignas(32) uint32_t a[16][8];  // [row][pair]
  alignas(32) uint32_t b[8][8];   // [pair][column]
  alignas(32) float c[16][8];     // [row][column]
};

SIMT_INLINE void Gather(void* const* arguments, Fragments& f) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const MmaArgument& argument = *static_cast<const MmaArgument*>(arguments[lane]);
    const int g = lane / 4, t = lane % 4;
    f.a[g][t] = argument.a[0];
    f.a[g + 8][t] = argument.a[1];
    f.a[g][t + 4] = argument.a[2];
    f.a[g + 8][t + 4] = argument.a[3];
    f.b[t][g] = argument.b[0];
    f.b[t + 4][g] = argument.b[1];
    std::memcpy(&f.c[g][2 * t], argument.c, 8);
    std::memcpy(&f.c[g + 8][2 * t], argument.c + 2, 8);
  }
}

// c += a b: products of 16-bit floats are exact, so fusing changes nothing; sums in the order of k
// (a tensor core takes another, and keeps a few more bits).
template <typename Format>
SIMT_INLINE void Multiply(void* const* arguments) {
  Fragments f;
  Gather(arguments, f);
  Floats b[8][2];
  for (int pair = 0; pair < 8; ++pair) {
    Words words;
    std::memcpy(&words, f.b[pair], sizeof(words));
    b[pair][0] = Format::ToFloats(words & 0xffffu);
    b[pair][1] = Format::ToFloats(words >> 16);
  }
  for (int row = 0; row < 16; row += 4) {
    Floats c[4];
    alignas(32) float a[4][2][8];
    std::memcpy(c, f.c[row], sizeof(c));
    for (int i = 0; i < 4; ++i) {
      Words words;
      std::memcpy(&words, f.a[row + i], sizeof(words));
      const Floats low = Format::ToFloats(words & 0xffffu), high = Format::ToFloats(words >> 16);
      std::memcpy(a[i][0], &low, sizeof(low));
      std::memcpy(a[i][1], &high, sizeof(high));
    }
    for (int pair = 0; pair < 8; ++pair) {
      for (int i = 0; i < 4; ++i) c[i] += a[i][0][pair] * b[pair][0];
      for (int i = 0; i < 4; ++i) c[i] += a[i][1][pair] * b[pair][1];
    }
    std::memcpy(f.c[row], c, sizeof(c));
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    float* c = static_cast<const MmaArgument*>(arguments[lane])->c;
    const int g = lane / 4, t = lane % 4;
    std::memcpy(c, &f.c[g][2 * t], 8);
    std::memcpy(c + 2, &f.c[g + 8][2 * t], 8);
  }
}

// [row][k] of one format.
template <typename Format>
SIMT_INLINE void ToFloatRow(const uint16_t* row, float* floats) {
  for (int k = 0; k < 16; k += 8) {
    Words words;
    for (int i = 0; i < 8; ++i) words[i] = row[k + i];
    const Floats values = Format::ToFloats(words);
    std::memcpy(floats + k, &values, sizeof(values));
  }
}

// The same for a warp's part of a Wgmma: eight columns of b and four rows of a at a time.
template <typename Format>
SIMT_INLINE void MultiplyRows(const uint16_t (&a)[16][16], const uint16_t (*b)[16], int columns,
                              float* c) {
  float rows[16][16];
  for (int row = 0; row < 16; ++row) ToFloatRow<Format>(a[row], rows[row]);
  for (int column = 0; column < columns; column += 8) {
    Floats across[16];
    for (int i = 0; i < 8; ++i) {
      float values[16];
      ToFloatRow<Format>(b[column + i], values);
      for (int k = 0; k < 16; ++k) across[k][i] = values[k];
    }
    for (int row = 0; row < 16; row += 4) {
      Floats sums[4];
      for (int i = 0; i < 4; ++i) {
        std::memcpy(&sums[i], c + (row + i) * columns + column, sizeof(Floats));
      }
      for (int k = 0; k < 16; ++k) {
        for (int i = 0; i < 4; ++i) sums[i] += rows[row + i][k] * across[k];
      }
      for (int i = 0; i < 4; ++i) {
        std::memcpy(c + (row + i) * columns + column, &sums[i], sizeof(Floats));
      }
    }
  }
}

template <typename Format>
void MultiplyBaseline(void* const* arguments) {
  Multiply<Format>(arguments);
}
template <typename Format>
void MultiplyRowsBaseline(const uint16_t (&a)[16][16], const uint16_t (*b)[16], int columns,
                          float* c) {
  MultiplyRows<Format>(a, b, columns, c);
}

#if defined(__x86_64__)
template <typename Format>
__attribute__((target("avx2,fma"))) void MultiplyAvx2(void* const* arguments) {
  Multiply<Format>(arguments);
}
template <typename Format>
__attribute__((target("avx2,fma"))) void MultiplyRowsAvx2(const uint16_t (&a)[16][16],
                                                          const uint16_t (*b)[16], int columns,
                                                          float* c) {
  MultiplyRows<Format>(a, b, columns, c);
}

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

template <typename Format>
void PerformMma(void* const* arguments, int, const Site&) {
  ++context.counters.mma;
#if defined(__x86_64__)
  static const bool avx2 = HasAvx2();
  if (avx2) return MultiplyAvx2<Format>(arguments);
#endif
  MultiplyBaseline<Format>(arguments);
}

template <typename Format>
void MultiplyTilesAs(const uint16_t (&a)[16][16], const uint16_t (*b)[16], int columns, float* c) {
#if defined(__x86_64__)
  static const bool avx2 = HasAvx2();
  if (avx2) return MultiplyRowsAvx2<Format>(a, b, columns, c);
#endif
  MultiplyRowsBaseline<Format>(a, b, columns, c);
}

}  // namespace

void MultiplyTiles(bool bfloat16, const uint16_t (&a)[16][16], const uint16_t (*b)[16], int columns,
                   float* c) {
  if (bfloat16) return MultiplyTilesAs<BFloat16Format>(a, b, columns, c);
  MultiplyTilesAs<HalfFormat>(a, b, columns, c);
}

const Operation kMmaHalf = {"Mma<Half>", PerformMma<HalfFormat>};
const Operation kMmaBFloat16 = {"Mma<BFloat16>", PerformMma<BFloat16Format>};

}  // namespace bertrand::simt::emulator
