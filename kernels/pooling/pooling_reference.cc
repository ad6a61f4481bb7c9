#include "kernels/pooling/pooling_reference.h"

#include <algorithm>
#include <cmath>

namespace bertrand {
namespace {

// One column of rows [begin, end), which are `width` apart; end > begin.
double PoolColumn(const float* x, int64_t width, int64_t begin, int64_t end, int64_t weight_begin,
                  PoolingMode mode) {
  if (mode == PoolingMode::kCls) return x[begin * width];
  if (mode == PoolingMode::kLastToken) return x[(end - 1) * width];
  double max = x[begin * width], sum = 0, weighted_sum = 0, weights = 0;
  for (int64_t row = begin; row < end; ++row) {
    const double value = x[row * width];
    const double weight = static_cast<double>(row - weight_begin + 1);
    max = std::max(max, value);
    sum += value;
    weighted_sum += weight * value;
    weights += weight;
  }
  const double count = static_cast<double>(end - begin);
  if (mode == PoolingMode::kMax) return max;
  if (mode == PoolingMode::kMean) return sum / count;
  if (mode == PoolingMode::kMeanSqrtLen) return sum / std::sqrt(count);
  // sentence-transformers clamps the divisor at 1e-9; it is at least 1 for a row that exists.
  return weighted_sum / std::max(weights, 1e-9);
}

}  // namespace

void PoolReference(const PoolParams& params) {
  const int64_t width = params.x.dim(1), out_width = params.out.dim(1);
  for (int64_t r = 0; r < params.out.dim(0); ++r) {
    const int64_t begin = params.begin.as<int32_t>()[r], end = params.end.as<int32_t>()[r];
    const int64_t weight_begin = params.weight_begin.as<int32_t>()[r];
    float* out = params.out.as<float>() + r * out_width + params.column;
    for (int64_t j = 0; j < width; ++j) {
      out[j] = begin < end ? static_cast<float>(PoolColumn(params.x.as<float>() + j, width, begin,
                                                           end, weight_begin, params.mode))
                           : 0.0f;
    }
  }
}

void NormalizeReference(const NormalizeParams& params) {
  const int64_t width = params.x.dim(1);
  for (int64_t r = 0; r < params.x.dim(0); ++r) {
    float* row = params.x.as<float>() + r * width;
    double sum_of_squares = 0;
    for (int64_t j = 0; j < width; ++j) sum_of_squares += double{row[j]} * row[j];
    const double norm = std::max(std::sqrt(sum_of_squares), 1e-12);
    for (int64_t j = 0; j < width; ++j) row[j] = static_cast<float>(row[j] / norm);
  }
}

}  // namespace bertrand
