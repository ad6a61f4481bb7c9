#pragma once

// Nothing but multiply-adds in float: how many a device does in a second.

#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

struct MultiplyAddKernel {
  static constexpr const char* kName = "multiply_add";
  static constexpr int kThreads = 256;
  // Independent sums of a thread, enough to hide an addition's latency.
  static constexpr int kSums = 8;

  struct Params {
    simt::Global<float> y;  // [threads of the launch]
    int repeats;
    float factor;
  };

  static constexpr double FlopsOfThread(int repeats) { return 2.0 * kSums * repeats; }

  SIMT_FN static void Run(const Params& p) {
    const int index = simt::BlockIndex() * kThreads + simt::ThreadIndex();
    float sums[kSums];
    SIMT_UNROLL
    for (int i = 0; i < kSums; ++i) sums[i] = static_cast<float>(index + i);
    for (int repeat = 0; repeat < p.repeats; ++repeat) {
      SIMT_UNROLL
      for (int i = 0; i < kSums; ++i) sums[i] = simt::Fma(sums[i], p.factor, 1.0f);
    }
    float sum = 0;
    SIMT_UNROLL
    for (int i = 0; i < kSums; ++i) sum += sums[i];
    simt::Store(p.y + index, sum);
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
