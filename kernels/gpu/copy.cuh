#pragma once

// The bodies of copy.h: a thread takes a vector of neighbouring values, or what is left at the end.

#include "kernels/gpu/row_access.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename From, typename To>
struct ConvertKernelParams {
  Global<const From> from;
  Global<To> to;
  int64_t count;
  float factor;  // FP8's; 1 otherwise
};

template <typename From, typename To>
struct ConvertKernel {
  static constexpr const char* kName = "convert";
  static constexpr int kThreads = 256;
  static constexpr int kVector = 4;  // 16 bytes of floats, 8 of the others
  using Params = ConvertKernelParams<From, To>;

  SIMT_FN static void Run(const Params& p) {
    const int64_t first = (static_cast<int64_t>(BlockIndex()) * kThreads + ThreadIndex()) * kVector;
    if (first + kVector <= p.count) {
      auto values = LoadFloats<kVector>(p.from + first);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) values[i] *= p.factor;
      StoreFloats(p.to + first, values);
      return;
    }
    for (int64_t i = first; i < p.count; ++i) {
      Store(p.to + i, FromFloat<To>(ToFloat(Load(p.from + i)) * p.factor));
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
  static constexpr int kThreads = 256;
  static constexpr int kVector = kWidestVector<T>;
  using Params = FiniteKernelParams<T>;

  SIMT_FN static bool IsFinite(float x) { return x - x == 0; }

  SIMT_FN static void Run(const Params& p) {
    const int64_t first = (static_cast<int64_t>(BlockIndex()) * kThreads + ThreadIndex()) * kVector;
    bool finite = true;
    if (first + kVector <= p.count) {
      const auto x = LoadFloats<kVector>(p.x + first);
      SIMT_UNROLL
      for (int i = 0; i < kVector; ++i) finite = finite && IsFinite(x[i]);
    } else {
      for (int64_t i = first; i < p.count; ++i) finite = finite && IsFinite(ToFloat(Load(p.x + i)));
    }
    if (WarpAny(!finite) && LaneIndex() == 0) AtomicMax(p.flag, 1);
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
