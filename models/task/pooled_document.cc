#include "models/task/pooled_document.h"

#include <algorithm>
#include <cmath>

#include "kernels/status.h"

namespace bertrand {

PooledDocument::PooledDocument(size_t num_modes, int64_t width)
    : width_(static_cast<size_t>(width)), kept_(num_modes * width_), row_(num_modes * width_) {}

int64_t PooledDocument::SizeBytes(size_t num_modes, int64_t width) {
  return static_cast<int64_t>(num_modes) * width *
         static_cast<int64_t>(sizeof(double) + sizeof(float));
}

void PooledDocument::Merge(std::span<const PoolingMode> modes, int64_t num_tokens, int64_t skipped,
                           std::span<float> pooled) {
  BERTRAND_CHECK(pooled.size() == modes.size() * width_ && pooled.size() <= kept_.size(),
                 "vectors of another pooling");
  const auto count = static_cast<double>(num_tokens - skipped);
  // Places first, ..., last, counted from 1.
  const auto first = static_cast<double>(num_tokens_ + skipped + 1);
  const auto last = static_cast<double>(num_tokens_ + num_tokens);
  const double weights = count * (first + last) / 2;
  for (size_t i = 0; i < modes.size(); ++i) {
    MergeOne(modes[i], count, weights, pooled.subspan(i * width_, width_),
             std::span(kept_).subspan(i * width_, width_));
  }
  num_tokens_ += num_tokens;
  count_ += count;
  weights_ += weights;
}

void PooledDocument::MergeOne(PoolingMode mode, double count, double weights,
                              std::span<float> pooled, std::span<double> kept) {
  const auto merge = [&](const auto& kept_of, const auto& pooled_of) {
    for (size_t j = 0; j < pooled.size(); ++j) {
      kept[j] = kept_of(kept[j], double{pooled[j]});
      pooled[j] = static_cast<float>(pooled_of(kept[j]));
    }
  };
  // The vector times `own` is the segment's sum, the sum of all over `divisor` the document's
  // vector.
  const auto sum = [&](double own, double divisor) {
    merge([own](double kept_value, double value) { return kept_value + own * value; },
          [divisor](double kept_value) { return divisor > 0 ? kept_value / divisor : 0.0; });
  };
  const auto same = [](double value) { return value; };
  switch (mode) {
    case PoolingMode::kCls: {
      // The document's first token, prompt or not.
      const bool is_first = num_tokens_ == 0;
      return merge([=](double old, double value) { return is_first ? value : old; }, same);
    }
    case PoolingMode::kLastToken:
      return merge([=](double old, double value) { return count > 0 ? value : old; }, same);
    case PoolingMode::kMax: {
      const bool is_first = count_ == 0;
      return merge(
          [=](double old, double value) {
            return count == 0 ? old : is_first ? value : std::max(old, value);
          },
          same);
    }
    case PoolingMode::kMean:
      return sum(count, count_ + count);
    case PoolingMode::kMeanSqrtLen:
      return sum(std::sqrt(count), std::sqrt(count_ + count));
    case PoolingMode::kWeightedMean:
      return sum(weights, weights_ + weights);
  }
}

}  // namespace bertrand
