#include "models/task/answers.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/status.h"
#include "models/task/sentence_text.h"

namespace bertrand {
namespace {

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
// `answers`: all that have a score.
void AddZeros(std::span<const uint8_t> masked, size_t count, std::vector<TokenAnswer>* answers) {
  std::vector<std::pair<size_t, size_t>> scored;
  for (const TokenAnswer& answer : *answers) scored.emplace_back(answer.start, answer.end);
  std::sort(scored.begin(), scored.end());
  auto next = scored.begin();
  size_t left = count - answers->size();
  for (size_t s = 0; s < masked.size() && left > 0; ++s) {
    for (size_t e = 0; e < masked.size() && left > 0; ++e) {
      if (next != scored.end() && *next == std::pair(s, e)) {
        ++next;
        continue;
      }
      --left;
      if (masked[s] == 0 && masked[e] == 0) answers->push_back({s, e, 0});
    }
  }
}

}  // namespace

size_t NumSpans(size_t tokens, size_t count, size_t answer_tokens_max) {
  return 1 + std::min(count, tokens * std::min(tokens, answer_tokens_max));
}

DecodedWindow DecodeWindow(std::span<const ScoredSpan> spans, std::span<const uint8_t> masked,
                           size_t count, size_t answer_tokens_max) {
  BERTRAND_CHECK(spans.size() == NumSpans(masked.size(), count, answer_tokens_max),
                 "as many spans as the window needs");
  DecodedWindow decoded;
  decoded.null_score = spans[0].score;
  for (const ScoredSpan& span : spans.subspan(1)) {
    if (span.start < 0) break;
    decoded.answers.push_back(
        {static_cast<size_t>(span.start), static_cast<size_t>(span.end), span.score});
  }
  if (decoded.answers.size() < count) AddZeros(masked, count, &decoded.answers);
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
