#include "models/task/scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace bertrand {

float Sigmoid(float logit) { return static_cast<float>(1 / (1 + std::exp(-double{logit}))); }

void Softmax(std::span<float> values) {
  if (values.empty()) return;
  const double max = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const float value : values) sum += std::exp(value - max);
  for (float& value : values) value = static_cast<float>(std::exp(value - max) / sum);
}

void ApplyScoreFunction(ScoreFunction function, std::span<float> values) {
  switch (function) {
    case ScoreFunction::kNone:
      return;
    case ScoreFunction::kSigmoid:
      for (float& value : values) value = Sigmoid(value);
      return;
    case ScoreFunction::kSoftmax:
      return Softmax(values);
  }
}

std::vector<size_t> BestFirst(std::span<const float> values, size_t count, Ties ties) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (count == 0 || count > order.size()) count = order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [values, ties](size_t a, size_t b) {
                      if (values[a] != values[b]) return values[a] > values[b];
                      return ties == Ties::kLowerFirst ? a < b : b < a;
                    });
  order.resize(count);
  return order;
}

}  // namespace bertrand
