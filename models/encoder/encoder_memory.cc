#include "models/encoder/encoder_memory.h"

#include <algorithm>

#include "kernels/status.h"

namespace bertrand {

int64_t EncoderMemory::SizeBytes(const Backend& backend, const EncoderConfig& config,
                                 int64_t max_tokens) {
  const int64_t blocks = config.num_layers * config.blocks_per_layer;
  return blocks * 2 * max_tokens * config.num_heads * config.head_size *
         static_cast<int64_t>(SizeOf(backend.activation_dtype()));
}

absl::StatusOr<EncoderMemory> EncoderMemory::Create(const Backend& backend,
                                                    const EncoderConfig& config,
                                                    int64_t max_tokens) {
  BERTRAND_CHECK(config.is_relative() && max_tokens >= 1, "a memory of no use");
  EncoderMemory memory;
  memory.max_tokens_ = max_tokens;
  memory.num_heads_ = config.num_heads;
  memory.head_size_ = config.head_size;
  memory.dtype_ = backend.activation_dtype();
  const int64_t blocks = config.num_layers * config.blocks_per_layer;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t size_bytes = SizeBytes(backend, config, max_tokens) / blocks;
    BERTRAND_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer,
                              backend.Allocate(static_cast<size_t>(size_bytes)));
    memory.blocks_.push_back(std::move(buffer));
  }
  return memory;
}

AttentionMemory EncoderMemory::Block(int64_t block) const {
  const Buffer& buffer = *blocks_[static_cast<size_t>(block)];
  char* const keys = static_cast<char*>(buffer.data());
  char* const values = keys + buffer.size_bytes() / 2;
  return {.keys = {keys, dtype_, {max_tokens_, num_heads_, head_size_}},
          .values = {values, dtype_, {max_tokens_, num_heads_, head_size_}},
          .first = first_,
          .size = num_tokens_};
}

EncoderMemory::Place EncoderMemory::NextPlace(int64_t count) const {
  const int64_t row = (first_ + num_tokens_) % max_tokens_;
  return {row, std::min(count, max_tokens_ - row)};
}

void EncoderMemory::Advance(int64_t count) {
  const int64_t end = first_ + num_tokens_ + count;
  num_tokens_ = std::min(max_tokens_, num_tokens_ + count);
  first_ = (end - num_tokens_) % max_tokens_;
}

}  // namespace bertrand
