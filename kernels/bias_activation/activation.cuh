#pragma once

// The activations in float, for epilogues: as PyTorch computes them on a GPU (erf GELU by erf, tanh
// GELU by the exact tanh), so that errors before rounding are a few units of float's last place.

#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// The functions of kernels/backend.h's Activation, in its order (make_epilogue.h checks).
enum class Formula : uint8_t { kNone, kGeluErf, kGeluTanh, kRelu, kSilu, kTanh, kSigmoid };

// `formula` is the same in all threads: the branch is uniform. NaN stays NaN.
SIMT_FN float Activate(Formula formula, float x) {
  switch (formula) {
    case Formula::kNone:
      return x;
    case Formula::kGeluErf:
      return 0.5f * x * (1.0f + simt::Erf(x * 0.70710678118654752f));
    case Formula::kGeluTanh: {
      const float inner = 0.79788456080286536f * simt::Fma(0.044715f * x * x, x, x);
      return 0.5f * x * (1.0f + simt::TanhExact(inner));
    }
    case Formula::kRelu:
      return x < 0.0f ? 0.0f : x;
    case Formula::kSilu:
      return simt::Divide(x, 1.0f + simt::Exp(-x));
    case Formula::kTanh:
      return simt::TanhExact(x);
    case Formula::kSigmoid:
      return simt::Divide(1.0f, 1.0f + simt::Exp(-x));
  }
  return x;
}

template <Formula kFormula, int kCount>
SIMT_FN void ActivateEach(simt::Vector<float, kCount>& values) {
  SIMT_UNROLL
  for (int i = 0; i < kCount; ++i) values[i] = Activate(kFormula, values[i]);
}

// Activate of neighbours: one branch for all of them, so that their chains of arithmetic overlap.
template <int kCount>
SIMT_FN void ActivateAll(Formula formula, simt::Vector<float, kCount>& values) {
  switch (formula) {
    case Formula::kNone:
      return;
    case Formula::kGeluErf:
      return ActivateEach<Formula::kGeluErf>(values);
    case Formula::kGeluTanh:
      return ActivateEach<Formula::kGeluTanh>(values);
    case Formula::kRelu:
      return ActivateEach<Formula::kRelu>(values);
    case Formula::kSilu:
      return ActivateEach<Formula::kSilu>(values);
    case Formula::kTanh:
      return ActivateEach<Formula::kTanh>(values);
    case Formula::kSigmoid:
      return ActivateEach<Formula::kSigmoid>(values);
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
