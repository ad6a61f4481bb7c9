#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/attention/hopper_attention.cuh"
#include "kernels/attention/hopper_attention.h"
#include "kernels/attention/launch_checks.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// Tiles of rows of all heads, at most.
int64_t MostTiles(const AttentionParams& p) {
  return NumRowTiles(p.qkv.dim(0), p.cu_seqlens.dim(0) - 1, kHopperAttentionRows) * p.qkv.dim(2);
}

template <typename T, int kColumns>
absl::Status LaunchColumns(const AttentionParams& p, simt::Stream& stream) {
  using Kernel = HopperAttentionKernel<T, kColumns>;
  const simt::DeviceInfo& info = stream.device().info();
  const int tokens = static_cast<int>(p.qkv.dim(0)), heads = static_cast<int>(p.qkv.dim(2));
  const int head_size = static_cast<int>(p.qkv.dim(3));
  typename Kernel::Params params;
  BERTRAND_ASSIGN_OR_RETURN(
      params.qkv, simt::MakeTileMap(info.major, info.minor, p.qkv.data(), tokens, 3 * heads,
                                    head_size, kHopperAttentionRows));
  params.cu_seqlens = simt::AsGlobal<const int32_t>(p.cu_seqlens);
  params.out = MakeAttentionOutput<T>(p);
  params.sequences = static_cast<int>(p.cu_seqlens.dim(0) - 1);
  params.heads = heads, params.head_size = head_size, params.width = heads * head_size;
  params.scale = p.scale * kLog2E;
  const int64_t blocks = std::min<int64_t>(MostTiles(p), info.multiprocessors);
  return simt::Launch<Kernel>(stream, {.grid = {static_cast<int>(blocks)}}, params);
}

// The instantiations. Registers of a thread at entry as ptxas gives them, 168 for all.
template <typename T>
absl::Status LaunchAs(const AttentionParams& p, simt::Stream& stream) {
  if (p.qkv.dim(3) <= 64) return LaunchColumns<T, 64>(p, stream);
  return LaunchColumns<T, 128>(p, stream);
}

}  // namespace

bool HopperAttentionSupports(const simt::DeviceInfo& device, const AttentionParams& p) {
  const DType dtype = p.qkv.dtype();
  return device.runs_hopper() && (dtype == DType::kFloat16 || dtype == DType::kBFloat16) &&
         IsAligned16(p.qkv) && IsAligned16(p.out) && p.qkv.dim(3) % 8 == 0 && p.qkv.dim(3) <= 128 &&
         MostTiles(p) * (p.qkv.dim(0) / kHopperAttentionRows + 2) <= INT32_MAX;
}

absl::Status HopperAttention(const AttentionParams& params, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(CheckAttention("HopperAttention", params));
  if (!HopperAttentionSupports(stream.device().info(), params)) {
    return InvalidArgument("HopperAttention: qkv " + params.qkv.ToString() + ", out " +
                           params.out.ToString() + " on " + stream.device().info().name +
                           ": it takes aligned 16-bit heads of a multiple of 8 up to 128, on a "
                           "device of capability 9.0");
  }
  if (params.qkv.dim(0) == 0 || params.cu_seqlens.dim(0) == 1) return absl::OkStatus();
  if (params.qkv.dtype() == DType::kFloat16) return LaunchAs<simt::Half>(params, stream);
  return LaunchAs<simt::BFloat16>(params, stream);
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
