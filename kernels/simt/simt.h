#pragma once

// The vocabulary of kernel bodies: the only way they reach threads, memory and special
// instructions.
//
// It has two implementations. nvcc compiles it to PTX one-liners (device/intrinsics.h) that cost
// nothing over raw pointers: tests/kernels/simt/identity compares the machine code. Any C++
// compiler compiles it to an emulator (host/), which runs a block's threads as fibres and checks
// every access: docs/emulator.md says what it finds. A body is a struct with one entry:
//
//   template <typename T>
//   struct ScaleKernel {
//     static constexpr const char* kName = "scale";
//     static constexpr int kThreads = 256;            // the block, a multiple of 32
//     static constexpr int kMinBlocks = 4;            // optional: an SM's blocks (registers)
//     struct Params {                                 // plain data, by value, read-only
//       Global<const T> x;                            // views carry their bounds in the emulator
//       Global<T> y;
//       int count;
//     };
//     struct Layout {                                 // optional: dynamic shared memory
//       alignas(16) float partial[kThreads];          // never __shared__
//     };
//     SIMT_FN static void Run(const Params& p) {
//       Shared<float> partial = SharedArray<&Layout::partial>();
//       const int i = BlockIndex() * kThreads + ThreadIndex();
//       if (i < p.count) Store(p.y + i, FromFloat<T>(2 * ToFloat(Load(p.x + i))));
//     }
//   };
//
// and is started by Launch<ScaleKernel<Half>>(stream, {.grid = {blocks}}, params) of runtime.h.
// Bodies (x.cuh) and launchers (x.cu) live in `namespace bertrand::gpu::inline SIMT_TARGET`. Helper
// functions are marked SIMT_FN. No lambdas, no static or global variables, no recursion, no raw
// pointers, no <cmath>, no alloca; arrays indexed by constants after SIMT_UNROLL stay in registers.
//
// Threads and blocks (blocks have one dimension; threads a multiple of 32, at most 1024)
//   ThreadIndex() NumThreads()   LaneIndex() 0..31   WarpIndex() NumWarps()
//   BlockIndex() BlockIndexY() BlockIndexZ()         NumBlocks() NumBlocksY() NumBlocksZ()
//
// Memory. Global<T> and Shared<T> are views; Global<const T> reads. A default-made Global is an
// absent operand (`if (p.bias)`). view + n and view.Slice(first, count) move within bounds;
// Cast<U>(view) reads the same bytes as another type. V below is either kind.
//   T            Load<cache>(V p)                    cache: Cache::kDefault, kReadOnly, kStreaming
//   void         Store<cache>(V p, T value)
//   Vector<T, n> LoadVector<n, cache>(V p)           4, 8 or 16 bytes at once, aligned to them
//   void         StoreVector<cache>(V p, Vector<T, n>)   2 bytes and more (1-byte stores race, see
//                                                    docs/emulator.md)
//   Shared<T>    SharedArray<&Layout::member>()      the member as a flat array, bounds checked
//   Shared<T>    SharedTail<Layout, T>(count)        after it, sized by LaunchShape.tail_bytes
//   T            AtomicAdd(V p, T value)             relaxed; returns the old value. int, uint32_t,
//   T            AtomicMax(V p, T value)             float
//
// Barriers. Only these order memory: SyncThreads for the block, SyncWarp within a warp. Shuffles,
// votes, LoadMatrix and Mma do not. Every lane of a warp (thread of the block) must arrive at the
// same place in the source. Blocks of one launch are never ordered (atomics aside).
//   SyncThreads()   SyncWarp()
//
// Earlier kernels. From Hopper on a kernel begins while the one before it in the stream still runs,
// which hides its launch. What earlier kernels write may be read, and what they read or write may
// be written, only after every thread itself has called
//   WaitForEarlierKernels()
// The runtime calls it before Run, unless the kernel says `static constexpr bool kWaitsItself =
// true`: then Run does, in every thread and before any return, and can fetch before it what no
// kernel writes (weights).
//
// Warp collectives: all 32 lanes. T is a 4-byte type. The mask or delta is the same in all lanes.
//   T ShuffleXor(T, int mask)   T ShuffleDown(T, int delta)   T ShuffleUp(T, int delta)
//   T Shuffle(T, int lane)      each lane reads the lane it names
//   uint32_t WarpBallot(bool)   bool WarpAny(bool)   bool WarpAll(bool)
//   T WarpSum<width>(T)  WarpMax<width>(T)  WarpMin<width>(T)   over groups of `width` (32) lanes,
//                                                    result in all of them
//   float BlockSum(float, Shared<float> scratch)     all threads; the result in all of them; int
//   float BlockMax(float, Shared<float> scratch)     likewise. scratch: NumWarps() values, with a
//                                                    barrier before and after its use
//
// Asynchronous copies (cp.async) from global to shared memory, 4, 8 or 16 bytes, aligned to them.
// Of them `valid_bytes` are read, the rest becomes zero. The data is there, for the issuing thread
// alone, after CopyAsyncWait; a barrier makes it visible to the others.
//   CopyAsync<bytes>(Shared<T> to, Global<const T> from [, int valid_bytes])
//   CopyAsyncCommit()           closes the thread's group of copies
//   CopyAsyncWait<n>()          until at most n of its groups are in flight
//
// Tensor cores. T is Half or BFloat16; fragments are registers of one lane, two values packed in
// each (the lower index in the lower half). With g = lane / 4, t = lane % 4:
//   MmaA, 16 x 16 (row, k)      r[0]: (g, 2t..)  r[1]: (g + 8, 2t..)  r[2]: (g, 2t + 8..)
//                               r[3]: (g + 8, 2t + 8..)
//   MmaB, 16 x 8 (k, column)    r[0]: (2t.., g)  r[1]: (2t + 8.., g)
//   MmaC, 16 x 8 (row, column)  v[0], v[1]: (g, 2t..)   v[2], v[3]: (g + 8, 2t..)
//   Mma<T>(MmaC& c, const MmaA& a, const MmaB& b)    c += a b, float accumulation
//   LoadMatrix(uint32_t (&r)[n], Shared<T> row)      n = 1, 2, 4 matrices of 8 x 8 16-bit values:
//                                                    lane 8i + j names row j of matrix i (16 bytes,
//                                                    aligned); r[i] gets (row g, columns 2t, 2t +
//                                                    1). Lanes from 8n on: any valid row
//   LoadMatrixTransposed(...)                        r[i] gets rows 2t, 2t + 1 of column g
// So A row-major [16][16] is LoadMatrix(a.r, rows lane % 16, columns 8 * (lane / 16)); B stored as
// [column][k] is LoadMatrix, B stored as [k][column] LoadMatrixTransposed.
//
// Arithmetic. float unless said; error bounds from the CUDA guide.
//   ToFloat(T)   FromFloat<T>(float)   of Half, BFloat16, Float8 (saturating at 448), float;
//                                      round to nearest even. Also of Vector<T, n> <->
//                                      Vector<float, n>
//   uint32_t Pack<T>(float low, float high)   void Unpack<T>(uint32_t, float& low, float& high)
//   Min Max (float, int; a NaN loses)   Abs   Fma   FloatAsInt IntAsFloat
//   Sqrt Divide Erf TanhExact Exp Log Log1p     full precision (2 ulp)
//   Exp2 (2 ulp) Log2 Rsqrt (2 ulp) Reciprocal (1 ulp): one special-function operation
//   Tanh: one special-function operation, relative error 2^-11 (the emulator rounds to that)
//
// SIMT_UNROLL before a loop with constant bounds; SIMT_UNROLL_BY(4) with others.

