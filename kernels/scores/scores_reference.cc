#include "kernels/scores/scores_reference.h"

#include <algorithm>
#include <cmath>

namespace bertrand {

void GatherReference(const GatherParams& params) {
  const int64_t width = params.x.dim(1), y_width = params.y.dim(1);
  for (int64_t r = 0; r < params.y.dim(0); ++r) {
    const float* row = params.x.as<float>() + params.rows.as<int32_t>()[r] * width;
    for (int64_t j = 0; j < width; ++j) {
      params.y.as<float>()[r * y_width + params.column + j] = row[j];
    }
  }
}

void SoftmaxReference(const SoftmaxParams& params) {
  const int64_t width = params.x.dim(1);
  for (int64_t r = 0; r < params.x.dim(0); ++r) {
    float* row = params.x.as<float>() + r * width;
    const double max = *std::max_element(row, row + width);
    double sum = 0;
    for (int64_t j = 0; j < width; ++j) sum += std::exp(row[j] - max);
    for (int64_t j = 0; j < width; ++j) row[j] = static_cast<float>(std::exp(row[j] - max) / sum);
  }
}

// Selection by insertion: a candidate moves up past those that are smaller.
void TopKReference(const TopKParams& params) {
  const int64_t width = params.x.dim(1), k = params.values.dim(1);
  const bool all = params.columns.rank() == 0;
  const int64_t candidates = all ? width : params.columns.dim(0);
  for (int64_t r = 0; r < params.x.dim(0); ++r) {
    float* values = params.values.as<float>() + r * k;
    int32_t* indices = params.indices.as<int32_t>() + r * k;
    for (int64_t i = 0; i < candidates; ++i) {
      const int32_t column = all ? static_cast<int32_t>(i) : params.columns.as<int32_t>()[i];
      const float value = params.x.as<float>()[r * width + column];
      int64_t place = std::min(i, k);
      while (place > 0 && value > values[place - 1]) {
        if (place < k) {
          values[place] = values[place - 1];
          indices[place] = indices[place - 1];
        }
        --place;
      }
      if (place == k) continue;
      values[place] = value;
      indices[place] = column;
    }
  }
}

void SparsePoolReference(const SparsePoolParams& params) {
  const int64_t width = params.x.dim(1);
  for (int64_t j = 0; j < width; ++j) {
    double result = params.y.as<float>()[j];
    for (int64_t r = 0; r < params.x.dim(0); ++r) {
      double value = std::log1p(std::max(0.0, double{params.x.as<float>()[r * width + j]}));
      if (params.log_twice) value = std::log1p(value);
      result = params.sum ? result + value : std::max(result, value);
    }
    params.y.as<float>()[j] = static_cast<float>(result);
  }
}

}  // namespace bertrand
