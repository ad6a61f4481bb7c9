#pragma once

// Where both kinds of attention write: values of the operands' type, or e4m3 divided by a scale.

#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T>
struct AttentionOutput {
  simt::Global<T> values;             // [tokens, heads, head_size], or
  simt::Global<simt::Float8> narrow;  // the same
  simt::Global<const float> scale;    // [1], of narrow

  // Requires: narrow; `at` a multiple of kCount.
  template <int kCount>
  SIMT_FN void StoreNarrow(int64_t at, simt::Vector<float, kCount> floats) const {
    const float factor = 1.0f / simt::Load(scale);
    SIMT_UNROLL
    for (int i = 0; i < kCount; ++i) floats[i] *= factor;
    simt::StoreVector(narrow + at, simt::FromFloat<simt::Float8>(floats));
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
