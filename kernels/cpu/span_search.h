#pragma once

// The search for a sequence's best answer spans: SpanParams (kernels/backend.h) for one sequence.
// Pure function on host memory; thread-safe.
//
// Plain C++: for 384 tokens it takes 10 us beside a forward of tens of milliseconds, and most of
// that is std::exp, whose bits transformers' comparisons were made with.

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"

namespace bertrand {

struct SpanSearch {
  const float* logits = nullptr;    // [size, 2]
  const int32_t* masked = nullptr;  // [size]
  size_t size = 0;
  size_t null_token = 0, tokens_max = 0;
  float* probabilities = nullptr;  // scratch, [2, size]
  ScoredSpan* spans = nullptr;     // [rows]
  size_t rows = 0;
};

void SearchSpans(const SpanSearch& search);

}  // namespace bertrand
