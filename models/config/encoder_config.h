#pragma once

// What the one encoder needs to know about a checkpoint: variants, never model names.
//
// Plain values, validated by whoever makes them (models/config/families.cc): sizes are positive and
// small enough that their products fit int64, hidden_size = num_heads * head_size.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"

namespace bertrand {

struct EncoderConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;  // 0: the embeddings alone
  int64_t num_heads = 0;
  int64_t head_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_positions = 0;    // rows of the learned position table
  int64_t position_offset = 0;  // the first token's row in it
  int64_t num_token_types = 0;  // 0: no token types
  Activation activation = Activation::kGeluErf;
  float layer_norm_eps = 0;

  // The longest sequence that has positions.
  int64_t max_tokens() const { return num_positions - position_offset; }
};

// Where the encoder's weights lie in a checkpoint. Each name stands for a pair of tensors:
// NAME.weight and, but for tables, NAME.bias. In layers, {} stands for the layer's number.
//
// Tensors are found with and without `prefix` (checkpoints of a head carry it, those of the bare
// encoder do not), and norms under their legacy names NAME.gamma and NAME.beta too.
struct EncoderNames {
  std::string prefix;
  // Tables: [vocab_size, hidden], [num_positions, hidden], [num_token_types, hidden].
  std::string word, position, token_type;
  // [hidden]
  std::string embedding_norm;
  // In each layer: [hidden, hidden] the first four, then [intermediate, hidden], [hidden,
  // intermediate]; norms [hidden].
  std::string query, key, value, attention_out, attention_norm, up, down, output_norm;
  // [hidden, hidden] on the first token, then tanh; its tensors may be missing. Empty: the
  // architecture has none.
  std::string pooler;
  // Tensors whose names end so are known to be of no use here (buffers of old versions), and are
  // not reported as unused.
  std::vector<std::string> ignored_suffixes;
};

}  // namespace bertrand
