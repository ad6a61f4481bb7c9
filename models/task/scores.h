#pragma once

// Logits to scores, as Hugging Face computes them, and labels in order. Pure functions.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "models/model.h"

namespace bertrand {

struct LabelScore {
  std::string_view label;
  float score = 0;
  uint32_t label_id = 0;
};

float Sigmoid(float logit);
// In place, with the maximum taken away first.
void Softmax(std::span<float> values);
void ApplyScoreFunction(ScoreFunction function, std::span<float> values);

// Which of equal values comes first: that of the lower index, as Python's sort has it, or that of
// the higher one, as a reversed argsort has it.
enum class Ties : uint8_t { kLowerFirst, kHigherFirst };

// Indices of the `count` largest values (0: of all), best first.
std::vector<size_t> BestFirst(std::span<const float> values, size_t count,
                              Ties ties = Ties::kLowerFirst);

}  // namespace bertrand
