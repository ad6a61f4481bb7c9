#pragma once

// Operations that go through rows once and are bound by memory: embedding, LayerNorm, pooling,
// normalising. One table of functions per instruction set. Pure functions on host memory, float32;
// no checks, no threads. Thread-safe.

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"

namespace bertrand {

struct RowKernels {
  const char* target;

  // y = LayerNorm(a + b + c) * gamma + beta of one row; b and c may be nullptr; without gamma y is
  // the sum. y may be a or b.
  void (*sum_and_normalize)(const float* a, const float* b, const float* c, const float* gamma,
                            const float* beta, float eps, size_t width, float* y);

  // out = pooled rows [begin, end) of x, which are `width` apart, for `columns` columns.
  void (*pool)(const float* x, size_t width, int64_t begin, int64_t end, int64_t weight_begin,
               PoolingMode mode, size_t columns, float* out);

  // row = row / max(|row|, 1e-12).
  void (*normalize)(float* row, size_t width);
};

// The best table this machine can run (hwy::SetSupportedTargetsForTest narrows the choice).
const RowKernels& ChooseRowKernels();

}  // namespace bertrand
