#include "kernels/gpu/copy.cuh"
#include "kernels/gpu/copy.h"
#include "kernels/gpu/launch.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

template <typename From, typename To>
absl::Status StartConvert(const TensorView& from, const TensorView& to, float factor,
                          simt::Stream& stream) {
  const int64_t count = from.num_elements();
  using Kernel = ConvertKernel<From, To>;
  return simt::Launch<Kernel>(
      stream, Blocks(count, Kernel::kThreads * Kernel::kVector),
      {simt::AsGlobal<const From>(from), simt::AsGlobal<To>(to), count, factor});
}

bool IsAligned(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.data()) % 16 == 0;
}

}  // namespace

absl::Status Convert(const TensorView& from, const TensorView& to, simt::Stream& stream,
                     float scale) {
  const bool narrows = from.dtype() == DType::kFloat32;
  if (from.num_elements() != to.num_elements() || !IsAligned(from) || !IsAligned(to) ||
      (!narrows && to.dtype() != DType::kFloat32)) {
    return InvalidArgument("Convert: from is " + from.ToString() + ", to is " + to.ToString() +
                           "; one must be float32, both of as many elements and aligned");
  }
  if (from.num_elements() == 0) return absl::OkStatus();
  if (to.dtype() == DType::kFloat8) {
    return StartConvert<float, simt::Float8>(from, to, 1 / scale, stream);
  }
  if (from.dtype() == DType::kFloat8) {
    return StartConvert<simt::Float8, float>(from, to, scale, stream);
  }
  return WithType("Convert", narrows ? to.dtype() : from.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return narrows ? StartConvert<float, T>(from, to, 1, stream)
                   : StartConvert<T, float>(from, to, 1, stream);
  });
}

absl::Status CheckFinite(const TensorView& x, const TensorView& flag, simt::Stream& stream) {
  if (flag.dtype() != DType::kInt32 || flag.num_elements() != 1 || !IsAligned(x)) {
    return InvalidArgument("CheckFinite: flag is " + flag.ToString() + ", x is " + x.ToString() +
                           "; expected int32[1] and an aligned tensor");
  }
  if (x.num_elements() == 0) return absl::OkStatus();
  return WithType("CheckFinite", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using Kernel = FiniteKernel<T>;
    return simt::Launch<Kernel>(
        stream, Blocks(x.num_elements(), Kernel::kThreads * Kernel::kVector),
        {simt::AsGlobal<const T>(x), simt::AsGlobal<int>(flag), x.num_elements()});
  });
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
