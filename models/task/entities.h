#pragma once

// From label probabilities of tokens to entities: transformers' token-classification pipeline
// (pipelines/token_classification.py), step by step. Pure functions, thread-safe.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace bertrand {

// bertrand.v1.ClassifyTokensRequest.Aggregation, by number.
enum class EntityAggregation : uint8_t { kNone = 0, kSimple, kFirst, kAverage, kMax };

struct Entity {
  std::string label;  // grouped: without B- or I-
  float score = 0;
  int64_t token_index = 0;  // of the first token in its sequence, special tokens counted
  std::string text;
  TokenSpan span;
  int8_t sequence = 0;  // the text of a pair that it lies in
};

// A token that the model has looked at, special ones left out (`gather_pre_entities`).
struct ClassifiedToken {
  std::string_view text;          // the vocabulary's, or the source's where that has become unknown
  std::span<const float> scores;  // probabilities of the labels
  TokenSpan span;
  int64_t index = 0;
  int8_t sequence = 0;
  bool is_subword = false;
};

// Entities of one sequence, those with labels to be ignored too.
std::vector<Entity> AggregateEntities(std::span<const ClassifiedToken> tokens,
                                      EntityAggregation aggregation,
                                      std::span<const std::string> labels,
                                      const Tokenizer& tokenizer);

// Entities of all windows of a text -> of the text (`aggregate_overlapping_entities`).
std::vector<Entity> MergeOverlapping(std::vector<Entity> entities);

}  // namespace bertrand
