#include "kernels/gpu/launch.h"
#include "kernels/span/span.cuh"
#include "kernels/span/span.h"

namespace bertrand::gpu::inline SIMT_TARGET {

absl::Status BestSpans(const SpanParams& params, void* workspace, simt::Stream& stream) {
  const int64_t tokens = params.logits.dim(0), sequences = params.null_tokens.dim(0);
  if (tokens == 0 || sequences == 0) return absl::OkStatus();
  if (reinterpret_cast<uintptr_t>(params.logits.data()) % (2 * SizeOf(params.logits.dtype())) !=
      0) {
    return InvalidArgument("BestSpans: logits, which is " + params.logits.ToString() +
                           ", is not aligned to a row");
  }
  return WithType("BestSpans", params.logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return simt::Launch<SpanKernel<T>>(
        stream, Blocks(sequences, 1),
        {simt::AsGlobal<const T>(params.logits), simt::AsGlobal<const int32_t>(params.masked),
         simt::AsGlobal<const int32_t>(params.cu_seqlens),
         simt::AsGlobal<const int32_t>(params.null_tokens),
         simt::AsGlobal<const int32_t>(params.tokens_max),
         simt::AsGlobal<const int32_t>(params.first),
         Global<float>(static_cast<float*>(workspace), 2 * tokens),
         simt::AsGlobal<int32_t>(params.spans), static_cast<int>(tokens)});
  });
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
