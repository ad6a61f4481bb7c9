#include <algorithm>
#include <string>

#include "kernels/bias_activation/make_epilogue.h"
#include "kernels/gemm/hopper_gemm.cuh"
#include "kernels/gemm/hopper_gemm.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

template <typename T, int kTileIndex, bool kGelu>
absl::Status LaunchTile(const GemmParams& params, simt::Stream& stream) {
  using Kernel = HopperGemmKernel<T, kTileIndex, kGelu>;
  const simt::DeviceInfo& info = stream.device().info();
  typename Kernel::Params kernel;
  BERTRAND_ASSIGN_OR_RETURN(kernel.x, simt::MakeTileMap(info.major, info.minor, params.x.data(),
                                                        params.m(), params.k(), Kernel::kM));
  BERTRAND_ASSIGN_OR_RETURN(
      kernel.weight, simt::MakeTileMap(info.major, info.minor, params.weight.data(), params.n(),
                                       params.k(), Kernel::kN));
  kernel.epilogue = MakeEpilogue<T>(params);
  kernel.m = params.m(), kernel.n = params.n(), kernel.k = params.k();
  const int64_t tiles =
      int64_t{simt::DivideUp(params.m(), Kernel::kM)} * simt::DivideUp(params.n(), Kernel::kN);
  return simt::Launch<Kernel>(
      stream, {.grid = {static_cast<int>(std::min<int64_t>(tiles, info.multiprocessors))}}, kernel);
}

// The instantiations: two types, two tiles, with and without GELU.
template <typename T>
absl::Status HopperGemmAs(const GemmParams& params, int tile, simt::Stream& stream) {
  const bool gelu = params.activation == Activation::kGeluErf;
  if (tile == 0) {
    return gelu ? LaunchTile<T, 0, true>(params, stream) : LaunchTile<T, 0, false>(params, stream);
  }
  return gelu ? LaunchTile<T, 1, true>(params, stream) : LaunchTile<T, 1, false>(params, stream);
}

}  // namespace

bool HopperGemmSupports(const simt::DeviceInfo& device, const GemmParams& params) {
  if (!device.runs_hopper()) return false;
  const bool gelu = params.activation == Activation::kGeluErf && !params.residual;
  if (params.activation != Activation::kNone && !gelu) return false;
  for (const TensorView* view :
       {&params.x, &params.weight, &params.bias, &params.residual, &params.y}) {
    if (reinterpret_cast<uintptr_t>(view->data()) % 16 != 0) return false;
  }
  const DType dtype = params.x.dtype();
  return (dtype == DType::kFloat16 || dtype == DType::kBFloat16) && params.n() % 8 == 0 &&
         params.k() % 8 == 0;
}

absl::Status HopperGemm(const GemmParams& params, int tile, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(CheckGemm(params));
  if (tile < 0 || tile >= kNumHopperTiles) {
    return InvalidArgument("HopperGemm: tile " + std::to_string(tile) + " of " +
                           std::to_string(kNumHopperTiles));
  }
  if (!HopperGemmSupports(stream.device().info(), params)) {
    return InvalidArgument("HopperGemm: x " + params.x.ToString() + ", weight " +
                           params.weight.ToString() + " on " + stream.device().info().name +
                           ": it takes 16-bit floats in rows of 16-byte multiples, no activation "
                           "or the erf GELU without a residual, on a device of capability 9.0");
  }
  if (params.m() == 0) return absl::OkStatus();
  if (params.x.dtype() == DType::kFloat16) return HopperGemmAs<simt::Half>(params, tile, stream);
  return HopperGemmAs<simt::BFloat16>(params, tile, stream);
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
