#pragma once

// What sentence-transformers' files say about a checkpoint: modules.json and the modules' own
// configurations, sentence_bert_config.json, config_sentence_transformers.json. Follows
// sentence_transformers 5.1 (SentenceTransformer.py, models/*.py), constructor defaults included.
//
// Plain values. The files are untrusted; what is not implemented is refused by its name.

#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace bertrand {

// A module after the pooling, working on the sentence's vector.
struct SentenceModule {
  enum class Kind : uint8_t { kDense, kLayerNorm, kNormalize };
  Kind kind{};
  std::string folder;
  // Dense; of LayerNorm both are its dimension.
  int64_t in_features = 0, out_features = 0;
  bool has_bias = true;
  Activation activation = Activation::kNone;
};

struct SentenceModules {
  // The folder of config.json, weights and tokenizer.
  std::string transformer_folder;
  // Concatenated in this order, which is fixed: cls, max, mean, mean_sqrt_len, weightedmean,
  // lasttoken. Never empty.
  std::vector<PoolingMode> pooling;
  // False: tokens of the prompt, [CLS] included, are left out of the pooling.
  bool include_prompt = true;
  std::vector<SentenceModule> modules;
  bool has_list = false;  // modules.json is there
  // A SparseEncoder: MLMTransformer and SpladePooling. Its embeddings, for who asks for them all
  // the same, are the mean.
  bool is_sparse = false;
  bool sparse_sum = false;        // `pooling_strategy`: "sum" instead of "max"
  bool sparse_log_twice = false;  // `activation_function`: "log1p_relu" instead of "relu"

  std::optional<int64_t> max_seq_length;
  bool do_lower_case = false;
  // "query" and "document" are always there, empty unless the checkpoint gives them a text.
  std::map<std::string, std::string, std::less<>> prompts;
  std::optional<std::string> default_prompt_name;  // a key of prompts

  std::vector<std::string> notes;  // for the log
};

// A folder without modules.json is a plain transformer: mean pooling, not normalised.
absl::StatusOr<SentenceModules> ReadSentenceModules(const std::string& folder);

}  // namespace bertrand
