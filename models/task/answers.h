#pragma once

// From the best spans of windows to answers: transformers' question-answering pipeline
// (pipelines/question_answering.py), what follows the softmax. Pure functions; an AnswerList is
// used by one thread.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {

struct Answer {
  std::string text;  // empty with the span 0, 0: no answer
  float score = 0;
  TokenSpan span;  // in the context
};

// A span of tokens in a window.
struct TokenAnswer {
  size_t start = 0, end = 0;  // both inclusive; end < start only with score 0
  float score = 0;
};

struct DecodedWindow {
  std::vector<TokenAnswer> answers;  // best first; of equal ones the earlier start, then end
  float null_score = 0;              // P(start) * P(end) of the null token
};

// How many spans DecodeWindow must be given of a window of `tokens` tokens for its `count` best:
// these and the null token's, or all that have a score.
size_t NumSpans(size_t tokens, size_t count, size_t answer_tokens_max);

// `decode_spans`: the `count` best answers of at most `answer_tokens_max` tokens, from what the
// device found (SpanOutput::spans; NumSpans of them). Where fewer have a score, some with score 0
// follow, as in transformers, at most `count` in all: through the null token, longer ones, and such
// that end before they start. `masked`: of each token of the window, 1: is no answer.
DecodedWindow DecodeWindow(std::span<const ScoredSpan> spans, std::span<const uint8_t> masked,
                           size_t count, size_t answer_tokens_max);

// Where a window's tokens lie in the context. `words` are the tokenizer's, -1: none.
struct WindowTokens {
  std::span<const TokenSpan> spans;
  std::span<const int32_t> words;
  size_t context_begin = 0, context_end = 0;
};

// The context's span for tokens `start` to `end`; with align_to_words that of whole words
// (`get_indices`), as far as the window has them.
TokenSpan ContextSpan(const WindowTokens& tokens, size_t start, size_t end, bool align_to_words);

// The answers of all windows of an input.
class AnswerList {
 public:
  // With `merge`, answers of equal lower-cased text are one: scores are added, the first span
  // stays.
  AnswerList(std::string_view context, bool merge) : context_(context), merge_(merge) {}

  void Add(const TokenSpan& span, float score);
  // "No answer", after all others.
  void AddNoAnswer(float score);
  // The best `count`, best first, equal ones as they came.
  std::vector<Answer> Best(size_t count) const;

 private:
  struct Candidate {
    TokenSpan span;
    double score = 0;
  };
  std::string_view TextOf(const TokenSpan& span) const;

  const std::string_view context_;
  const bool merge_;
  std::vector<Candidate> candidates_;
  std::map<std::string, size_t> by_text_;  // lower-cased
};

}  // namespace bertrand
