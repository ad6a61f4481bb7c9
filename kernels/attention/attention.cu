#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/attention/attention.cuh"
#include "kernels/attention/attention.h"
#include "kernels/attention/launch_checks.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// Whether `count` values of a head at a time can be read and written.
bool IsChunked(const AttentionParams& p, int count) {
  return IsAligned16(p.qkv) && IsAligned16(p.out) && p.qkv.dim(3) % count == 0;
}

template <typename T>
AttentionOperands<T> Operands(const AttentionParams& p) {
  return {simt::AsGlobal<const T>(p.qkv),
          simt::AsGlobal<const int32_t>(p.cu_seqlens),
          MakeAttentionOutput<T>(p),
          static_cast<int>(p.cu_seqlens.dim(0) - 1),
          static_cast<int>(p.qkv.dim(2)),
          static_cast<int>(p.qkv.dim(3)),
          static_cast<int>(p.qkv.dim(2) * p.qkv.dim(3)),
          p.scale * kLog2E};
}

template <typename T, int kHeadSize>
absl::Status StartTensor(const AttentionParams& p, simt::Stream& stream) {
  if (p.tile == AttentionTile::kTall ||
      (p.tile == AttentionTile::kAuto && TallTilesPay(p, stream.device().info()))) {
    // Two groups of rows a warp halve what warps read of shared memory, which at one group takes
    // longer than the products: 1,152 passes of 128 bytes for 64 keys of 128 rows, 64 values a
    // head, against about 820 clocks of mma.sync on an H100 (predicted). Heads of 128 have no
    // registers for two.
    constexpr int kGroups = kHeadSize <= 64 ? 2 : 1;
    using Kernel = TensorAttentionKernel<T, kHeadSize, 8 / kGroups, kGroups>;
    return simt::Launch<Kernel>(stream, AttentionShape<Kernel>(p), Operands<T>(p));
  }
  using Kernel = TensorAttentionKernel<T, kHeadSize, 4, 1>;
  return simt::Launch<Kernel>(stream, AttentionShape<Kernel>(p), Operands<T>(p));
}

template <typename T, int kHeadSize>
absl::Status StartFloat(const AttentionParams& p, simt::Stream& stream) {
  using Kernel = FloatAttentionKernel<T, kHeadSize>;
  return simt::Launch<Kernel>(stream, AttentionShape<Kernel>(p), {Operands<T>(p), IsChunked(p, 4)});
}

// The launch table. Registers of a thread as ptxas of CUDA 13.0 gives them for sm_80 / 86 / 90a,
// none spilled; shared memory; blocks that an SM of A100 / L4 / H100 holds.
//
//   tensor   32, 4 warps   108 / 118 / 122   16 KiB   4 / 4 / 4    (5 blocks' 96 registers spill)
//   tensor   32, 4 x 2     168 / 168 / 168   16 KiB   3 / 3 / 3    (4 warps of two groups)
//   tensor   64, 4 warps   127 / 128 / 128   32 KiB   4 / 3 / 4
//   tensor   64, 4 x 2     239 / 241 / 255   32 KiB   2 / 2 / 2
//   tensor  128, 4 warps   218 / 220 / 213   64 KiB   2 / 1 / 2
//   tensor  128, 8 warps   214 / 216 / 210   64 KiB   1 / 1 / 1
//   float    32            168 / 168 / 168   47 KiB   3 / 2 / 3
//   float    64            163 / 163 / 168   71 KiB   2 / 1 / 3
//   float   128            196 / 198 / 196   76 KiB   2 / 1 / 2    (3 blocks spill on sm_120)
//   float   256            196 / 197 / 195   68 KiB   2 / 1 / 2
template <typename T>
absl::Status StartForHeadSize(const AttentionParams& p, simt::Stream& stream) {
  const int64_t head_size = p.qkv.dim(3);
  if constexpr (!std::is_same_v<T, float>) {
    if (IsChunked(p, 8) && head_size <= 128) {
      if (head_size <= 32) return StartTensor<T, 32>(p, stream);
      if (head_size <= 64) return StartTensor<T, 64>(p, stream);
      return StartTensor<T, 128>(p, stream);
    }
  }
  if (head_size <= 32) return StartFloat<T, 32>(p, stream);
  if (head_size <= 64) return StartFloat<T, 64>(p, stream);
  if (head_size <= 128) return StartFloat<T, 128>(p, stream);
  return StartFloat<T, 256>(p, stream);
}

}  // namespace

absl::Status Attention(const AttentionParams& params, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(CheckAttention("Attention", params));
  if (params.qkv.dim(0) == 0 || params.cu_seqlens.dim(0) == 1) return absl::OkStatus();
  switch (params.qkv.dtype()) {
    case DType::kFloat32:
      return StartForHeadSize<float>(params, stream);
    case DType::kFloat16:
      return StartForHeadSize<simt::Half>(params, stream);
    case DType::kBFloat16:
      return StartForHeadSize<simt::BFloat16>(params, stream);
    default:
      return InvalidArgument("Attention: qkv is " + params.qkv.ToString());
  }
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
