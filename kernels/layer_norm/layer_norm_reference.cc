#include "kernels/layer_norm/layer_norm_reference.h"

#include <cmath>
#include <vector>

namespace bertrand {

void NormalizeRowReference(std::span<const double> row, const float* gamma, const float* beta,
                           float eps, float* y) {
  const double width = static_cast<double>(row.size());
  double sum = 0, sum_of_squares = 0;
  for (const double value : row) sum += value;
  const double mean = sum / width;
  for (const double value : row) sum_of_squares += (value - mean) * (value - mean);
  const double scale = 1 / std::sqrt(sum_of_squares / width + double{eps});
  for (size_t j = 0; j < row.size(); ++j) {
    y[j] = static_cast<float>((row[j] - mean) * scale * gamma[j] + beta[j]);
  }
}

void LayerNormReference(const LayerNormParams& params) {
  const int64_t tokens = params.x.dim(0), width = params.x.dim(1);
  std::vector<double> row(static_cast<size_t>(width));
  for (int64_t t = 0; t < tokens; ++t) {
    const float* x = params.x.as<float>() + t * width;
    const float* residual = params.residual ? params.residual.as<float>() + t * width : nullptr;
    for (int64_t j = 0; j < width; ++j) row[j] = double{x[j]} + (residual ? residual[j] : 0.0f);
    NormalizeRowReference(row, params.gamma.as<float>(), params.beta.as<float>(), params.eps,
                          params.y.as<float>() + t * width);
  }
}

}  // namespace bertrand
