#include <limits>
#include <string>
#include <utility>

#include "kernels/bias_activation/make_epilogue.h"
#include "kernels/gemm/float_gemm.cuh"
#include "kernels/gemm/small_gemm.cuh"
#include "kernels/gemm/small_gemm.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

bool Aligned(const TensorView& view, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(view.data()) % bytes == 0;
}

template <typename T, int kTileIndex>
absl::Status LaunchTile(const GemmParams& params, simt::Stream& stream, const SmallGemmPlan& plan,
                        simt::Global<float> partial) {
  using Kernel = SmallGemmKernel<T, kTileIndex>;
  const int m_tiles = simt::DivideUp(params.m(), Kernel::kM);
  const int n_tiles = simt::DivideUp(params.n(), Kernel::kN);
  return simt::Launch<Kernel>(
      stream, {.grid = {m_tiles * n_tiles * plan.splits}},
      {simt::AsGlobal<const T>(params.x), simt::AsGlobal<const T>(params.weight),
       MakeEpilogue<T>(params), partial, params.m(), params.n(), params.k(), m_tiles, n_tiles,
       plan.k_per_split});
}

// The instantiations: kGemmTiles for each of two types. Registers, in kGemmTiles' order:
//   sm_80, 86: 56, 85, 114, 96, 150, 112, 128, 188, 110, 151; sum_splits 36; float_gemm 79
//   sm_90a:    63, 86, 115, 96, 150, 115, 126, 192, 109, 155; sum_splits 38; float_gemm 79
// No spills. Shared memory, not registers, limits the blocks of an SM in all but the last.
template <typename T, int... kIndices>
absl::Status LaunchTiles(const GemmParams& params, simt::Stream& stream, const SmallGemmPlan& plan,
                         simt::Global<float> partial, std::integer_sequence<int, kIndices...>) {
  using Launcher =
      absl::Status (*)(const GemmParams&, simt::Stream&, const SmallGemmPlan&, simt::Global<float>);
  static constexpr Launcher kLaunchers[] = {&LaunchTile<T, kIndices>...};
  return kLaunchers[plan.tile](params, stream, plan, partial);
}

// Finishes y if there is one split, else leaves the sums in `partial`.
template <typename T>
absl::Status LaunchSplits(const GemmParams& params, simt::Stream& stream, const SmallGemmPlan& plan,
                          simt::Global<float> partial) {
  return LaunchTiles<T>(params, stream, plan, partial,
                        std::make_integer_sequence<int, kNumGemmTiles>());
}

simt::Global<float> PartialSums(const GemmParams& params, const SmallGemmPlan& plan,
                                void* workspace) {
  if (plan.splits == 1) return {};
  return {static_cast<float*>(workspace),
          SmallGemmWorkspaceBytes(params.m(), params.n(), plan.splits) / 4};
}

template <typename T>
absl::Status SmallGemmAs(const GemmParams& params, simt::Stream& stream, const SmallGemmPlan& plan,
                         void* workspace) {
  using Sum = SumSplitsKernel<T>;
  const simt::Global<float> partial = PartialSums(params, plan, workspace);
  BERTRAND_RETURN_IF_ERROR(LaunchSplits<T>(params, stream, plan, partial));
  if (plan.splits == 1) return absl::OkStatus();
  const int vectors = params.m() * simt::DivideUp(params.n(), 4);
  return simt::Launch<Sum>(stream, {.grid = {simt::DivideUp(vectors, Sum::kThreads)}},
                           {partial, MakeEpilogue<T>(params), params.m(), plan.splits});
}

template <typename T, typename Factor = T>
absl::Status FloatGemmAs(const GemmParams& params, simt::Stream& stream) {
  using Kernel = FloatGemmKernel<T, Factor>;
  const int m_tiles = simt::DivideUp(params.m(), Kernel::kTile);
  const int n_tiles = simt::DivideUp(params.n(), Kernel::kTile);
  return simt::Launch<Kernel>(
      stream, {.grid = {m_tiles * n_tiles}},
      {simt::AsGlobal<const Factor>(params.x), simt::AsGlobal<const Factor>(params.weight),
       simt::AsGlobal<const float>(params.x_scale),
       simt::AsGlobal<const float>(params.weight_scale), MakeEpilogue<T>(params), params.m(),
       params.n(), params.k(), m_tiles});
}

