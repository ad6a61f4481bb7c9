#include <string>

#include "kernels/bias_activation/bias_activation.cuh"
#include "kernels/bias_activation/bias_activation.h"
#include "kernels/bias_activation/make_epilogue.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// `dtype`: what the operand must be.
absl::Status CheckOperand(const char* name, const TensorView& view, DType dtype,
                          const TensorView& y) {
  const bool is_row = view.rank() == 1;
  const bool fits = is_row ? view.HasShape({y.dim(1)}) : view.HasShape({y.dim(0), y.dim(1)});
  if (!fits || view.dtype() != dtype) {
    return InvalidArgument("BiasActivation: " + std::string(name) + " is " + view.ToString() +
                           ", y " + y.ToString());
  }
  const bool vectors = static_cast<size_t>(y.dim(1)) * SizeOf(dtype) % 16 == 0;
  if (vectors && reinterpret_cast<uintptr_t>(view.data()) % 16 != 0) {
    return InvalidArgument("BiasActivation: " + std::string(name) + " " + view.ToString() +
                           " is not aligned to 16 bytes");
  }
  return absl::OkStatus();
}

absl::Status Check(const BiasActivationParams& params) {
  const TensorView &x = params.x, &y = params.y;
  const bool narrow = y.dtype() == DType::kFloat8;
  const DType dtype = narrow ? x.dtype() : y.dtype();
  if (y.rank() != 2 || ((dtype != DType::kFloat32 || narrow) && SizeOf(dtype) != 2)) {
    return InvalidArgument("BiasActivation: y is " + y.ToString() + ", x " + x.ToString() +
                           ", expected floats with 2 dimensions");
  }
  if (narrow && (y.dim(1) % 8 != 0 || params.y_scale.dtype() != DType::kFloat32 ||
                 params.y_scale.num_elements() != 1)) {
    return InvalidArgument("BiasActivation: y is " + y.ToString() + ", its scale " +
                           params.y_scale.ToString() +
                           ", expected a width that is a multiple of 8, and float32[1]");
  }
  BERTRAND_RETURN_IF_ERROR(CheckOperand("y", y, y.dtype(), y));
  BERTRAND_RETURN_IF_ERROR(CheckOperand("x", x, dtype, y));
  if (params.bias) BERTRAND_RETURN_IF_ERROR(CheckOperand("bias", params.bias, dtype, y));
  if (params.residual) {
    BERTRAND_RETURN_IF_ERROR(CheckOperand("residual", params.residual, dtype, y));
  }
  // Rows and columns fit kernels' ints, and so does the number of blocks.
  if (y.dim(0) > INT32_MAX - 1024 || y.dim(1) > INT32_MAX - 1024 ||
      y.dim(0) * (y.dim(1) / 256 + 1) > INT32_MAX) {
    return InvalidArgument("BiasActivation: y is " + y.ToString() + ", too large");
  }
  return absl::OkStatus();
}

// Registers on sm_80 and sm_90a: f16 and bf16 50 to 56, f32 35; no spills.
template <typename T, typename Out = T>
absl::Status LaunchAs(const BiasActivationParams& params, simt::Stream& stream) {
  using Kernel = BiasActivationKernel<T, Out>;
  const int64_t m = params.y.dim(0), n = params.y.dim(1);
  const int64_t vectors = m * ((n + Kernel::kCount - 1) / Kernel::kCount);
  const int64_t blocks = (vectors + Kernel::kThreads - 1) / Kernel::kThreads;
  return simt::Launch<Kernel>(
      stream, {.grid = {static_cast<int>(blocks)}},
      {simt::AsGlobal<const T>(params.x), MakeEpilogue<T, Out>(params), static_cast<int>(m)});
}

}  // namespace

absl::Status BiasActivation(const BiasActivationParams& params, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(Check(params));
  if (params.y.num_elements() == 0) return absl::OkStatus();
  if (params.y.dtype() == DType::kFloat8) {
    return params.x.dtype() == DType::kFloat16
               ? LaunchAs<simt::Half, simt::Float8>(params, stream)
               : LaunchAs<simt::BFloat16, simt::Float8>(params, stream);
  }
  switch (params.y.dtype()) {
    case DType::kFloat16:
      return LaunchAs<simt::Half>(params, stream);
    case DType::kBFloat16:
      return LaunchAs<simt::BFloat16>(params, stream);
    default:
      return LaunchAs<float>(params, stream);
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
