#pragma once

// What stands beside tokenizer.json: tokenizer_config.json, special_tokens_map.json and
// added_tokens.json, as transformers 4.57 reads them (tokenization_utils_base.py, _from_pretrained;
// tokenization_utils_fast.py, __init__; tokenization_bert_fast.py, __init__).
//
// Values; reading is thread-safe.

#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {

struct TokenizerConfig {
  // The tokenizer's class is one of BERT's: it overrides the normaliser of tokenizer.json by the
  // options below, defaults included, and has default special tokens.
  bool is_bert = false;
  // Its special tokens are added to those of tokenizer.json. False without any file.
  bool adds_tokens = false;

  bool do_lower_case = true;
  std::optional<bool> strip_accents;
  bool tokenize_chinese_chars = true;
  std::optional<bool> clean_up_tokenization_spaces;
  std::optional<TruncationSide> truncation_side;
  std::optional<int64_t> model_max_length;

  std::string unk_token, cls_token, sep_token;
  std::map<NamedToken, std::string> named_tokens;
  // Tokens that must be there, in the order in which transformers adds those that are missing.
  std::vector<AddedToken> explicit_tokens;  // by id
  std::vector<AddedToken> special_tokens;
};

struct TokenizerConfigFiles {
  const Json* config = nullptr;  // tokenizer_config.json; null where absent
  const Json* special_tokens_map = nullptr;
  const Json* added_tokens = nullptr;
  const Json* model_config = nullptr;    // config.json, for its model_type
  const Json* tokenizer_json = nullptr;  // for its `added_tokens`
};

absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const TokenizerConfigFiles& files);

// An object {"content": ..., "lstrip": ...}; `special` and `normalized` absent: as given, and not
// special.
absl::StatusOr<AddedToken> ParseAddedToken(const Json& json, bool special_if_absent);

}  // namespace bertrand
