#pragma once

// Sequences whose best spans are looked for, and the bar for what is found.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/backend.h"
#include "kernels/span/span_reference.h"

namespace bertrand {

// Host operands of BestSpans, sequence by sequence.
struct SpanProblem {
  std::vector<float> logits;
  std::vector<int32_t> masked, cu_seqlens = {0}, null_tokens, tokens_max, first = {0};

  // Like a window: the null token, masked ones, the context, a masked one.
  void Add(std::mt19937& random, int32_t size, int32_t count, int32_t max) {
    std::uniform_real_distribution<float> uniform(-6, 6);
    for (int32_t i = 0; i < 2 * size; ++i) logits.push_back(uniform(random));
    const int32_t null = size > 2 ? size / 5 : 0;
    for (int32_t i = 0; i < size; ++i) {
      masked.push_back(i != null && (i < size / 3 || (size > 4 && i == size - 1)) ? 1 : 0);
    }
    cu_seqlens.push_back(cu_seqlens.back() + size);
    null_tokens.push_back(null);
    tokens_max.push_back(max);
    first.push_back(first.back() + 1 + count);
  }
  // Three different starts, one end: scores that are equal without a doubt, since equal factors
  // make them.
  void AddTied(std::mt19937& random, int32_t size, int32_t count, int32_t max) {
    const size_t at = logits.size();
    Add(random, size, count, max);
    std::uniform_int_distribution<int> level(0, 2);
    for (size_t i = at; i < logits.size(); i += 2) {
      logits[i] = 2.0f * static_cast<float>(level(random));
      logits[i + 1] = 0.5f;
    }
  }

  SpanParams Params(std::vector<ScoredSpan>& spans) {
    const auto ints = [](std::vector<int32_t>& of) {
      return TensorView(of.data(), DType::kInt32, {static_cast<int64_t>(of.size())});
    };
    return {.logits = {logits.data(), DType::kFloat32, {cu_seqlens.back(), 2}},
            .masked = ints(masked),
            .cu_seqlens = ints(cu_seqlens),
            .cu_seqlens_host = cu_seqlens,
            .null_tokens = ints(null_tokens),
            .tokens_max = ints(tokens_max),
            .first = ints(first),
            .spans = {spans.data(), DType::kInt32, {first.back(), 3}}};
  }

  // The reference's scores, of spans that have them, in their exact order; with `exact`, its spans.
  // Where scores differ by their roundings alone, the order of spans is open: an exponential of x
  // has 2 ulp of its own and |x| / 2 of its argument's, at most 16 here; the sum and the division a
  // few more; two factors.
  void ExpectEqual(const std::vector<ScoredSpan>& actual, bool exact = false) {
    constexpr double kRelative = 2 * (16 + 4 + 8) * 0x1p-24;
    std::vector<ScoredSpan> expected(static_cast<size_t>(first.back()));
    BestSpansReference(Params(expected));
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t sequence = 0; sequence < null_tokens.size(); ++sequence) {
      const auto begin = static_cast<size_t>(first[sequence]);
      const auto end = static_cast<size_t>(first[sequence + 1]);
      for (size_t i = begin; i < end; ++i) {
        SCOPED_TRACE(testing::Message() << "row " << i << ", sequence " << sequence);
        const ScoredSpan &have = actual[i], &want = expected[i];
        ASSERT_NEAR(have.score, want.score, kRelative * want.score);
        if (exact || i == begin || want.start < 0) {
          ASSERT_EQ(have.start, want.start);
          ASSERT_EQ(have.end, want.end);
          continue;
        }
        ASSERT_NEAR(have.score, Score(sequence, have), kRelative * want.score);
        ASSERT_TRUE(i == begin + 1 || Precedes(actual[i - 1], have));
      }
    }
  }

 private:
  static bool Precedes(const ScoredSpan& a, const ScoredSpan& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.start != b.start ? a.start < b.start : a.end < b.end;
  }

  // In float64; 0 for what is no answer.
  double Score(size_t sequence, const ScoredSpan& span) const {
    const int32_t at = cu_seqlens[sequence], size = cu_seqlens[sequence + 1] - at;
    const int32_t null = null_tokens[sequence];
    if (span.start < 0 || span.end < span.start || span.end >= size || span.start == null ||
        span.end == null || span.end - span.start >= tokens_max[sequence]) {
      return 0;
    }
    double score = 1;
    for (const int32_t column : {0, 1}) {
      const int32_t token = column == 0 ? span.start : span.end;
      if (masked[static_cast<size_t>(at + token)] != 0) return 0;
      double sum = 0;
      const auto logit = [&](int32_t i) {
        return double{logits[static_cast<size_t>(2 * (at + i) + column)]};
      };
      for (int32_t i = 0; i < size; ++i) {
        if (masked[static_cast<size_t>(at + i)] == 0) sum += std::exp(logit(i));
      }
      score *= std::exp(logit(token)) / sum;
    }
    return score;
  }
};

}  // namespace bertrand
