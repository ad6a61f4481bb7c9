#pragma once

// What heads do with logits: softmax, the largest values, SPLADE's pooling. One table of functions
// per instruction set. Pure functions on host memory, float32; no checks, no threads. Thread-safe.

#include <cstddef>
#include <cstdint>

namespace bertrand {

struct ScoreKernels {
  const char* target;

  // row = softmax(row).
  void (*softmax)(float* row, size_t width);

  // SparsePoolParams for `columns` columns of rows that are `width` apart.
  void (*sparse_pool)(const float* x, size_t rows, size_t width, size_t columns, bool sum,
                      bool log_twice, float* y);
};

// The best table this machine can run (hwy::SetSupportedTargetsForTest narrows the choice).
const ScoreKernels& ChooseScoreKernels();

// TopKParams for one row; `columns` null: the first `candidates`.
void SelectLargest(const float* row, const int32_t* columns, size_t candidates, size_t k,
                   float* values, int32_t* indices);

}  // namespace bertrand