absl::Status CheckSmallGemm(const GemmParams& params, const SmallGemmPlan& plan,
                            const void* workspace) {
  BERTRAND_RETURN_IF_ERROR(CheckGemm(params));
  if (!SmallGemmSupports(params)) {
    return InvalidArgument("SmallGemm: x is " + params.x.ToString() +
                           ", expected 16-bit floats in rows of 16-byte multiples");
  }
  const bool known = plan.tile >= 0 && plan.tile < kNumGemmTiles && plan.splits >= 1;
  if (!known || plan.k_per_split < 1 || plan.k_per_split % kGemmTiles[plan.tile].k != 0 ||
      CeilDivide(params.k(), plan.k_per_split) != plan.splits) {
    return InvalidArgument("SmallGemm: tile " + std::to_string(plan.tile) + " with " +
                           std::to_string(plan.splits) + " splits of " +
                           std::to_string(plan.k_per_split) +
                           " does not fit k = " + std::to_string(params.k()));
  }
  if (plan.splits > 1 && workspace == nullptr) {
    return InvalidArgument("SmallGemm: " + std::to_string(plan.splits) +
                           " splits need a workspace");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckGemm(const GemmParams& params) {
  const auto mismatch = [&params](const char* name, const TensorView& view) {
    return InvalidArgument("Gemm: " + std::string(name) + " is " + view.ToString() + ", weight " +
                           params.weight.ToString());
  };
  const DType factor = params.weight.dtype();
  const DType dtype = params.float8() ? params.y.dtype() : factor;
  if (params.weight.rank() != 2 || factor == DType::kInt32 || params.weight.num_elements() == 0) {
    return InvalidArgument("Gemm: weight is " + params.weight.ToString() +
                           ", expected floats with 2 dimensions");
  }
  const int64_t n = params.weight.dim(0), k = params.weight.dim(1);
  const TensorView &x = params.x, &y = params.y;
  if (x.rank() != 2 || x.dtype() != factor || x.dim(1) != k) return mismatch("x", x);
  const int64_t m = x.dim(0);
  if (y.dtype() != dtype || !y.HasShape({m, n})) return mismatch("y", y);
  if (params.float8()) {
    if (SizeOf(dtype) != 2) return mismatch("y", y);
    for (const TensorView* scale : {&params.x_scale, &params.weight_scale}) {
      if (scale->dtype() != DType::kFloat32 || scale->num_elements() != 1 || !*scale) {
        return mismatch("a scale", *scale);
      }
    }
  }
  if (params.bias && (params.bias.dtype() != dtype || !params.bias.HasShape({n}))) {
    return mismatch("bias", params.bias);
  }
  if (params.residual && (params.residual.dtype() != dtype || !params.residual.HasShape({m, n}))) {
    return mismatch("residual", params.residual);
  }
  // 64 more so that rounding up to tiles stays within int.
  constexpr int64_t kMax = std::numeric_limits<int>::max() - 1024;
  if (m > kMax || n > kMax || k > kMax) return mismatch("x", x);
  const uintptr_t vector = n % 4 == 0 ? 4 * SizeOf(dtype) : SizeOf(dtype);
  for (const TensorView* view : {&params.bias, &params.residual, &y}) {
    if (!Aligned(*view, vector)) {
      return InvalidArgument("Gemm: an operand of " + view->ToString() + " is not aligned to " +
                             std::to_string(vector) + " bytes");
    }
  }
  return absl::OkStatus();
}

bool SmallGemmSupports(const GemmParams& params) {
  return SizeOf(params.x.dtype()) == 2 && params.k() % 8 == 0 && Aligned(params.x, 16) &&
         Aligned(params.weight, 16);
}

absl::StatusOr<TensorView> SmallGemmSplits(const GemmParams& params, const SmallGemmPlan& plan,
                                           void* workspace, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(CheckSmallGemm(params, plan, workspace));
  if (plan.splits == 1 || params.n() % 4 != 0) {
    return InvalidArgument("SmallGemmSplits: " + std::to_string(plan.splits) + " splits of " +
                           params.y.ToString() + ", expected several of rows of multiples of 4");
  }
  const TensorView sums(workspace, DType::kFloat32, {plan.splits, params.m(), params.n()});
  if (params.m() == 0) return sums;
  const simt::Global<float> partial = PartialSums(params, plan, workspace);
  BERTRAND_RETURN_IF_ERROR(params.x.dtype() == DType::kFloat16
                               ? LaunchSplits<simt::Half>(params, stream, plan, partial)
                               : LaunchSplits<simt::BFloat16>(params, stream, plan, partial));
  return sums;
}

absl::Status SmallGemm(const GemmParams& params, const SmallGemmPlan& plan, void* workspace,
                       simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(CheckSmallGemm(params, plan, workspace));
  if (params.m() == 0) return absl::OkStatus();
  if (params.x.dtype() == DType::kFloat16) {
    return SmallGemmAs<simt::Half>(params, stream, plan, workspace);
  }
  return SmallGemmAs<simt::BFloat16>(params, stream, plan, workspace);
}

absl::Status FloatGemm(const GemmParams& params, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(CheckGemm(params));
  if (params.m() == 0) return absl::OkStatus();
  if (params.float8()) {
    return params.y.dtype() == DType::kFloat16
               ? FloatGemmAs<simt::Half, simt::Float8>(params, stream)
               : FloatGemmAs<simt::BFloat16, simt::Float8>(params, stream);
  }
  switch (params.x.dtype()) {
    case DType::kFloat16:
      return FloatGemmAs<simt::Half>(params, stream);
    case DType::kBFloat16:
      return FloatGemmAs<simt::BFloat16>(params, stream);
    default:
      return FloatGemmAs<float>(params, stream);
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