#include <type_traits>

#include "kernels/simt/types.h"

#ifdef __CUDACC__
#include "kernels/simt/device/intrinsics.h"
#else
#include "kernels/simt/host/intrinsics.h"
#endif

namespace bertrand::simt::inline SIMT_TARGET {

template <typename T, int kCount>
SIMT_FN Vector<float, kCount> ToFloat(const Vector<T, kCount>& vector) {
  Vector<float, kCount> floats;
  if constexpr (sizeof(T) == 2 && kCount % 2 == 0) {
    const auto words = BitCast<Vector<uint32_t, kCount / 2>>(vector);
    SIMT_UNROLL
    for (int i = 0; i < kCount / 2; ++i) Unpack<T>(words[i], floats[2 * i], floats[2 * i + 1]);
  } else {
    SIMT_UNROLL
    for (int i = 0; i < kCount; ++i) floats[i] = ToFloat(vector[i]);
  }
  return floats;
}

template <typename T, int kCount>
SIMT_FN Vector<T, kCount> FromFloat(const Vector<float, kCount>& floats) {
  if constexpr (sizeof(T) == 2 && kCount % 2 == 0) {
    Vector<uint32_t, kCount / 2> words;
    SIMT_UNROLL
    for (int i = 0; i < kCount / 2; ++i) words[i] = Pack<T>(floats[2 * i], floats[2 * i + 1]);
    return BitCast<Vector<T, kCount>>(words);
  } else if constexpr (sizeof(T) == 1 && kCount % 2 == 0) {
    Vector<uint16_t, kCount / 2> pairs;
    SIMT_UNROLL
    for (int i = 0; i < kCount / 2; ++i) pairs[i] = PackFloat8(floats[2 * i], floats[2 * i + 1]);
    return BitCast<Vector<T, kCount>>(pairs);
  } else {
    Vector<T, kCount> vector;
    SIMT_UNROLL
    for (int i = 0; i < kCount; ++i) vector[i] = FromFloat<T>(floats[i]);
    return vector;
  }
}

template <int kWidth = 32, typename T>
SIMT_FN T WarpSum(T value, Site site = SIMT_HERE) {
  SIMT_UNROLL
  for (int mask = kWidth / 2; mask > 0; mask /= 2) value += ShuffleXor(value, mask, site);
  return value;
}

template <int kWidth = 32, typename T>
SIMT_FN T WarpMax(T value, Site site = SIMT_HERE) {
  SIMT_UNROLL
  for (int mask = kWidth / 2; mask > 0; mask /= 2) {
    value = Max(value, ShuffleXor(value, mask, site));
  }
  return value;
}

template <int kWidth = 32, typename T>
SIMT_FN T WarpMin(T value, Site site = SIMT_HERE) {
  SIMT_UNROLL
  for (int mask = kWidth / 2; mask > 0; mask /= 2) {
    value = Min(value, ShuffleXor(value, mask, site));
  }
  return value;
}

template <typename T>
SIMT_FN T BlockSum(T value, Shared<T> scratch, Site site = SIMT_HERE) {
  value = WarpSum(value, site);
  SyncThreads(site);
  if (LaneIndex() == 0) Store(scratch + WarpIndex(), value, site);
  SyncThreads(site);
  return WarpSum(LaneIndex() < NumWarps() ? Load(scratch + LaneIndex(), site) : T(0), site);
}

// Requires: NumWarps() values of scratch.
template <typename T>
SIMT_FN T BlockMax(T value, Shared<T> scratch, Site site = SIMT_HERE) {
  value = WarpMax(value, site);
  SyncThreads(site);
  if (LaneIndex() == 0) Store(scratch + WarpIndex(), value, site);
  SyncThreads(site);
  // Lanes without a warp repeat the first one's value.
  return WarpMax(Load(scratch + (LaneIndex() < NumWarps() ? LaneIndex() : 0), site), site);
}

}  // namespace bertrand::simt::inline SIMT_TARGET
