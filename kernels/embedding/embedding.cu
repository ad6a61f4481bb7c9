#include "kernels/embedding/embedding.cuh"
#include "kernels/embedding/embedding.h"
#include "kernels/gpu/launch.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

template <typename Kernel, typename T>
absl::Status Start(const EmbeddingParams& p, simt::Stream& stream) {
  const int tokens = static_cast<int>(p.y.dim(0)), width = static_cast<int>(p.y.dim(1));
  const EmbeddingKernelParams<T> params = {simt::AsGlobal<const int32_t>(p.ids),
                                           simt::AsGlobal<const int32_t>(p.position_ids),
                                           simt::AsGlobal<const int32_t>(p.type_ids),
                                           simt::AsGlobal<const T>(p.word),
                                           simt::AsGlobal<const T>(p.position),
                                           simt::AsGlobal<const T>(p.type),
                                           simt::AsGlobal<const T>(p.gamma),
                                           simt::AsGlobal<const T>(p.beta),
                                           simt::AsGlobal<T>(p.y),
                                           tokens,
                                           width,
                                           p.eps};
  return simt::Launch<Kernel>(stream, Blocks(tokens, Kernel::kThreads / 32), params);
}

// The launch table. Registers on sm_80 and sm_90a, none spilt: f16 and bf16 40, 56, 78, 101 up to
// 256, 512, 768, 1024 columns; f32 140 and 183 for the last two (8 warps a multiprocessor, all of
// their rows in flight); the wide kernel 48.
template <typename T>
absl::Status StartForWidth(const EmbeddingParams& p, simt::Stream& stream) {
  const int64_t width = p.y.dim(1);
  if (!RowsAligned(16, {p.word, p.position, p.type, p.gamma, p.beta, p.y})) {
    return Start<WideEmbeddingKernel<T, 1>, T>(p, stream);
  }
  if (width <= 256) return Start<EmbeddingKernel<T, 256>, T>(p, stream);
  if (width <= 512) return Start<EmbeddingKernel<T, 512>, T>(p, stream);
  if (width <= 768) return Start<EmbeddingKernel<T, 768>, T>(p, stream);
  if (width <= 1024) return Start<EmbeddingKernel<T, 1024>, T>(p, stream);
  return Start<WideEmbeddingKernel<T, kWidestVector<T>>, T>(p, stream);
}

}  // namespace

absl::Status Embedding(const EmbeddingParams& params, simt::Stream& stream) {
  if (params.y.num_elements() == 0) return absl::OkStatus();
  return WithType("Embedding", params.y.dtype(),
                  [&](auto zero) { return StartForWidth<decltype(zero)>(params, stream); });
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
