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

// Classes of tokenizers that add something to what tokenizer.json says. kBert overrides its
// normaliser by the options below, defaults included; kRoberta its post-processor; all but kGeneric
// have default special tokens.
enum class TokenizerKind : uint8_t {
  kGeneric,
  kBert,
  kRoberta,
  kXlmRoberta,
  kCamembert,
  kAlbert,
  kXlnet,
};

// A special token as transformers' class holds it. One that is an object (AddedToken) replaces what
// is there under its text; one that is a text alone is added where it is missing.
struct SpecialAddedToken {
  AddedToken token;
  bool is_typed = false;
};

struct TokenizerConfig {
  TokenizerKind kind = TokenizerKind::kGeneric;
  std::string class_name;  // for messages; empty where no file has it
  // Its special tokens are added to those of tokenizer.json. False without any file.
  bool adds_tokens = false;

  // As one of transformers' classes has the tokenizer, rather than `tokenizers` alone: then this
  // overrides a byte-level pre-tokenizer's add_prefix_space.
  bool overrides_prefix_space = false;
  bool add_prefix_space = false;
  bool trim_offsets = true;

  bool do_lower_case = true;
  bool keep_accents = false;
  std::optional<bool> strip_accents;
  bool tokenize_chinese_chars = true;
  std::optional<bool> clean_up_tokenization_spaces;
  std::optional<TruncationSide> truncation_side;
  std::optional<int64_t> model_max_length;

  std::string unk_token, cls_token, sep_token;
  std::map<NamedToken, std::string> named_tokens;
  // Tokens that must be there, in the order in which transformers adds those that are missing.
  std::vector<AddedToken> explicit_tokens;  // by id
  std::vector<SpecialAddedToken> special_tokens;
};

struct TokenizerConfigFiles {
  const Json* config = nullptr;  // tokenizer_config.json; null where absent
  const Json* special_tokens_map = nullptr;
  const Json* added_tokens = nullptr;
  const Json* model_config = nullptr;    // config.json, for its model_type
  const Json* tokenizer_json = nullptr;  // for its `added_tokens`
  bool is_folder = false;                // they are a checkpoint's, some of them absent
};

absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const TokenizerConfigFiles& files);

// An object {"content": ..., "lstrip": ...}; `special` and `normalized` absent: as given, and not
// special.
absl::StatusOr<AddedToken> ParseAddedToken(const Json& json, bool special_if_absent);

}  // namespace bertrand
