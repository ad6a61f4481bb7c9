#include <string>

#include "kernels/bias_activation/bias_activation.cuh"
#include "kernels/bias_activation/bias_activation.h"
#include "kernels/bias_activation/make_epilogue.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

absl::Status CheckOperand(const char* name, const TensorView& view, const TensorView& y) {
  const bool is_row = view.rank() == 1;
  const bool fits = is_row ? view.HasShape({y.dim(1)}) : view.HasShape({y.dim(0), y.dim(1)});
  if (!fits || view.dtype() != y.dtype()) {
    return InvalidArgument("BiasActivation: " + std::string(name) + " is " + view.ToString() +
                           ", y " + y.ToString());
  }
  const bool vectors = static_cast<size_t>(y.dim(1)) * SizeOf(y.dtype()) % 16 == 0;
  if (vectors && reinterpret_cast<uintptr_t>(view.data()) % 16 != 0) {
    return InvalidArgument("BiasActivation: " + std::string(name) + " " + view.ToString() +
                           " is not aligned to 16 bytes");
  }
  return absl::OkStatus();
}

absl::Status Check(const BiasActivationParams& params) {
  const TensorView &x = params.x, &y = params.y;
  if (y.rank() != 2 || (y.dtype() != DType::kFloat32 && SizeOf(y.dtype()) != 2)) {
    return InvalidArgument("BiasActivation: y is " + y.ToString() +
                           ", expected floats with 2 dimensions");
  }
  BERTRAND_RETURN_IF_ERROR(CheckOperand("y", y, y));
  BERTRAND_RETURN_IF_ERROR(CheckOperand("x", x, y));
  if (params.bias) BERTRAND_RETURN_IF_ERROR(CheckOperand("bias", params.bias, y));
  if (params.residual) BERTRAND_RETURN_IF_ERROR(CheckOperand("residual", params.residual, y));
  // Rows and columns fit kernels' ints, and so does the number of blocks.
  if (y.dim(0) > INT32_MAX - 1024 || y.dim(1) > INT32_MAX - 1024 ||
      y.dim(0) * (y.dim(1) / 256 + 1) > INT32_MAX) {
    return InvalidArgument("BiasActivation: y is " + y.ToString() + ", too large");
  }
  return absl::OkStatus();
}

// Registers on sm_80 and sm_90a: f16 and bf16 50 to 56, f32 35; no spills.
template <typename T>
absl::Status LaunchAs(const BiasActivationParams& params, simt::Stream& stream) {
  using Kernel = BiasActivationKernel<T>;
  const int64_t m = params.y.dim(0), n = params.y.dim(1);
  const int64_t vectors = m * ((n + Kernel::kCount - 1) / Kernel::kCount);
  const int64_t blocks = (vectors + Kernel::kThreads - 1) / Kernel::kThreads;
  return simt::Launch<Kernel>(
      stream, {.grid = {static_cast<int>(blocks)}},
      {simt::AsGlobal<const T>(params.x), MakeEpilogue<T>(params), static_cast<int>(m)});
}

}  // namespace

absl::Status BiasActivation(const BiasActivationParams& params, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(Check(params));
  if (params.y.num_elements() == 0) return absl::OkStatus();
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
