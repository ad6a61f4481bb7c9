#include "kernels/attention/attention_reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace bertrand {
namespace {

// One query row against the `length` key and value rows of its sequence; rows are `stride` apart.
void AttendRow(const float* query, const float* keys, const float* values, int64_t stride,
               int64_t length, int64_t head_size, float scale, std::vector<double>& scores,
               float* out) {
  scores.resize(static_cast<size_t>(length));
  for (int64_t k = 0; k < length; ++k) {
    double dot = 0;
    for (int64_t j = 0; j < head_size; ++j) dot += double{query[j]} * keys[k * stride + j];
    scores[k] = dot * scale;
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - max);
  for (int64_t j = 0; j < head_size; ++j) {
    double weighted = 0;
    for (int64_t k = 0; k < length; ++k) weighted += scores[k] * values[k * stride + j];
    out[j] = static_cast<float>(weighted / sum);
  }
}

}  // namespace

void AttentionReference(const AttentionParams& params) {
  const int64_t heads = params.qkv.dim(2), head_size = params.qkv.dim(3);
  const int64_t width = heads * head_size, stride = 3 * width;
  std::vector<double> scores;
  for (size_t s = 0; s + 1 < params.cu_seqlens_host.size(); ++s) {
    const int64_t begin = params.cu_seqlens_host[s], end = params.cu_seqlens_host[s + 1];
    for (int64_t h = 0; h < heads; ++h) {
      const float* keys = params.qkv.as<float>() + begin * stride + width + h * head_size;
      for (int64_t t = begin; t < end; ++t) {
        AttendRow(params.qkv.as<float>() + t * stride + h * head_size, keys, keys + width, stride,
                  end - begin, head_size, params.scale, scores,
                  params.out.as<float>() + t * width + h * head_size);
      }
    }
  }
}

}  // namespace bertrand
