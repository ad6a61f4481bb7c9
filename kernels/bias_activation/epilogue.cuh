#pragma once

// What follows a matrix product, kCount neighbouring outputs of a row at a time:
// y = activation(sum + bias) + residual in float, rounded once; in FP8 divided by y_scale first.
// Shared by the GEMMs, by the sum over splits and by bias_activation.

#include "kernels/bias_activation/activation.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T, typename Out = T>
struct Epilogue {
  simt::Global<const T> bias;         // [n], optional
  simt::Global<const T> residual;     // [m, n], optional; may be y's memory
  simt::Global<Out> y;                // [m, n]
  simt::Global<const float> y_scale;  // [1], where Out is Float8
  int n;
  Formula formula;
};

// Stores columns [column, column + kCount) of `row`, those of them below n.
// Requires: column % kCount == 0, column < n. Rows are whole vectors of kCount where n % kCount ==
// 0; bias, residual and y then begin at multiples of a vector (the launcher checks).
template <int kCount, typename T, typename Out>
SIMT_FN void Finish(const Epilogue<T, Out>& epilogue, int row, int column,
                    simt::Vector<float, kCount> values) {
  const int64_t at = int64_t{row} * epilogue.n + column;
  if (epilogue.n % kCount == 0) {
    // On its way while the activation is computed.
    simt::Vector<T, kCount> residual{};
    if (epilogue.residual) residual = simt::LoadVector<kCount>(epilogue.residual + at);
    if (epilogue.bias) {
      const auto bias =
          ToFloat(simt::LoadVector<kCount, simt::Cache::kReadOnly>(epilogue.bias + column));
      SIMT_UNROLL
      for (int i = 0; i < kCount; ++i) values[i] += bias[i];
    }
    ActivateAll(epilogue.formula, values);
    if (epilogue.residual) {
      const auto addend = ToFloat(residual);
      SIMT_UNROLL
      for (int i = 0; i < kCount; ++i) values[i] += addend[i];
    }
    if constexpr (std::is_same_v<Out, simt::Float8>) {
      const float factor = 1.0f / simt::Load(epilogue.y_scale);
      SIMT_UNROLL
      for (int i = 0; i < kCount; ++i) values[i] *= factor;
    }
    simt::StoreVector(epilogue.y + at, simt::FromFloat<Out>(values));
    return;
  }
  SIMT_UNROLL
  for (int i = 0; i < kCount; ++i) {
    if (column + i >= epilogue.n) break;
    float value = values[i];
    if (epilogue.bias) value += simt::ToFloat(simt::Load(epilogue.bias + (column + i)));
    value = Activate(epilogue.formula, value);
    if (epilogue.residual) value += simt::ToFloat(simt::Load(epilogue.residual + (at + i)));
    if constexpr (!std::is_same_v<Out, simt::Float8>) {  // those have whole vectors
      simt::Store(epilogue.y + (at + i), simt::FromFloat<Out>(value));
    }
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
