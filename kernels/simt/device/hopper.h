#pragma once

// The device half of kernels/simt/hopper.h: PTX one-liners for sm_90a, and traps elsewhere.
// Included by it alone; the contract is there.

#include <cuda.h>

#include "kernels/simt/device/intrinsics.h"

// Set where these instructions exist.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SIMT_HOPPER(...) asm volatile(__VA_ARGS__)
#else
#define SIMT_HOPPER(...) __trap()
#endif

namespace bertrand::simt::inline SIMT_TARGET {

struct PhaseBarrier {
  uint64_t bits;
};

struct TileMap {
  CUtensorMap map;
};

// The fence makes the barrier known to the copy engine.
SIMT_FN void InitBarrier(Shared<PhaseBarrier> barrier, int arrivals, Site = {}) {
  SIMT_HOPPER("mbarrier.init.shared::cta.b64 [%0], %1;\nfence.mbarrier_init.release.cluster;" ::"r"(
                  SharedAddress(barrier.data())),
              "r"(arrivals)
              : "memory");
}
SIMT_FN void ArriveAtBarrier(Shared<PhaseBarrier> barrier, Site = {}) {
  __syncwarp();
  if (LaneIndex() == 0) {
    SIMT_HOPPER("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier.data()))
                : "memory");
  }
}
SIMT_FN void ArriveExpecting(Shared<PhaseBarrier> barrier, int bytes, Site = {}) {
  __syncwarp();
  if (LaneIndex() == 0) {
    SIMT_HOPPER("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                    SharedAddress(barrier.data())),
                "r"(bytes)
                : "memory");
  }
}
SIMT_FN void WaitForPhase(Shared<PhaseBarrier> barrier, int parity, Site = {}) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  uint32_t over;
  do {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(over)
        : "r"(SharedAddress(barrier.data())), "r"(parity)
        : "memory");
  } while (over == 0);
  __syncwarp();
#else
  __trap();
#endif
}

template <typename T>
SIMT_FN void LoadTile(Shared<T> to, const TileMap& map, Shared<PhaseBarrier> barrier, int column,
                      int row, Site = {}) {
  static_assert(sizeof(T) == 2);
  if (LaneIndex() == 0) {
    SIMT_HOPPER(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3}], [%4];" ::"r"(SharedAddress(to.data())),
        "l"(&map.map), "r"(column), "r"(row), "r"(SharedAddress(barrier.data()))
        : "memory");
  }
}

template <typename T>
SIMT_FN void LoadTile(Shared<T> to, const TileMap& map, Shared<PhaseBarrier> barrier, int column,
                      int plane, int row, Site = {}) {
  static_assert(sizeof(T) == 2);
  if (LaneIndex() == 0) {
    SIMT_HOPPER(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(SharedAddress(to.data())),
        "l"(&map.map), "r"(column), "r"(plane), "r"(row), "r"(SharedAddress(barrier.data()))
        : "memory");
  }
}

template <int kN>
struct WgmmaC {
  float v[kN / 2];
};

// A matrix descriptor: address / 16; rows of eight 1024 bytes apart; 128-byte swizzle.
struct WgmmaOperand {
  uint64_t bits;
  SIMT_FN WgmmaOperand AtK(int k) const { return {bits + static_cast<uint64_t>(k * 2 >> 4)}; }
};

// The same with the bytes from 64 columns to the next, which count where the tile's rows are k.
struct WgmmaRows {
  uint64_t bits;
  SIMT_FN WgmmaRows AtRow(int row) const {
    return {bits + static_cast<uint64_t>(row * kTileRowBytes >> 4)};
  }
};

template <typename T>
SIMT_FN WgmmaOperand MakeOperand(Shared<T> tile) {
  const uint64_t address = SharedAddress(tile.data());
  return {(address & 0x3ffff) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 |
          uint64_t{1} << 62};
}

template <typename T>
SIMT_FN WgmmaRows MakeRowsOperand(Shared<T> tile, int rows) {
  const uint64_t address = SharedAddress(tile.data());
  return {(address & 0x3ffff) >> 4 | static_cast<uint64_t>(rows * kTileRowBytes >> 4) << 16 |
          uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62};
}

