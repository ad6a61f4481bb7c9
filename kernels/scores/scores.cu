#include "kernels/gpu/launch.h"
#include "kernels/scores/scores.cuh"
#include "kernels/scores/scores.h"
#include "kernels/scores/top_k.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// A row for one warp.
constexpr int64_t kShortSoftmax = 1024;

int64_t NumSegments(int64_t columns) {
  return columns <= kShortSoftmax ? 0 : (columns + kSoftmaxSegment - 1) / kSoftmaxSegment;
}

// Registers on sm_80 and sm_90a, none spilt: softmax 22 to 38, top_k 44, sparse_pool 40.
template <typename T, int kVector>
absl::Status StartSoftmax(const SoftmaxParams& p, void* workspace, simt::Stream& stream) {
  const int64_t rows = p.x.dim(0), segments = NumSegments(p.x.dim(1));
  SoftmaxKernelParams<T> params;
  params.x = simt::AsGlobal<T>(p.x);
  params.rows = static_cast<int>(rows);
  params.width = static_cast<int>(p.x.dim(1));
  params.segments = static_cast<int>(segments);
  if (segments == 0) {
    using Kernel = ShortSoftmaxKernel<T, kVector>;
    return simt::Launch<Kernel>(stream, Blocks(rows, Kernel::kThreads / 32), params);
  }
  params.partial = Global<float>(static_cast<float*>(workspace), rows * segments * 2);
  const simt::LaunchShape shape = Blocks(rows * segments, 1);
  BERTRAND_RETURN_IF_ERROR((simt::Launch<SoftmaxPartialKernel<T, kVector>>(stream, shape, params)));
  return simt::Launch<SoftmaxScaleKernel<T, kVector>>(stream, shape, params);
}

template <typename T>
absl::Status StartSoftmax(const SoftmaxParams& p, void* workspace, simt::Stream& stream) {
  if (RowsAligned(16, {p.x})) return StartSoftmax<T, kWidestVector<T>>(p, workspace, stream);
  if (RowsAligned(4, {p.x})) return StartSoftmax<T, kWordVector<T>>(p, workspace, stream);
  return StartSoftmax<T, 1>(p, workspace, stream);
}

template <typename T, int kVector>
absl::Status StartTopK(const TopKParams& p, simt::Stream& stream) {
  const int64_t candidates = p.columns ? p.columns.dim(0) : p.x.dim(1);
  return simt::Launch<TopKKernel<T, kVector>>(
      stream, Blocks(p.x.dim(0), 1),
      {simt::AsGlobal<const T>(p.x), simt::AsGlobal<const int32_t>(p.columns),
       simt::AsGlobal<T>(p.values), simt::AsGlobal<int32_t>(p.indices),
       static_cast<int>(p.x.dim(1)), static_cast<int>(candidates),
       static_cast<int>(p.values.dim(1))});
}

template <typename T>
absl::Status StartTopK(const TopKParams& p, simt::Stream& stream) {
  if (!p.columns && RowsAligned(16, {p.x})) return StartTopK<T, kWidestVector<T>>(p, stream);
  if (!p.columns && RowsAligned(4, {p.x})) return StartTopK<T, kWordVector<T>>(p, stream);
  return StartTopK<T, 1>(p, stream);
}

template <typename T, int kVector>
absl::Status StartSparsePool(const SparsePoolParams& p, simt::Stream& stream) {
  using Kernel = SparsePoolKernel<T, kVector>;
  const int width = static_cast<int>(p.x.dim(1));
  return simt::Launch<Kernel>(stream, Blocks(width, Kernel::kColumns),
                              {simt::AsGlobal<const T>(p.x), simt::AsGlobal<T>(p.y),
                               static_cast<int>(p.x.dim(0)), width, p.sum, p.log_twice});
}

// A word per lane: wider vectors would leave too few blocks for the device.
template <typename T>
absl::Status StartSparsePool(const SparsePoolParams& p, simt::Stream& stream) {
  if (RowsAligned(4, {p.x, p.y})) return StartSparsePool<T, kWordVector<T>>(p, stream);
  return StartSparsePool<T, 1>(p, stream);
}

}  // namespace

size_t SoftmaxWorkspaceBytes(int64_t rows, int64_t columns) {
  return static_cast<size_t>(rows * NumSegments(columns)) * 2 * sizeof(float);
}

absl::Status Softmax(const SoftmaxParams& params, void* workspace, simt::Stream& stream) {
  if (params.x.num_elements() == 0) return absl::OkStatus();
  return WithType("Softmax", params.x.dtype(), [&](auto zero) {
    return StartSoftmax<decltype(zero)>(params, workspace, stream);
  });
}

absl::Status TopK(const TopKParams& params, simt::Stream& stream) {
  if (params.x.num_elements() == 0) return absl::OkStatus();
  return WithType("TopK", params.x.dtype(),
                  [&](auto zero) { return StartTopK<decltype(zero)>(params, stream); });
}

absl::Status SparsePool(const SparsePoolParams& params, simt::Stream& stream) {
  if (params.x.num_elements() == 0) return absl::OkStatus();
  return WithType("SparsePool", params.x.dtype(),
                  [&](auto zero) { return StartSparsePool<decltype(zero)>(params, stream); });
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
