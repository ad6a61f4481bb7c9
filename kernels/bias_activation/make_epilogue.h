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

// params: y [m, n]; bias, residual, each perhaps absent; activation; y_scale where y is Float8.
// Requires: y of type Out, the others of T, checked.
template <typename T, typename Out = T, typename Params>
Epilogue<T, Out> MakeEpilogue(const Params& params) {
  Epilogue<T, Out> epilogue = {
      simt::AsGlobal<const T>(params.bias), simt::AsGlobal<const T>(params.residual),
      simt::AsGlobal<Out>(params.y),        {},
      static_cast<int>(params.y.dim(1)),    FormulaOf(params.activation)};
  if constexpr (std::is_same_v<Out, simt::Float8>) {
    epilogue.y_scale = simt::AsGlobal<const float>(params.y_scale);
  }
  return epilogue;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
