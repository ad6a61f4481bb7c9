#include "kernels/cpu/span_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bertrand {
namespace {

// transformers puts -10000 for what is masked, and in float32, so that it gives exactly 0 unless
// all is masked.
void Softmax(const SpanSearch& search, size_t column, float* probabilities) {
  constexpr float kMasked = -10000;
  for (size_t i = 0; i < search.size; ++i) {
    probabilities[i] = search.masked[i] != 0 ? kMasked : search.logits[2 * i + column];
  }
  const float max = *std::max_element(probabilities, probabilities + search.size);
  double sum = 0;
  for (size_t i = 0; i < search.size; ++i) {
    probabilities[i] = std::exp(probabilities[i] - max);
    sum += probabilities[i];
  }
  for (size_t i = 0; i < search.size; ++i) {
    probabilities[i] = static_cast<float>(probabilities[i] / sum);
  }
}

bool IsBetter(const ScoredSpan& a, const ScoredSpan& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.start != b.start ? a.start < b.start : a.end < b.end;
}

bool AllFinite(const float* values, size_t count) {
  return std::all_of(values, values + count, [](float value) { return std::isfinite(value); });
}

// A heap in `best` with the worst of the best on top; how many it has in the end.
size_t FillHeap(const SpanSearch& search, const float* starts, const float* ends, ScoredSpan* best,
                size_t room) {
  const float largest_end = *std::max_element(ends, ends + search.size);
  size_t count = 0;
  for (size_t s = 0; s < search.size; ++s) {
    // Most starts cannot reach the worst, whatever the end.
    const float reachable = starts[s] * largest_end;
    if (!(reachable > 0) || (count == room && reachable < best->score)) continue;
    const size_t stop = s + std::min(search.size - s, search.tokens_max);
    for (size_t e = s; e < stop; ++e) {
      const ScoredSpan span{static_cast<int32_t>(s), static_cast<int32_t>(e), starts[s] * ends[e]};
      if (!(span.score > 0)) continue;
      if (count == room) {
        if (!IsBetter(span, *best)) continue;
        std::pop_heap(best, best + count, IsBetter);
        --count;
      }
      best[count++] = span;
      std::push_heap(best, best + count, IsBetter);
    }
  }
  return count;
}

}  // namespace

void SearchSpans(const SpanSearch& search) {
  float* const starts = search.probabilities;
  float* const ends = starts + search.size;
  Softmax(search, 0, starts);
  Softmax(search, 1, ends);
  const auto null = static_cast<int32_t>(search.null_token);
  const bool finite = AllFinite(search.logits, 2 * search.size);
  search.spans[0] = {null, null,
                     finite ? starts[null] * ends[null] : std::numeric_limits<float>::quiet_NaN()};
  for (size_t i = 0; i < search.size; ++i) {
    if (search.masked[i] != 0 || i == search.null_token) starts[i] = ends[i] = 0;
  }
  ScoredSpan* const best = search.spans + 1;
  const size_t room = search.rows - 1;
  const size_t count = room == 0 ? 0 : FillHeap(search, starts, ends, best, room);
  std::sort_heap(best, best + count, IsBetter);
  std::fill(best + count, best + room, ScoredSpan{});
}

}  // namespace bertrand
