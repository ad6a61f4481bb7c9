#pragma once

// Estimates for TaskRequest::answer_bytes: parts of bertrand.v1's answers on the wire, at most.

#include <cstdint>

#include "models/tokenizer/tokenizer.h"

namespace bertrand {

// A message of a few numbers with its TextSpan, strings apart.
inline constexpr int64_t kSpanMessageWireBytes = 64;
inline constexpr int64_t kLabelScoreWireBytes = 24;

// bertrand.v1.Token of every token.
inline int64_t TokensWireBytes(const Tokenizer& tokenizer, const Encoding& encoding) {
  int64_t bytes = 0;
  for (const int32_t id : encoding.ids) {
    bytes += kSpanMessageWireBytes + static_cast<int64_t>(tokenizer.TokenText(id).size());
  }
  return bytes;
}

}  // namespace bertrand
