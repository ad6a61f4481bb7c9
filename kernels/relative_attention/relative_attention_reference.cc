#include "kernels/relative_attention/relative_attention_reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace bertrand {
namespace {

// (x + bias) y over a head.
double Dot(const float* x, const float* bias, const float* y, int64_t size) {
  double sum = 0;
  for (int64_t j = 0; j < size; ++j) sum += (double{x[j]} + bias[j]) * y[j];
  return sum;
}

// One head of one sequence.
class HeadOfSequence {
 public:
  HeadOfSequence(const RelativeAttentionParams& params, size_t sequence, int64_t head)
      : params_(params),
        size_(params.qkv.dim(3)),
        width_(params.qkv.dim(2) * size_),
        column_(head * size_),
        begin_(params.cu_seqlens_host[sequence]),
        length_(params.cu_seqlens_host[sequence + 1] - begin_) {
    if (!params.memory.empty()) memory_ = params.memory[sequence];
  }

  int64_t length() const { return length_; }

  void Attend(int64_t i) {
    weights_.clear();
    for (int64_t j = -memory_.size; j < length_; ++j) weights_.push_back(Score(i, j));
    const double max = *std::max_element(weights_.begin(), weights_.end());
    double sum = 0;
    for (double& weight : weights_) sum += weight = std::exp(weight - max);
    float* out = At(params_.out, begin_ + i);
    for (int64_t d = 0; d < size_; ++d) {
      double weighted = 0;
      for (int64_t j = -memory_.size; j < length_; ++j) {
        weighted += weights_[static_cast<size_t>(j + memory_.size)] * Row(2, j)[d];
      }
      out[d] = static_cast<float>(weighted / sum);
    }
  }

 private:
  float* At(const TensorView& view, int64_t row) const {
    return view.as<float>() + row * width_ + column_;
  }
  // Of token j's query (0), key (1) or value (2).
  const float* Row(int64_t part, int64_t j) const {
    if (j >= 0) return At(params_.qkv, 3 * (begin_ + j) + part);
    const TensorView& rows = part == 1 ? memory_.keys : memory_.values;
    return At(rows, (memory_.first + memory_.size + j) % rows.dim(0));
  }
  int32_t Type(int64_t j) const { return j < 0 ? 0 : params_.type_ids.as<int32_t>()[begin_ + j]; }

  double Score(int64_t i, int64_t j) const {
    const float* q = Row(0, i);
    const int64_t position =
        std::clamp<int64_t>(params_.center + j - i, 0, params_.positions.dim(0) - 1);
    const double content = Dot(q, At(params_.content_bias, 0), Row(1, j), size_);
    const double distance =
        Dot(q, At(params_.position_bias, 0), At(params_.positions, position), size_);
    const double segment = Dot(q, At(params_.segment_bias, 0),
                               At(params_.segments, Type(i) == Type(j) ? 0 : 1), size_);
    return (content + distance + segment) * params_.scale;
  }

  const RelativeAttentionParams& params_;
  const int64_t size_, width_, column_, begin_, length_;
  AttentionMemory memory_;
  std::vector<double> weights_;
};

}  // namespace

void RelativeAttentionReference(const RelativeAttentionParams& params) {
  for (size_t s = 0; s + 1 < params.cu_seqlens_host.size(); ++s) {
    for (int64_t h = 0; h < params.qkv.dim(2); ++h) {
      HeadOfSequence head(params, s, h);
      for (int64_t i = 0; i < head.length(); ++i) head.Attend(i);
    }
  }
}

}  // namespace bertrand
