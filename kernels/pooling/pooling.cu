#include "kernels/gpu/launch.h"
#include "kernels/pooling/pooling.cuh"
#include "kernels/pooling/pooling.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

Reduction ReductionOf(PoolingMode mode) {
  switch (mode) {
    case PoolingMode::kMax:
      return Reduction::kMax;
    case PoolingMode::kMeanSqrtLen:
      return Reduction::kMeanSqrtLen;
    case PoolingMode::kWeightedMean:
      return Reduction::kWeightedMean;
    default:
      return Reduction::kMean;
  }
}

template <typename T, int kVector>
absl::Status StartPool(const PoolParams& p, simt::Stream& stream) {
  using Kernel = PoolKernel<T, kVector>;
  const int width = static_cast<int>(p.x.dim(1));
  const int stripes = simt::DivideUp(width, Kernel::kStripe);
  return simt::Launch<Kernel>(
      stream, Blocks(p.out.dim(0) * stripes, 1),
      {simt::AsGlobal<const T>(p.x), simt::AsGlobal<const int32_t>(p.begin),
       simt::AsGlobal<const int32_t>(p.end), simt::AsGlobal<const int32_t>(p.weight_begin),
       simt::AsGlobal<T>(p.out), width, static_cast<int>(p.out.dim(1)), static_cast<int>(p.column),
       stripes, ReductionOf(p.mode)});
}

// Rows of x, by index or by the ends of ranges, into a column range of y.
struct Pick {
  TensorView x, rows;
  int row_offset;
  TensorView begin, end;
  TensorView y;
  int64_t column;
};

template <typename T, int kVector>
absl::Status StartPick(const Pick& p, simt::Stream& stream) {
  using Kernel = PickKernel<T, kVector>;
  const int rows = static_cast<int>(p.y.dim(0));
  return simt::Launch<Kernel>(
      stream, Blocks(rows, Kernel::kThreads / 32),
      {simt::AsGlobal<const T>(p.x), simt::AsGlobal<const int32_t>(p.rows), p.row_offset,
       simt::AsGlobal<const int32_t>(p.begin), simt::AsGlobal<const int32_t>(p.end),
       simt::AsGlobal<T>(p.y), rows, static_cast<int>(p.x.dim(1)), static_cast<int>(p.y.dim(1)),
       static_cast<int>(p.column)});
}

template <typename T>
absl::Status StartPick(const Pick& p, simt::Stream& stream) {
  if (RowsAligned(16, {p.x}) && RowsAligned(16, {p.y}, p.column)) {
    return StartPick<T, kWidestVector<T>>(p, stream);
  }
  return StartPick<T, 1>(p, stream);
}

template <typename T>
absl::Status StartPool(const PoolParams& p, simt::Stream& stream) {
  if (p.mode == PoolingMode::kCls) {
    return StartPick<T>({p.x, p.begin, 0, p.begin, p.end, p.out, p.column}, stream);
  }
  if (p.mode == PoolingMode::kLastToken) {
    return StartPick<T>({p.x, p.end, -1, p.begin, p.end, p.out, p.column}, stream);
  }
  // The result is stored value by value, so only x's rows matter.
  if (RowsAligned(16, {p.x})) return StartPool<T, kWidestVector<T>>(p, stream);
  return StartPool<T, 1>(p, stream);
}

template <typename T, int kVector>
absl::Status StartNormalize(const NormalizeParams& p, simt::Stream& stream) {
  using Kernel = NormalizeKernel<T, kVector>;
  const int rows = static_cast<int>(p.x.dim(0)), width = static_cast<int>(p.x.dim(1));
  return simt::Launch<Kernel>(stream, Blocks(rows, Kernel::kThreads / 32),
                              {simt::AsGlobal<T>(p.x), rows, width});
}

template <typename T>
absl::Status StartNormalize(const NormalizeParams& p, simt::Stream& stream) {
  if (RowsAligned(16, {p.x})) return StartNormalize<T, kWidestVector<T>>(p, stream);
  return StartNormalize<T, 1>(p, stream);
}

}  // namespace

absl::Status Pool(const PoolParams& params, simt::Stream& stream) {
  if (params.out.dim(0) == 0 || params.x.dim(1) == 0) return absl::OkStatus();
  return WithType("Pool", params.out.dtype(),
                  [&](auto zero) { return StartPool<decltype(zero)>(params, stream); });
}

absl::Status Normalize(const NormalizeParams& params, simt::Stream& stream) {
  if (params.x.num_elements() == 0) return absl::OkStatus();
  return WithType("Normalize", params.x.dtype(),
                  [&](auto zero) { return StartNormalize<decltype(zero)>(params, stream); });
}

absl::Status Gather(const GatherParams& params, simt::Stream& stream) {
  if (params.y.dim(0) == 0 || params.x.dim(1) == 0) return absl::OkStatus();
  return WithType("Gather", params.y.dtype(), [&](auto zero) {
    return StartPick<decltype(zero)>({params.x, params.rows, 0, {}, {}, params.y, params.column},
                                     stream);
  });
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
