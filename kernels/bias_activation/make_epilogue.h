#pragma once

// For launchers: the epilogue of kernel bodies (epilogue.cuh) from tensors.

#include "kernels/backend.h"
#include "kernels/bias_activation/epilogue.cuh"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

constexpr Formula FormulaOf(Activation activation) { return static_cast<Formula>(activation); }
static_assert(FormulaOf(Activation::kNone) == Formula::kNone &&
              FormulaOf(Activation::kGeluErf) == Formula::kGeluErf &&
              FormulaOf(Activation::kGeluTanh) == Formula::kGeluTanh &&
              FormulaOf(Activation::kRelu) == Formula::kRelu &&
              FormulaOf(Activation::kSilu) == Formula::kSilu &&
              FormulaOf(Activation::kTanh) == Formula::kTanh &&
              FormulaOf(Activation::kSigmoid) == Formula::kSigmoid);

// params: y [m, n]; bias, residual, each perhaps absent; activation. Requires: all of type T,
// checked.
template <typename T, typename Params>
Epilogue<T> MakeEpilogue(const Params& params) {
  return {simt::AsGlobal<const T>(params.bias), simt::AsGlobal<const T>(params.residual),
          simt::AsGlobal<T>(params.y), static_cast<int>(params.y.dim(1)),
          FormulaOf(params.activation)};
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
