#pragma once

// Sizes to which small batches are filled up, so that few different ones run and each is recorded
// once (kernels/backend.h: Backend::Replay). Pure functions.
//
// Tokens: 32, 64, then eight steps from one power of two to the next (at most 12.5 % more) up to
// 4096, the steps of tuned GEMMs. Sequences: 1, at most 8, or at most one for 16 tokens:
// attention's grid has a block more for each. Larger batches, and those with more sequences, run as
// they are.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>

namespace bertrand {

inline constexpr int64_t kReplayTokensMax = 4096;

// Requires: tokens >= 1. Above kReplayTokensMax: `tokens`.
inline int64_t FilledTokens(int64_t tokens) {
  if (tokens > kReplayTokensMax) return tokens;
  if (tokens <= 64) return tokens <= 32 ? 32 : 64;
  const auto step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(tokens - 1))) / 8;
  return (tokens + step - 1) / step * step;
}

struct ReplayShape {
  int64_t tokens = 0, sequences = 0;

  uint64_t key() const {
    return static_cast<uint64_t>(tokens) << 32 | static_cast<uint64_t>(sequences);
  }
  bool operator==(const ReplayShape&) const = default;
};

// The shape for a batch; none: it runs as it is.
inline std::optional<ReplayShape> ReplayShapeOf(int64_t tokens, int64_t sequences) {
  constexpr int64_t kFew = 8;
  if (tokens < 1 || tokens > kReplayTokensMax) return {};
  const int64_t filled = FilledTokens(tokens), most = std::max(kFew, filled / 16);
  if (sequences > most) return {};
  return ReplayShape{filled, sequences == 1 ? 1 : sequences <= kFew ? kFew : most};
}

// Sequences that a shape of at most `tokens` has at most.
inline int64_t ReplaySequencesMax(int64_t tokens) {
  return std::max<int64_t>(8, std::min(tokens, kReplayTokensMax) / 16);
}

}  // namespace bertrand
