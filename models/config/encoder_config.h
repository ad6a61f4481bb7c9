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

// kLearned: a table's row is added to each token's embedding, and attention sees queries and keys
// alone. kRelative: nothing is added; attention adds terms for the distance of query and key and
// for whether their types differ (kernels/backend.h: RelativeAttention). Then there is no limit to
// a sequence's length, and a document may run as segments, with a memory of those before.
enum class PositionKind : uint8_t { kLearned, kRelative };

struct EncoderConfig {
  int64_t vocab_size = 0;
  int64_t embedding_size = 0;  // width of the tables
  int64_t hidden_size = 0;
  bool has_projection = false;  // a linear layer embedding -> hidden; else the sizes are equal
  int64_t num_layers = 0;       // 0: the embeddings alone
  // Layers share weights by group: Group(layer) says whose a layer has. Without sharing there are
  // as many groups as layers. A layer is `blocks_per_layer` blocks (attention and feed-forward) in
  // a row, each with weights of its own.
  int64_t num_groups = 0;
  int64_t blocks_per_layer = 1;
  int64_t num_heads = 0;
  int64_t head_size = 0;
  int64_t intermediate_size = 0;
  PositionKind positions = PositionKind::kLearned;
  int64_t num_positions = 0;    // rows of the learned position table
  int64_t position_offset = 0;  // the first token's row in it
  // Tokens of this id do not count as positions and have the row before the first's; -1: all count.
  int64_t unnumbered_id = -1;
  // Relative: larger distances count as this one; 0: all are told apart.
  int64_t distance_max = 0;
  // Relative: tokens from a segment's begin that go into the memory; 0: all.
  int64_t memory_reuse_tokens = 0;
  int64_t num_token_types = 0;  // 0: no token types, whatever the input says
  Activation activation = Activation::kGeluErf;
  float layer_norm_eps = 0;
  // Of the pooler, if there is one.
  bool pools_last_token = false;  // instead of the first
  Activation pooler_activation = Activation::kTanh;

  bool is_relative() const { return positions == PositionKind::kRelative; }
  // The longest sequence that has positions; 0: no limit.
  int64_t max_tokens() const { return is_relative() ? 0 : num_positions - position_offset; }
  int64_t Group(int64_t layer) const {
    // In float64 and truncated, as modeling_albert.py does it.
    return static_cast<int64_t>(static_cast<double>(layer) / (static_cast<double>(num_layers) /
                                                              static_cast<double>(num_groups)));
  }
};

// Where the encoder's weights lie in a checkpoint. Each name stands for a pair of tensors:
// NAME.weight and, but for tables, NAME.bias. In layers, the first {} stands for the group's
// number, and the second, if there is one, for the block's in its layer.
//
// Tensors are found with and without `prefix` (checkpoints of a head carry it, those of the bare
// encoder do not), and norms under their legacy names NAME.gamma and NAME.beta too. A table or norm
// whose name is empty is not there.
struct EncoderNames {
  std::string prefix;
  // Tables: [vocab_size, embedding], [num_positions, embedding], [num_token_types, embedding].
  std::string word, position, token_type;
  // [embedding]
  std::string embedding_norm;
  // [hidden, embedding], where there is a projection.
  std::string projection;
  // In each block: [hidden, hidden] the first four, then [intermediate, hidden], [hidden,
  // intermediate]; norms [hidden].
  std::string query, key, value, attention_out, attention_norm, up, down, output_norm;
  // Relative positions. The first four above and `distance` are whole names of tensors without
  // bias, [hidden, heads, head_size]: queries and so on in * W, but for attention_out, which is out
  // of them. The biases of a query [heads, head_size], and the embeddings of the same segment and
  // another [2, heads, head_size], are whole names too.
  std::string distance, content_bias, position_bias, segment_bias, segments;
  // [hidden, hidden] on one token, then an activation (EncoderConfig); its tensors may be missing.
  // Empty: the architecture has none. Outside: never with the prefix.
  std::string pooler;
  bool pooler_is_outside = false;
  // Tensors whose names end so are known to be of no use here (buffers of old versions), and are
  // not reported as unused.
  std::vector<std::string> ignored_suffixes;
};

}  // namespace bertrand
