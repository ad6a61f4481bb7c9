#include "kernels/embedding/embedding_reference.h"

#include <vector>

#include "kernels/layer_norm/layer_norm_reference.h"

namespace bertrand {

void EmbeddingReference(const EmbeddingParams& params) {
  const int64_t tokens = params.y.dim(0), width = params.y.dim(1);
  std::vector<double> row(static_cast<size_t>(width));
  for (int64_t t = 0; t < tokens; ++t) {
    const auto add_row_of = [&](const TensorView& table, const TensorView& ids) {
      if (!table) return;
      const float* entry = table.as<float>() + int64_t{ids.as<int32_t>()[t]} * width;
      for (int64_t j = 0; j < width; ++j) row[j] += entry[j];
    };
    row.assign(row.size(), 0.0);
    add_row_of(params.word, params.ids);
    add_row_of(params.position, params.position_ids);
    add_row_of(params.type, params.type_ids);
    float* y = params.y.as<float>() + t * width;
    if (params.gamma) {
      NormalizeRowReference(row, params.gamma.as<float>(), params.beta.as<float>(), params.eps, y);
    } else {
      for (int64_t j = 0; j < width; ++j) y[j] = static_cast<float>(row[j]);
    }
  }
}

}  // namespace bertrand
