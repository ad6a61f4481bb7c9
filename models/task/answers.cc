#include "models/task/answers.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "models/task/sentence_text.h"

namespace bertrand {
namespace {

// Column `column` of the logits as probabilities. transformers puts -10000 for what is masked, and
// in float32, so that it gives exactly 0 unless all is masked.
std::vector<float> Probabilities(const AnswerWindow& window, size_t column) {
  constexpr float kMasked = -10000;
  std::vector<float> values(window.masked.size());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = window.masked[i] != 0 ? kMasked : window.logits[2 * i + column];
  }
  const float max = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (float& value : values) {
    value = std::exp(value - max);
    sum += value;
  }
  for (float& value : values) value = static_cast<float>(value / sum);
  return values;
}

bool IsBetter(const TokenAnswer& a, const TokenAnswer& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.start != b.start ? a.start < b.start : a.end < b.end;
}

// The span of the word that token `at` is of, among the context's tokens, which are in a row and
// whose words ascend; empty where it is of none.
std::optional<TokenSpan> WordSpan(const WindowTokens& tokens, size_t at) {
  const int32_t word = tokens.words[at];
  if (word < 0) return std::nullopt;
  const auto context =
      tokens.words.subspan(tokens.context_begin, tokens.context_end - tokens.context_begin);
  const auto [first, last] = std::equal_range(context.begin(), context.end(), word);
  if (first == last) return std::nullopt;
  const size_t begin = tokens.context_begin + static_cast<size_t>(first - context.begin());
  const size_t end = tokens.context_begin + static_cast<size_t>(last - context.begin());
  TokenSpan span = tokens.spans[begin];
  span.end = tokens.spans[end - 1].end;
  span.end_byte = tokens.spans[end - 1].end_byte;
  return span;
}

// transformers takes `count` places of the matrix of starts and ends whatever their scores: where
// fewer have one, places of score 0 follow, and those that touch neither the question nor its
// special tokens are answers too (so spans through the first token). Which of the zeros it takes is
// up to numpy's partition, which differs between machines; here row by row.
void AddZeros(const AnswerWindow& window, std::span<const float> start, std::span<const float> end,
              size_t count, size_t answer_tokens_max, std::vector<TokenAnswer>* answers) {
  const size_t size = start.size();
  size_t left = count - answers->size();
  for (size_t s = 0; s < size && left > 0; ++s) {
    for (size_t e = 0; e < size && left > 0; ++e) {
      const bool is_span = e >= s && e - s < answer_tokens_max;
      if (is_span && start[s] * end[e] != 0) continue;
      --left;
      if (window.masked[s] == 0 && window.masked[e] == 0) answers->push_back({s, e, 0});
    }
  }
}

}  // namespace

DecodedWindow DecodeWindow(const AnswerWindow& window, size_t count, size_t answer_tokens_max) {
  std::vector<float> start = Probabilities(window, 0), end = Probabilities(window, 1);
  DecodedWindow decoded;
  decoded.null_score = start[window.null_index] * end[window.null_index];
  start[window.null_index] = end[window.null_index] = 0;
  const float largest_end = *std::max_element(end.begin(), end.end());

  // A heap with the worst of the best on top.
  std::vector<TokenAnswer>& best = decoded.answers;
  for (size_t s = 0; s < start.size(); ++s) {
    // Most starts cannot reach the worst, whatever the end.
    const float reachable = start[s] * largest_end;
    if (reachable == 0 || (best.size() == count && reachable < best.front().score)) continue;
    const size_t stop = std::min(start.size(), s + std::min(start.size(), answer_tokens_max));
    for (size_t e = s; e < stop; ++e) {
      const TokenAnswer answer{s, e, start[s] * end[e]};
      if (answer.score == 0 || window.masked[s] != 0 || window.masked[e] != 0) continue;
      if (best.size() == count) {
        if (!IsBetter(answer, best.front())) continue;
        std::pop_heap(best.begin(), best.end(), IsBetter);
        best.pop_back();
      }
      best.push_back(answer);
      std::push_heap(best.begin(), best.end(), IsBetter);
    }
  }
  std::sort(best.begin(), best.end(), IsBetter);
  AddZeros(window, start, end, count, answer_tokens_max, &best);
  return decoded;
}

TokenSpan ContextSpan(const WindowTokens& tokens, size_t start, size_t end, bool align_to_words) {
  TokenSpan first = tokens.spans[start], last = tokens.spans[end];
  if (align_to_words) {
    const std::optional<TokenSpan> first_word = WordSpan(tokens, start);
    const std::optional<TokenSpan> last_word = WordSpan(tokens, end);
    // Without words, the tokens' own.
    if (first_word && last_word) {
      first = *first_word;
      last = *last_word;
    }
  }
  return {first.start, last.end, first.start_byte, last.end_byte};
}

std::string_view AnswerList::TextOf(const TokenSpan& span) const {
  if (span.start_byte >= span.end_byte || span.end_byte > context_.size()) return "";
  return context_.substr(span.start_byte, span.end_byte - span.start_byte);
}

void AnswerList::Add(const TokenSpan& span, float score) {
  if (merge_) {
    std::string lowered;
    AppendLowerPython(TextOf(span), &lowered);
    const auto [known, is_new] = by_text_.try_emplace(std::move(lowered), candidates_.size());
    if (!is_new) {
      candidates_[known->second].score += score;
      return;
    }
  }
  candidates_.push_back({span, score});
}

void AnswerList::AddNoAnswer(float score) { candidates_.push_back({TokenSpan{}, score}); }

std::vector<Answer> AnswerList::Best(size_t count) const {
  std::vector<size_t> order(candidates_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [this](size_t a, size_t b) {
    return candidates_[a].score > candidates_[b].score;
  });
  order.resize(std::min(order.size(), count));
  std::vector<Answer> answers;
  for (const size_t index : order) {
    const Candidate& candidate = candidates_[index];
    answers.push_back(
        {std::string(TextOf(candidate.span)), static_cast<float>(candidate.score), candidate.span});
  }
  return answers;
}

}  // namespace bertrand
