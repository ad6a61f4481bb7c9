#include "kernels/gemm/linear_reference.h"

#include "kernels/bias_activation/bias_activation_reference.h"

namespace bertrand {

void LinearReference(const LinearParams& params, std::span<const float> weight,
                     std::span<const float> bias) {
  const int64_t in = params.x.dim(1), out = params.y.dim(1);
  for (int64_t m = 0; m < params.x.dim(0); ++m) {
    const float* x = params.x.as<float>() + m * in;
    for (int64_t n = 0; n < out; ++n) {
      const float* row = weight.data() + n * in;
      double sum = bias.empty() ? 0.0 : double{bias[n]};
      for (int64_t k = 0; k < in; ++k) sum += double{x[k]} * row[k];
      sum = ActivationReference(params.activation, sum);
      if (params.residual) sum += params.residual.as<float>()[m * out + n];
      params.y.as<float>()[m * out + n] = static_cast<float>(sum);
    }
  }
}

}  // namespace bertrand
