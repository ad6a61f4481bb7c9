#include <string>

#include "kernels/bias_activation/bias_activation.cuh"
#include "kernels/bias_activation/bias_activation.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

absl::Status CheckOperand(const char* name, const TensorView& view, const TensorView& y,
                          bool is_row) {
  const bool fits = view.dtype() == y.dtype() &&
                    (is_row ? view.HasShape({y.dim(1)}) : view.HasShape({y.dim(0), y.dim(1)}));
  if (fits) return absl::OkStatus();
  return InvalidArgument("BiasActivation: " + std::string(name) + " is " + view.ToString() +
                         ", y " + y.ToString());
}

absl::Status Check(const BiasActivationParams& params) {
  const TensorView& y = params.y;
  if (y.rank() != 2 || y.dtype() == DType::kInt32) {
    return InvalidArgument("BiasActivation: y is " + y.ToString() +
                           ", expected floats with 2 dimensions");
  }
  BERTRAND_RETURN_IF_ERROR(CheckOperand("x", params.x, y, false));
  if (params.bias) BERTRAND_RETURN_IF_ERROR(CheckOperand("bias", params.bias, y, true));
  if (params.residual)
    BERTRAND_RETURN_IF_ERROR(CheckOperand("residual", params.residual, y, false));
  return absl::OkStatus();
}

// Registers on sm_80, 86, 90a: f16 and bf16 30, f32 26; no spills.
template <typename T>
absl::Status LaunchAs(simt::Stream& stream, const BiasActivationParams& params) {
  using Kernel = BiasActivationKernel<T>;
  const int64_t m = params.y.dim(0), n = params.y.dim(1);
  const int64_t vectors = m * ((n + Kernel::kCount - 1) / Kernel::kCount);
  const int64_t blocks = (vectors + Kernel::kThreads - 1) / Kernel::kThreads;
  const typename Kernel::Params kernel_params = {
      simt::AsGlobal<const T>(params.x),
      {simt::AsGlobal<const T>(params.bias), simt::AsGlobal<const T>(params.residual),
       simt::AsGlobal<T>(params.y), static_cast<int>(n), params.activation},
      static_cast<int>(m)};
  return simt::Launch<Kernel>(stream, {.grid = {static_cast<int>(blocks)}}, kernel_params);
}

}  // namespace

absl::Status BiasActivation(simt::Stream& stream, const BiasActivationParams& params) {
  BERTRAND_RETURN_IF_ERROR(Check(params));
  if (params.y.num_elements() == 0) return absl::OkStatus();
  switch (params.y.dtype()) {
    case DType::kFloat16:
      return LaunchAs<simt::Half>(stream, params);
    case DType::kBFloat16:
      return LaunchAs<simt::BFloat16>(stream, params);
    default:
      return LaunchAs<float>(stream, params);
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