SIMT_FN void FenceAsync(Site = {}) {
  SIMT_HOPPER("fence.proxy.async.shared::cta;" ::: "memory");
  __syncwarp();
}
SIMT_FN void WgmmaFence(Site = {}) { SIMT_HOPPER("wgmma.fence.sync.aligned;" ::: "memory"); }
SIMT_FN void WgmmaCommit(Site = {}) {
  SIMT_HOPPER("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// The accumulators change here, which the compiler has to know.
template <int kInFlight, int kN>
SIMT_FN void WgmmaWait(WgmmaC<kN>& c, Site = {}) {
  SIMT_HOPPER("wgmma.wait_group.sync.aligned %0;" ::"n"(kInFlight) : "memory");
  SIMT_UNROLL
  for (int i = 0; i < kN / 2; ++i) asm volatile("" : "+f"(c.v[i])::"memory");
}

template <int kCount>
SIMT_FN void ReleaseRegisters(Site = {}) {
  SIMT_HOPPER("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
SIMT_FN void ClaimRegisters(Site = {}) {
  SIMT_HOPPER("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// wgmma's operands: accumulators in rows of eight, the descriptors (or four registers and one), and
// whether to add. The last immediates say that b is rows of k.
#define SIMT_V8(i)                                                                      \
  "+f"(c.v[i]), "+f"(c.v[i + 1]), "+f"(c.v[i + 2]), "+f"(c.v[i + 3]), "+f"(c.v[i + 4]), \
      "+f"(c.v[i + 5]), "+f"(c.v[i + 6]), "+f"(c.v[i + 7])
#define SIMT_V32(i) SIMT_V8(i), SIMT_V8(i + 8), SIMT_V8(i + 16), SIMT_V8(i + 24)
#define SIMT_WGMMA_64(type)                                                            \
  SIMT_HOPPER(                                                                         \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                     \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                      \
      " {"                                                                             \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "         \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
      "}, %32, %33, p, 1, 1, 0, 0;\n}"                                                 \
      : SIMT_V32(0)                                                                    \
      : "l"(a.bits), "l"(b.bits), "r"(static_cast<int>(accumulate)))
#define SIMT_WGMMA_128(type)                                                             \
  SIMT_HOPPER(                                                                           \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                       \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                       \
      " {"                                                                               \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"   \
      "}, %64, %65, p, 1, 1, 0, 0;\n}"                                                   \
      : SIMT_V32(0), SIMT_V32(32)                                                        \
      : "l"(a.bits), "l"(b.bits), "r"(static_cast<int>(accumulate)))
#define SIMT_WGMMA_256(type)                                                                       \
  SIMT_HOPPER(                                                                                     \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                                \
      "wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type                                 \
      " {"                                                                                         \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                     \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "           \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "           \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "           \
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "           \
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "           \
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "     \
      "%111, "                                                                                     \
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
      "%127"                                                                                       \
      "}, %128, %129, p, 1, 1, 0, 0;\n}"                                                           \
      : SIMT_V32(0), SIMT_V32(32), SIMT_V32(64), SIMT_V32(96)                                      \
      : "l"(a.bits), "l"(b.bits), "r"(static_cast<int>(accumulate)))
#define SIMT_WGMMA_ROWS_64(type)                                                       \
  SIMT_HOPPER(                                                                         \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                     \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                      \
      " {"                                                                             \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "         \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}"                                   \
      : SIMT_V32(0)                                                                    \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits),                       \
        "r"(static_cast<int>(accumulate)))
#define SIMT_WGMMA_ROWS_128(type)                                                        \
  SIMT_HOPPER(                                                                           \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"                                       \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                       \
      " {"                                                                               \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"   \
      "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}"                                     \
      : SIMT_V32(0), SIMT_V32(32)                                                        \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits),                         \
        "r"(static_cast<int>(accumulate)))

template <typename T, int kN>
SIMT_FN void Wgmma(WgmmaC<kN>& c, WgmmaOperand a, WgmmaOperand b, bool accumulate, Site = {}) {
  static_assert(kN == 64 || kN == 128 || kN == 256);
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>);
  if constexpr (kN == 64 && std::is_same_v<T, Half>) {
    SIMT_WGMMA_64("f16");
  } else if constexpr (kN == 64) {
    SIMT_WGMMA_64("bf16");
  } else if constexpr (kN == 128 && std::is_same_v<T, Half>) {
    SIMT_WGMMA_128("f16");
  } else if constexpr (kN == 128) {
    SIMT_WGMMA_128("bf16");
  } else if constexpr (std::is_same_v<T, Half>) {
    SIMT_WGMMA_256("f16");
  } else {
    SIMT_WGMMA_256("bf16");
  }
}
template <typename T, int kN>
SIMT_FN void Wgmma(WgmmaC<kN>& c, const uint32_t (&a)[4], WgmmaRows b, bool accumulate, Site = {}) {
  static_assert(kN == 64 || kN == 128);
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>);
  if constexpr (kN == 64 && std::is_same_v<T, Half>) {
    SIMT_WGMMA_ROWS_64("f16");
  } else if constexpr (kN == 64) {
    SIMT_WGMMA_ROWS_64("bf16");
  } else if constexpr (std::is_same_v<T, Half>) {
    SIMT_WGMMA_ROWS_128("f16");
  } else {
    SIMT_WGMMA_ROWS_128("bf16");
  }
}

#undef SIMT_HOPPER
#undef SIMT_V8
#undef SIMT_V32
#undef SIMT_WGMMA_64
#undef SIMT_WGMMA_128
#undef SIMT_WGMMA_256
#undef SIMT_WGMMA_ROWS_64
#undef SIMT_WGMMA_ROWS_128

}  // namespace bertrand::simt::inline SIMT_TARGET
