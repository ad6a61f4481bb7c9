#pragma once

// Linear layers over packed weights, one tile at a time: one table of functions per instruction
// set. Pure functions on host memory, float32; no checks, no threads. Thread-safe.

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"

namespace bertrand {

// activation(x W^T + bias) + residual for some rows and one panel of output columns.
struct LinearTile {
  const float* x;  // [rows, depth]
  size_t rows;
  size_t depth;
  const float* panel;  // [depth, panel_width]
  // The panel this thread will probably want next: fetched from memory while this one is used. With
  // 16 rows that is worth 30 % (AVX2) or 10 % (AVX-512) where weights come from beyond the caches.
  // It need not exist.
  const float* ahead;
  const float* bias;  // [panel_width]
  size_t columns;     // from the panel's first column to the end of y; may be less than panel_width
  Activation activation;
  const float* residual;  // at the tile's corner, or nullptr; rows y_stride apart
  float* y;               // at the tile's corner
  size_t y_stride;
};

struct LinearKernels {
  const char* target;  // "AVX3", ...
  size_t panel_width;  // output columns a panel
  size_t max_rows;     // rows a block in registers

  // panel [depth, panel_width] from rows first_column ... of weight [out_features, depth]; columns
  // beyond out_features become zeros.
  void (*pack_panel)(const float* weight, size_t out_features, size_t depth, size_t first_column,
                     float* panel);
  void (*run_tile)(const LinearTile& tile);
};

// The best table this machine can run (hwy::SetSupportedTargetsForTest narrows the choice).
const LinearKernels& ChooseLinearKernels();

}  // namespace bertrand
