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
                                           simt::AsGlobal<simt::Float8>(p.narrow.values),
                                           simt::AsGlobal<const float>(p.narrow.scale),
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
  const bool has_vectors = RowsAligned(16, {p.word, p.position, p.type, p.gamma, p.beta, p.y});
  if (p.narrow.values && (!has_vectors || !RowsAligned(8, {p.narrow.values}))) {
    return InvalidArgument("Embedding: y is " + p.y.ToString() +
                           "; with float8 its width must be a multiple of 8, and aligned");
  }
  if (!has_vectors) {
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
  const NarrowOutput& narrow = params.narrow;
  const TensorView &y = params.y, &scale = narrow.scale;
  if (y.num_elements() == 0) return absl::OkStatus();
  if (narrow.values &&
      (narrow.values.dtype() != DType::kFloat8 || !narrow.values.HasShape({y.dim(0), y.dim(1)}) ||
       scale.dtype() != DType::kFloat32 || scale.num_elements() != 1)) {
    return InvalidArgument("Embedding: a second output of " + narrow.values.ToString() +
                           ", its scale " + scale.ToString() + ", y is " + y.ToString());
  }
  return WithType("Embedding", y.dtype(),
                  [&](auto zero) { return StartForWidth<decltype(zero)>(params, stream); });
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
