#pragma once

// The SequenceMemory of the one encoder: keys and values of each layer, and the pooling of what was
// read so far. Made by LoadedModel, used by PackedRunner.

#include <utility>

#include "models/encoder/encoder_memory.h"
#include "models/model.h"
#include "models/task/pooled_document.h"

namespace bertrand {

class DocumentMemory final : public SequenceMemory {
 public:
  DocumentMemory(EncoderMemory encoder, PooledDocument pooled)
      : encoder_(std::move(encoder)), pooled_(std::move(pooled)) {}

  int64_t max_tokens() const override { return encoder_.max_tokens(); }
  int64_t num_tokens() const override { return encoder_.num_tokens(); }
  EncoderMemory& encoder() { return encoder_; }
  PooledDocument& pooled() { return pooled_; }

 private:
  EncoderMemory encoder_;
  PooledDocument pooled_;
};

}  // namespace bertrand
