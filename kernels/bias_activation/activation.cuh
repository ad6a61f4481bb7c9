#pragma once

// The activations in float, for epilogues: as PyTorch computes them on a GPU (erf GELU by erf, tanh
// GELU by the exact tanh), so that errors before rounding are a few units of float's last place.

#include "kernels/backend.h"
#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// `activation` is the same in all threads: the branch is uniform. NaN stays NaN.
SIMT_FN float Activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kGeluErf:
      return 0.5f * x * (1.0f + simt::Erf(x * 0.70710678118654752f));
    case Activation::kGeluTanh: {
      const float inner = 0.79788456080286536f * simt::Fma(0.044715f * x * x, x, x);
      return 0.5f * x * (1.0f + simt::TanhExact(inner));
    }
    case Activation::kRelu:
      return x < 0.0f ? 0.0f : x;
    case Activation::kSilu:
      return simt::Divide(x, 1.0f + simt::Exp(-x));
    case Activation::kTanh:
      return simt::TanhExact(x);
    case Activation::kSigmoid:
      return simt::Divide(1.0f, 1.0f + simt::Exp(-x));
  }
  return x;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
