#pragma once

// What an encoder with relative positions keeps of a document's tokens before a segment: for each
// block of layers the keys and values of the last `max_tokens` of them, on the device. transformers
// keeps the blocks' inputs (`mems`) and projects them anew for every segment; keys and values are
// the same function of the same rows, since positions are in the queries' biases and the distances'
// table alone.
//
// A ring: rows are written over the oldest. One thread at a time; must not outlive the encoder's
// backend.

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "models/config/encoder_config.h"

namespace bertrand {

class EncoderMemory {
 public:
  // Requires: config.is_relative(), max_tokens >= 1. ResourceExhausted where there is no room.
  static absl::StatusOr<EncoderMemory> Create(const Backend& backend, const EncoderConfig& config,
                                              int64_t max_tokens);
  // Device memory of one.
  static int64_t SizeBytes(const Backend& backend, const EncoderConfig& config, int64_t max_tokens);

  int64_t max_tokens() const { return max_tokens_; }
  int64_t num_tokens() const { return num_tokens_; }

  // The memory of a block of layers, counted from the first layer's first block.
  AttentionMemory Block(int64_t block) const;
  // Where the next `count` rows go, count <= max_tokens: rows [row, row + size) of the ring, and
  // what is left at its begin.
  struct Place {
    int64_t row = 0, size = 0;
  };
  Place NextPlace(int64_t count) const;
  // `count` rows more have been written to every block.
  void Advance(int64_t count);

 private:
  EncoderMemory() = default;

  int64_t max_tokens_ = 0, num_tokens_ = 0, first_ = 0;
  int64_t num_heads_ = 0, head_size_ = 0;
  DType dtype_{};
  std::vector<std::unique_ptr<Buffer>> blocks_;  // keys, then values: [2, max_tokens, hidden]
};

}  // namespace bertrand
