#pragma once

// What config.json says about a checkpoint's heads: which there may be, where their weights would
// lie, and how their logits become scores. Whether the weights are there is seen at load
// (models/task/heads.h).
//
// Plain values, validated by whoever makes them (models/config/heads.cc).

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "models/model.h"

namespace bertrand {

// A linear layer NAME.weight [out_features, in], NAME.bias, then an activation, then a norm
// NORM.weight, NORM.bias where there is one. `in` is the width of what comes before.
struct HeadLayer {
  std::string name;
  int64_t out_features = 0;
  Activation activation = Activation::kNone;
  std::string norm;
  float norm_eps = 0;
};

// A head that gives logits. It is there if all its tensors are. `is_named`, here and below: the
// class in config.json's `architectures` has this head, so that a file with a part of it is
// damaged.
struct LogitsHeadNames {
  LogitsHead head{};
  bool on_pooler = false;      // reads the encoder's pooler's output; else a token's hidden state:
  bool on_last_token = false;  // the sequence's last instead of its first (sequence heads only)
  std::vector<HeadLayer> layers;
  bool is_named = false;
};

// Hidden states -> logits over the vocabulary: layers, then the decoder, whose weight is the word
// embeddings' where it is tied.
struct MaskedLmNames {
  std::vector<HeadLayer> layers;  // none: the family has no masked-LM head
  bool tied = true;
  std::string decoder;                    // NAME.weight [vocab_size, width], when not tied
  std::vector<std::string> bias_tensors;  // the first that is there; none: 0
  bool is_named = false;
};

// XLNet's beam search over answers (modeling_xlnet.py: XLNetPoolerStartLogits, EndLogits,
// AnswerClass). Empty names: none.
struct BeamNames {
  std::string start;                     // [1, hidden]
  std::string end_dense, end_norm, end;  // [hidden, 2 hidden], [hidden], [1, hidden]
  std::string class_dense, class_out;    // [hidden, 2 hidden], [1, hidden] without bias
  float norm_eps = 0;
  int64_t num_starts = 0, num_ends = 0;
  bool is_named = false;
};

struct HeadConfig {
  int64_t num_labels = 0;
  // By id; none: LABEL_0, LABEL_1, ... (NamesOfLabels), which are not made before it is known that
  // the file has weights for so many.
  std::vector<std::string> labels;
  HeadTraits traits;
  bool is_next_sentence = false;  // made to tell whether sentences follow each other
  std::vector<LogitsHeadNames> logits;
  MaskedLmNames masked_lm;
  BeamNames beam;
};

std::vector<std::string> NamesOfLabels(const HeadConfig& heads);

}  // namespace bertrand
