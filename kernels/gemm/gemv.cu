#include "kernels/bias_activation/make_epilogue.h"
#include "kernels/gemm/gemv.cuh"
#include "kernels/gemm/gemv.h"
#include "kernels/gpu/launch.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

absl::Status Check(const GemvParams& p) {
  const auto mismatch = [&p](const char* name, const TensorView& operand) {
    return InvalidArgument(std::string("Gemv: ") + name + " is " + operand.ToString() + ", x is " +
                           p.x.ToString() + ", weight is " + p.weight.ToString());
  };
  if (p.x.rank() != 2 || p.weight.rank() != 2 || p.weight.dim(1) != p.x.dim(1)) {
    return mismatch("weight", p.weight);
  }
  const int64_t m = p.x.dim(0), n = p.weight.dim(0);
  if (n < 1 || n > kGemvOutputsMax) return mismatch("weight", p.weight);
  if (!p.y.HasShape({m, n})) return mismatch("y", p.y);
  if (p.bias && !p.bias.HasShape({n})) return mismatch("bias", p.bias);
  if (p.residual && !p.residual.HasShape({m, n})) return mismatch("residual", p.residual);
  for (const TensorView& operand : {p.weight, p.bias, p.residual, p.y}) {
    if (operand && operand.dtype() != p.x.dtype()) return mismatch("an operand", operand);
  }
  return absl::OkStatus();
}

template <typename T, int kOutputs, int kVector>
absl::Status Start(const GemvParams& p, simt::Stream& stream) {
  using Kernel = GemvKernel<T, kOutputs, kVector>;
  const int m = static_cast<int>(p.x.dim(0));
  return simt::Launch<Kernel>(stream, Blocks(m, Kernel::kRowsPerBlock),
                              {simt::AsGlobal<const T>(p.x), simt::AsGlobal<const T>(p.weight),
                               simt::AsGlobal<const T>(p.bias), simt::AsGlobal<const T>(p.residual),
                               simt::AsGlobal<T>(p.y), m, static_cast<int>(p.weight.dim(0)),
                               static_cast<int>(p.x.dim(1)), FormulaOf(p.activation)});
}

template <typename T>
absl::Status StartForShape(const GemvParams& p, simt::Stream& stream) {
  constexpr int kVector = kWidestVector<T>;
  const bool few = p.weight.dim(0) <= 4;
  if (RowsAligned(16, {p.x, p.weight})) {
    return few ? Start<T, 4, kVector>(p, stream) : Start<T, 16, kVector>(p, stream);
  }
  return few ? Start<T, 4, 1>(p, stream) : Start<T, 16, 1>(p, stream);
}

}  // namespace

absl::Status Gemv(const GemvParams& params, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(Check(params));
  if (params.x.dim(0) == 0) return absl::OkStatus();
  return WithType("Gemv", params.x.dtype(),
                  [&](auto zero) { return StartForShape<decltype(zero)>(params, stream); });
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
