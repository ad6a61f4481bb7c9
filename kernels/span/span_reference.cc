#include "kernels/span/span_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace bertrand {
namespace {

std::vector<float> Probabilities(const float* logits, const int32_t* masked, int32_t size) {
  std::vector<double> values;
  for (int32_t i = 0; i < size; ++i) values.push_back(masked[i] != 0 ? -10000 : logits[2 * i]);
  const double max = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const double value : values) sum += std::exp(value - max);
  std::vector<float> probabilities;
  for (const double value : values) {
    probabilities.push_back(static_cast<float>(std::exp(value - max) / sum));
  }
  return probabilities;
}

// Selection by insertion: spans come by start, then end, so an equal one stays behind.
void Insert(const ScoredSpan& span, ScoredSpan* best, int32_t size) {
  int32_t place = size;
  while (place > 0 && span.score > best[place - 1].score) {
    if (place < size) best[place] = best[place - 1];
    --place;
  }
  if (place < size) best[place] = span;
}

}  // namespace

void BestSpansReference(const SpanParams& params) {
  for (int64_t i = 0; i < params.null_tokens.dim(0); ++i) {
    const int32_t begin = params.cu_seqlens.as<int32_t>()[i];
    const int32_t size = params.cu_seqlens.as<int32_t>()[i + 1] - begin;
    const int32_t null = params.null_tokens.as<int32_t>()[i];
    const float* logits = params.logits.as<float>() + int64_t{2} * begin;
    const int32_t* masked = params.masked.as<int32_t>() + begin;
    const std::vector<float> starts = Probabilities(logits, masked, size),
                             ends = Probabilities(logits + 1, masked, size);
    const int32_t first = params.first.as<int32_t>()[i];
    const int32_t rows = params.first.as<int32_t>()[i + 1] - first;
    auto* const spans = static_cast<ScoredSpan*>(params.spans.data()) + first;
    const bool finite =
        std::all_of(logits, logits + int64_t{2} * size, [](float x) { return std::isfinite(x); });
    const auto at = static_cast<size_t>(null);
    spans[0] = {null, null,
                finite ? starts[at] * ends[at] : std::numeric_limits<float>::quiet_NaN()};
    std::fill(spans + 1, spans + rows, ScoredSpan{});
    for (int32_t s = 0; s < size; ++s) {
      for (int32_t e = s; e < size && e - s < params.tokens_max.as<int32_t>()[i]; ++e) {
        if (s == null || e == null || masked[s] != 0 || masked[e] != 0) continue;
        Insert({s, e, starts[static_cast<size_t>(s)] * ends[static_cast<size_t>(e)]}, spans + 1,
               rows - 1);
      }
    }
  }
}

}  // namespace bertrand
