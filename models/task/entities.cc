#include "models/task/entities.h"

#include <algorithm>
#include <utility>

namespace bertrand {
namespace {

size_t IndexOfLargest(std::span<const float> values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

Entity FromToken(const ClassifiedToken& token, std::span<const std::string> labels) {
  const size_t id = IndexOfLargest(token.scores);
  Entity entity;
  entity.label = labels[id];
  entity.score = token.scores[id];
  entity.token_index = token.index;
  entity.text = token.text;
  entity.span = token.span;
  entity.sequence = token.sequence;
  return entity;
}

TokenSpan Join(const TokenSpan& first, const TokenSpan& last) {
  return {first.start, last.end, first.start_byte, last.end_byte};
}

// Probabilities that speak for a word (`aggregate_word`).
std::vector<float> WordScores(std::span<const ClassifiedToken> word,
                              EntityAggregation aggregation) {
  size_t chosen = 0;
  if (aggregation == EntityAggregation::kAverage) {
    std::vector<float> mean(word[0].scores.size());
    for (size_t label = 0; label < mean.size(); ++label) {
      double sum = 0;
      for (const ClassifiedToken& token : word) sum += token.scores[label];
      mean[label] = static_cast<float>(sum / static_cast<double>(word.size()));
    }
    return mean;
  }
  if (aggregation == EntityAggregation::kMax) {
    const auto largest = [](const ClassifiedToken& token) {
      return token.scores[IndexOfLargest(token.scores)];
    };
    for (size_t i = 1; i < word.size(); ++i) {
      if (largest(word[i]) > largest(word[chosen])) chosen = i;
    }
  }
  return {word[chosen].scores.begin(), word[chosen].scores.end()};
}

Entity FromWord(std::span<const ClassifiedToken> word, EntityAggregation aggregation,
                std::span<const std::string> labels, const Tokenizer& tokenizer) {
  const std::vector<float> scores = WordScores(word, aggregation);
  ClassifiedToken whole = word[0];
  whole.scores = scores;
  whole.span = Join(word.front().span, word.back().span);
  Entity entity = FromToken(whole, labels);
  std::vector<std::string_view> texts;
  for (const ClassifiedToken& token : word) texts.push_back(token.text);
  entity.text = tokenizer.JoinTokens(texts);
  return entity;
}

// `aggregate_words`: a word is a token and the subwords after it.
std::vector<Entity> FromWords(std::span<const ClassifiedToken> tokens,
                              EntityAggregation aggregation, std::span<const std::string> labels,
                              const Tokenizer& tokenizer) {
  std::vector<Entity> entities;
  for (size_t begin = 0; begin < tokens.size();) {
    size_t end = begin + 1;
    while (end < tokens.size() && tokens[end].is_subword) ++end;
    entities.push_back(
        FromWord(tokens.subspan(begin, end - begin), aggregation, labels, tokenizer));
    begin = end;
  }
  return entities;
}

// `get_tag`: labels without B- or I- count as I-.
std::pair<bool, std::string_view> TagOf(std::string_view label) {
  if (label.starts_with("B-") || label.starts_with("I-")) return {label[0] == 'B', label.substr(2)};
  return {false, label};
}

// `group_sub_entities`. The label loses what stands before its first dash, whatever that is.
Entity FromGroup(std::span<const Entity> group, const Tokenizer& tokenizer) {
  Entity entity = group[0];
  const size_t dash = entity.label.find('-');
  if (dash != std::string::npos) entity.label.erase(0, dash + 1);
  double sum = 0;
  std::vector<std::string_view> texts;
  for (const Entity& part : group) {
    sum += part.score;
    texts.push_back(part.text);
  }
  entity.score = static_cast<float>(sum / static_cast<double>(group.size()));
  entity.text = tokenizer.JoinTokens(texts);
  entity.span = Join(group.front().span, group.back().span);
  return entity;
}

// `group_entities`: neighbours with one tag, the second not a beginning.
std::vector<Entity> Group(std::span<const Entity> entities, const Tokenizer& tokenizer) {
  std::vector<Entity> groups;
  for (size_t begin = 0; begin < entities.size();) {
    size_t end = begin + 1;
    for (; end < entities.size(); ++end) {
      const auto [begins, tag] = TagOf(entities[end].label);
      if (begins || tag != TagOf(entities[end - 1].label).second) break;
    }
    groups.push_back(FromGroup(entities.subspan(begin, end - begin), tokenizer));
    begin = end;
  }
  return groups;
}

}  // namespace

std::vector<Entity> AggregateEntities(std::span<const ClassifiedToken> tokens,
                                      EntityAggregation aggregation,
                                      std::span<const std::string> labels,
                                      const Tokenizer& tokenizer) {
  std::vector<Entity> entities;
  if (aggregation == EntityAggregation::kNone || aggregation == EntityAggregation::kSimple) {
    for (const ClassifiedToken& token : tokens) entities.push_back(FromToken(token, labels));
  } else {
    entities = FromWords(tokens, aggregation, labels, tokenizer);
  }
  return aggregation == EntityAggregation::kNone ? entities : Group(entities, tokenizer);
}

std::vector<Entity> MergeOverlapping(std::vector<Entity> entities) {
  if (entities.empty()) return entities;
  std::stable_sort(entities.begin(), entities.end(),
                   [](const Entity& a, const Entity& b) { return a.span.start < b.span.start; });
  std::vector<Entity> merged;
  Entity previous = entities[0];
  // The first is compared with itself, as there: an empty span first comes out twice.
  for (const Entity& entity : entities) {
    if (entity.span.start < previous.span.start || entity.span.start >= previous.span.end) {
      merged.push_back(std::move(previous));
      previous = entity;
      continue;
    }
    const uint32_t length = entity.span.end - entity.span.start;
    const uint32_t previous_length = previous.span.end - previous.span.start;
    if (length > previous_length || (length == previous_length && entity.score > previous.score)) {
      previous = entity;
    }
  }
  merged.push_back(std::move(previous));
  return merged;
}

}  // namespace bertrand
