#pragma once

// The body of bias_activation.h: a thread takes 16 bytes of a row.

#include "kernels/bias_activation/epilogue.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T, typename Out = T>
struct BiasActivationKernel {
  static constexpr const char* kName = "bias_activation";
  static constexpr int kThreads = 256;
  static constexpr int kCount = 16 / sizeof(T);

  struct Params {
    simt::Global<const T> x;  // [m, n], may be y's memory
    Epilogue<T, Out> epilogue;
    int m;
  };

  SIMT_FN static void Run(const Params& p) {
    const int n = p.epilogue.n;
    const int vectors = simt::DivideUp(n, kCount);
    const int64_t index = int64_t{simt::BlockIndex()} * kThreads + simt::ThreadIndex();
    if (index >= int64_t{p.m} * vectors) return;
    const int row = static_cast<int>(index / vectors);
    const int column = static_cast<int>(index % vectors) * kCount;
    const auto from = p.x + (int64_t{row} * n + column);
    simt::Vector<float, kCount> values{};
    if (n % kCount == 0) {
      values = ToFloat(simt::LoadVector<kCount>(from));
    } else {
      SIMT_UNROLL
      for (int i = 0; i < kCount; ++i) {
        if (column + i < n) values[i] = simt::ToFloat(simt::Load(from + i));
      }
    }
    Finish<kCount>(p.epilogue, row, column, values);
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
