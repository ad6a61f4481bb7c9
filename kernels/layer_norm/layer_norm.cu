#include <string>

#include "kernels/gpu/launch.h"
#include "kernels/layer_norm/layer_norm.cuh"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

absl::Status CheckOperand(const char* name, const TensorView& operand, const TensorView& like,
                          std::initializer_list<int64_t> shape) {
  if (!operand) return InvalidArgument(std::string("LayerNorm: no ") + name);
  if (operand.dtype() == like.dtype() && operand.HasShape(shape)) return absl::OkStatus();
  return InvalidArgument(std::string("LayerNorm: ") + name + " is " + operand.ToString() +
                         ", x is " + like.ToString());
}

// x, or where there are splits y, which is as x would be.
const TensorView& Input(const LayerNormParams& p) { return p.splits ? p.y : p.x; }

// Whether rows are read 16 bytes at a time and fit into registers.
bool HasVectors(const LayerNormParams& p) {
  const int64_t hidden = Input(p).dim(1);
  return hidden % 8 == 0 && hidden <= 4096 &&
         RowsAligned(16, {p.x, p.residual, p.bias, p.gamma, p.beta, p.y});
}

absl::Status Check(const LayerNormParams& p) {
  const TensorView& x = Input(p);
  if (!x || x.rank() != 2) return InvalidArgument("LayerNorm: x is " + x.ToString());
  const int64_t rows = x.dim(0), hidden = x.dim(1);
  if (hidden < 1 || hidden > INT32_MAX || rows > INT32_MAX) {
    return InvalidArgument("LayerNorm: x is " + x.ToString());
  }
  if (p.splits && (p.x || !LayerNormTakesSplits(p) || p.splits.dtype() != DType::kFloat32 ||
                   p.splits.rank() != 3 || p.splits.dim(1) != rows || p.splits.dim(2) != hidden ||
                   !RowsAligned(16, {p.splits}))) {
    return InvalidArgument("LayerNorm: splits are " + p.splits.ToString() + ", y is " +
                           p.y.ToString() +
                           "; they want 16-bit rows of a multiple of 8, 4096 at most, and no x");
  }
  if (p.y8 && !HasVectors(p)) {
    return InvalidArgument("LayerNorm: x is " + x.ToString() +
                           "; with y8 its width must be a multiple of 8 and at most 4096");
  }
  if (p.true_hidden < 0 || p.true_hidden > hidden) {
    return InvalidArgument("LayerNorm: true_hidden is " + std::to_string(p.true_hidden) + " of " +
                           std::to_string(hidden));
  }
  BERTRAND_RETURN_IF_ERROR(CheckOperand("y", p.y, x, {rows, hidden}));
  BERTRAND_RETURN_IF_ERROR(CheckOperand("gamma", p.gamma, x, {hidden}));
  BERTRAND_RETURN_IF_ERROR(CheckOperand("beta", p.beta, x, {hidden}));
  if (p.bias) BERTRAND_RETURN_IF_ERROR(CheckOperand("bias", p.bias, x, {hidden}));
  if (p.residual) {
    BERTRAND_RETURN_IF_ERROR(CheckOperand("residual", p.residual, x, {rows, hidden}));
  }
  if (p.num_rows && (p.num_rows.dtype() != DType::kInt32 || p.num_rows.num_elements() != 1)) {
    return InvalidArgument("LayerNorm: num_rows is " + p.num_rows.ToString());
  }
  if (p.y8 && (p.y8.dtype() != DType::kFloat8 || !p.y8.HasShape({rows, hidden}) ||
               p.y8_scale.dtype() != DType::kFloat32 || p.y8_scale.num_elements() != 1)) {
    return InvalidArgument("LayerNorm: y8 is " + p.y8.ToString() + ", its scale " +
                           p.y8_scale.ToString() + ", x is " + x.ToString());
  }
  return absl::OkStatus();
}

template <typename Kernel, typename T>
absl::Status Start(const LayerNormParams& p, simt::Stream& stream) {
  const int rows = static_cast<int>(p.y.dim(0)), hidden = static_cast<int>(p.y.dim(1));
  const int true_hidden = p.true_hidden == 0 ? hidden : static_cast<int>(p.true_hidden);
  const typename Kernel::Params params = {simt::AsGlobal<const T>(p.x),
                                          simt::AsGlobal<const T>(p.residual),
                                          simt::AsGlobal<const T>(p.bias),
                                          simt::AsGlobal<const T>(p.gamma),
                                          simt::AsGlobal<const T>(p.beta),
                                          simt::AsGlobal<const int>(p.num_rows),
                                          simt::AsGlobal<T>(p.y),
                                          simt::AsGlobal<simt::Float8>(p.y8),
                                          simt::AsGlobal<const float>(p.y8_scale),
                                          rows,
                                          hidden,
                                          true_hidden,
                                          p.eps,
                                          simt::AsGlobal<const float>(p.splits),
                                          p.splits ? static_cast<int>(p.splits.dim(0)) : 0};
  const simt::Grid grid = {simt::DivideUp(rows, Kernel::kRowsPerBlock)};
  return simt::Launch<Kernel>(stream, {grid}, params);
}

// The launch table: 512, 1024 and 4096 columns in registers, with gamma and beta: 16-bit types 61,
// 96 and 59 a thread on sm_80 and sm_90a, f32 104 and 192, none spilt; of splits, up to 1024 and
// 4096 columns, 70 and 104.
template <typename T>
absl::Status StartForWidth(const LayerNormParams& p, simt::Stream& stream) {
  constexpr int kPerVector = 16 / sizeof(T);
  const int64_t hidden = p.y.dim(1);
  if constexpr (sizeof(T) == 2) {
    if (p.splits && hidden <= 1024) return Start<LayerNormKernel<T, 1, 128, true>, T>(p, stream);
    if (p.splits) return Start<LayerNormKernel<T, 2, 256, true>, T>(p, stream);
  }
  if (!HasVectors(p)) return Start<AnyLayerNormKernel<T>, T>(p, stream);
  if (hidden <= 512) return Start<LayerNormKernel<T, 512 / 32 / kPerVector, 32>, T>(p, stream);
  if (hidden <= 1024) return Start<LayerNormKernel<T, 1024 / 32 / kPerVector, 32>, T>(p, stream);
  return Start<LayerNormKernel<T, 4096 / 256 / kPerVector, 256>, T>(p, stream);
}

}  // namespace

bool LayerNormTakesSplits(const LayerNormParams& params) {
  return params.y.rank() == 2 && SizeOf(params.y.dtype()) == 2 && params.y.dim(1) % 8 == 0 &&
         params.y.dim(1) <= 4096 &&
         RowsAligned(16, {params.residual, params.bias, params.gamma, params.beta, params.y});
}

absl::Status LayerNorm(const LayerNormParams& params, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(Check(params));
  if (params.y.dim(0) == 0) return absl::OkStatus();
  switch (params.y.dtype()) {
    case DType::kFloat32:
      return StartForWidth<float>(params, stream);
    case DType::kFloat16:
      return StartForWidth<simt::Half>(params, stream);
    case DType::kBFloat16:
      return StartForWidth<simt::BFloat16>(params, stream);
    default:
      return InvalidArgument("LayerNorm: y is " + params.y.ToString());
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
