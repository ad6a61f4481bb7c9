#pragma once

// Four lanes exchange words so that what each holds of four blocks of columns becomes all of one
// block: how accumulators of tensor cores leave registers in vectors. For kernel bodies.

#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// Lane t of each four has words w[0..3]; afterwards the t-th of the others'. All 32 lanes.
SIMT_FN void TransposeQuad(uint32_t (&w)[4]) {
  const bool odd = simt::LaneIndex() % 2 != 0, high = simt::LaneIndex() % 4 >= 2;
  SIMT_UNROLL
  for (int i = 0; i < 4; i += 2) {
    const uint32_t other = simt::ShuffleXor(odd ? w[i] : w[i + 1], 1);
    (odd ? w[i] : w[i + 1]) = other;
  }
  SIMT_UNROLL
  for (int i = 0; i < 2; ++i) {
    const uint32_t other = simt::ShuffleXor(high ? w[i] : w[i + 2], 2);
    (high ? w[i] : w[i + 2]) = other;
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
