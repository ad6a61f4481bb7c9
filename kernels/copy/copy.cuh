#pragma once

// The bodies of copy.h: a thread takes 8 neighbouring values, or what is left of them at the end.

#include "kernels/gpu/row_access.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

inline constexpr int kCopyThreads = 256, kCopyValues = 8;

// Values of the thread, as vectors of at most 16 bytes. Requires: p aligned to 16 bytes.
template <typename T>
SIMT_FN Vector<float, kCopyValues> LoadEight(Global<const T> p) {
  constexpr int kVector = kCopyValues < kWidestVector<T> ? kCopyValues : kWidestVector<T>;
  Vector<float, kCopyValues> floats;
  SIMT_UNROLL
  for (int first = 0; first < kCopyValues; first += kVector) {
    const auto vector = LoadFloats<kVector>(p + first);
    SIMT_UNROLL
    for (int i = 0; i < kVector; ++i) floats[first + i] = vector[i];
  }
  return floats;
}

template <typename T>
SIMT_FN void StoreEight(Global<T> p, const Vector<float, kCopyValues>& floats) {
  constexpr int kVector = kCopyValues < kWidestVector<T> ? kCopyValues : kWidestVector<T>;
  SIMT_UNROLL
  for (int first = 0; first < kCopyValues; first += kVector) {
    Vector<float, kVector> vector;
    SIMT_UNROLL
    for (int i = 0; i < kVector; ++i) vector[i] = floats[first + i];
    StoreFloats(p + first, vector);
  }
}

template <typename From, typename To>
struct ConvertKernelParams {
  Global<const From> from;
  Global<To> to;
  int64_t count;
};

template <typename From, typename To>
struct ConvertKernel {
  static constexpr const char* kName = "convert";
  static constexpr int kThreads = kCopyThreads;
  using Params = ConvertKernelParams<From, To>;

  SIMT_FN static void Run(const Params& p) {
    const int64_t first =
        (static_cast<int64_t>(BlockIndex()) * kThreads + ThreadIndex()) * kCopyValues;
    if (first + kCopyValues <= p.count) {
      StoreEight(p.to + first, LoadEight(p.from + first));
      return;
    }
    for (int64_t i = first; i < p.count; ++i) {
      Store(p.to + i, FromFloat<To>(ToFloat(Load(p.from + i))));
    }
  }
};

template <typename T>
struct FiniteKernelParams {
  Global<const T> x;
  Global<int> flag;
  int64_t count;
};

// flag = 1 where a value is infinite or NaN. Who sets it does not matter: it is only ever set.
template <typename T>
struct FiniteKernel {
  static constexpr const char* kName = "check_finite";
  static constexpr int kThreads = kCopyThreads;
  using Params = FiniteKernelParams<T>;

  SIMT_FN static bool IsFinite(float x) { return x - x == 0; }

  SIMT_FN static void Run(const Params& p) {
    const int64_t first =
        (static_cast<int64_t>(BlockIndex()) * kThreads + ThreadIndex()) * kCopyValues;
    bool finite = true;
    if (first + kCopyValues <= p.count) {
      const auto x = LoadEight(p.x + first);
      SIMT_UNROLL
      for (int i = 0; i < kCopyValues; ++i) finite = finite && IsFinite(x[i]);
    } else {
      for (int64_t i = first; i < p.count; ++i) finite = finite && IsFinite(ToFloat(Load(p.x + i)));
    }
    if (WarpAny(!finite) && LaneIndex() == 0) AtomicMax(p.flag, 1);
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
