#include "models/tokenizer/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"

namespace bertrand {
namespace {

// transformers' SPECIAL_TOKENS_ATTRIBUTES, in its order, with the defaults of BERT's tokenizers.
struct Attribute {
  const char* name;
  const char* bert_default;
  std::optional<NamedToken> part;
};
constexpr Attribute kAttributes[] = {
    {"bos_token", nullptr, std::nullopt},
    {"eos_token", nullptr, std::nullopt},
    {"unk_token", "[UNK]", NamedToken::kUnknown},
    {"sep_token", "[SEP]", NamedToken::kSeparator},
    {"pad_token", "[PAD]", NamedToken::kPadding},
    {"cls_token", "[CLS]", NamedToken::kClassification},
    {"mask_token", "[MASK]", NamedToken::kMask},
};

std::string WithoutFast(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

bool IsBertClass(const TokenizerConfigFiles& files) {
  const Json* name =
      files.config == nullptr ? nullptr : files.config->FindNonNull("tokenizer_class");
  if (name != nullptr && name->is_string()) {
    const std::string known = WithoutFast(*name->as_string());
    return known == "BertTokenizer" || known == "DistilBertTokenizer" ||
           known == "ElectraTokenizer" || known == "MobileBertTokenizer" ||
           known == "ConvBertTokenizer";
  }
  const Json* type =
      files.model_config == nullptr ? nullptr : files.model_config->FindNonNull("model_type");
  if (type != nullptr && type->is_string()) {
    const std::string& known = *type->as_string();
    return known == "bert" || known == "distilbert" || known == "electra" ||
           known == "mobilebert" || known == "convbert";
  }
  // Without a name, what has vocab.txt alone is a BERT.
  return files.tokenizer_json == nullptr;
}

AddedToken SpecialToken(std::string_view content) {
  AddedToken token;
  token.content = content;
  token.normalized = false;
  token.special = true;
  return token;
}

// The special tokens' attributes: those of tokenizer_config.json, overridden by
// special_tokens_map.json unless the former lists its tokens by id.
class Attributes {
 public:
  Attributes(const TokenizerConfigFiles& files, bool legacy) {
    if (files.config != nullptr) sources_.push_back(files.config);
    if (legacy && files.special_tokens_map != nullptr) sources_.push_back(files.special_tokens_map);
  }

  // The last source that names the key; null when none does.
  const Json* Find(std::string_view key) const {
    for (auto source = sources_.rbegin(); source != sources_.rend(); ++source) {
      if (const Json* value = (*source)->Find(key)) return value;
    }
    return nullptr;
  }
  const std::vector<const Json*>& sources() const { return sources_; }

 private:
  std::vector<const Json*> sources_;
};

// A string, or an object with `content`. `known` are tokens that replace one of the same text.
absl::StatusOr<AddedToken> SpecialFrom(const Json& json, std::string_view name,
                                       const std::map<int64_t, AddedToken>& known) {
  AddedToken token;
  if (const std::string* text = json.as_string()) {
    token = SpecialToken(*text);
  } else if (json.is_object()) {
    BERTRAND_ASSIGN_OR_RETURN(token, ParseAddedToken(json, true));
    token.special = true;
  } else {
    return InvalidArgument("`" + std::string(name) + "` must be a string or an object, but it is " +
                           json.KindName());
  }
  for (const auto& [id, other] : known) {
    if (other.content == token.content) {
      token = other;
      token.special = true;
    }
  }
  return token;
}

absl::Status ReadSpecialTokens(const Attributes& attributes,
                               const std::map<int64_t, AddedToken>& known,
                               TokenizerConfig* config) {
  const auto add = [config](AddedToken token) {
    for (const AddedToken& other : config->special_tokens) {
      if (other.content == token.content) return;
    }
    config->special_tokens.push_back(std::move(token));
  };
  for (const Attribute& attribute : kAttributes) {
    const Json* json = attributes.Find(attribute.name);
    AddedToken token;
    if (json != nullptr && !json->is_null()) {
      BERTRAND_ASSIGN_OR_RETURN(token, SpecialFrom(*json, attribute.name, known));
    } else if (json == nullptr && config->is_bert && attribute.bert_default != nullptr) {
      token = SpecialToken(attribute.bert_default);
    } else {
      continue;
    }
    const std::string_view name = attribute.name;
    if (name == "unk_token") config->unk_token = token.content;
    if (name == "cls_token") config->cls_token = token.content;
    if (name == "sep_token") config->sep_token = token.content;
    if (attribute.part) config->named_tokens[*attribute.part] = token.content;
    add(std::move(token));
  }
  for (const Json* source : attributes.sources()) {
    const Json* list = source->FindNonNull("additional_special_tokens");
    if (list == nullptr || !list->is_array()) continue;
    for (const Json& element : list->elements()) {
      AddedToken token;
      BERTRAND_ASSIGN_OR_RETURN(token, SpecialFrom(element, "additional_special_tokens", known));
      add(std::move(token));
    }
  }
  return absl::OkStatus();
}

// `added_tokens_decoder` of tokenizer_config.json: id -> token.
absl::Status ReadDecoder(const Json& json, std::map<int64_t, AddedToken>* tokens) {
  for (const auto& [key, value] : json.members()) {
    int64_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || id < 0) {
      return InvalidArgument("`added_tokens_decoder`: \"" + key + "\" is not a token id");
    }
    AddedToken token;
    BERTRAND_ASSIGN_OR_RETURN(token, ParseAddedToken(value, false));
    (*tokens)[id] = std::move(token);
  }
  return absl::OkStatus();
}

// added_tokens.json (text -> id), then the tokens of tokenizer.json itself.
absl::Status ReadLegacyTokens(const TokenizerConfigFiles& files, const Attributes& attributes,
                              std::map<int64_t, AddedToken>* tokens) {
  if (files.added_tokens != nullptr) {
    TokenizerConfig named;
    BERTRAND_RETURN_IF_ERROR(ReadSpecialTokens(attributes, {}, &named));
    for (const auto& [text, value] : files.added_tokens->members()) {
      int32_t id;
      BERTRAND_ASSIGN_OR_RETURN(
          id, ParseTokenId(value, "added_tokens.json: the id of \"" + text + "\""));
      AddedToken token;
      token.content = text;
      token.special = std::any_of(named.special_tokens.begin(), named.special_tokens.end(),
                                  [&](const AddedToken& other) { return other.content == text; });
      token.normalized = !token.special;
      (*tokens)[id] = token;
    }
  }
  const Json* own =
      files.tokenizer_json == nullptr ? nullptr : files.tokenizer_json->Find("added_tokens");
  if (own == nullptr) return absl::OkStatus();
  for (const Json& element : own->elements()) {
    int32_t id;
    BERTRAND_ASSIGN_OR_RETURN(id, JsonFields(element, "added_tokens").TokenId("id"));
    AddedToken token;
    BERTRAND_ASSIGN_OR_RETURN(token, ParseAddedToken(element, false));
    (*tokens)[id] = std::move(token);
  }
  return absl::OkStatus();
}

absl::Status ReadOptions(const Json& json, TokenizerConfig* config) {
  const JsonFields fields(json, "tokenizer_config.json");
  BERTRAND_ASSIGN_OR_RETURN(config->do_lower_case, fields.Bool("do_lower_case", true));
  BERTRAND_ASSIGN_OR_RETURN(config->tokenize_chinese_chars,
                            fields.Bool("tokenize_chinese_chars", true));
  if (json.FindNonNull("clean_up_tokenization_spaces") != nullptr) {
    BERTRAND_ASSIGN_OR_RETURN(config->clean_up_tokenization_spaces,
                              fields.Bool("clean_up_tokenization_spaces"));
  }
  if (json.FindNonNull("strip_accents") != nullptr) {
    BERTRAND_ASSIGN_OR_RETURN(config->strip_accents, fields.Bool("strip_accents"));
  }
  std::string side;
  BERTRAND_ASSIGN_OR_RETURN(side, fields.String("truncation_side", ""));
  if (!side.empty()) {
    if (side != "left" && side != "right") {
      return InvalidArgument("tokenizer_config.json: `truncation_side` is \"" + side +
                             "\"; left and right exist");
    }
    config->truncation_side = side == "left" ? TruncationSide::kLeft : TruncationSide::kRight;
  }
  if (const Json* length = json.FindNonNull("model_max_length")) {
    // transformers writes 1e30 for "no limit", as an integer of 31 digits.
    const std::optional<double> number = length->as_number();
    if (!number.has_value() || !(*number >= 1)) {
      return InvalidArgument("tokenizer_config.json: `model_max_length` must be a positive number");
    }
    if (*number < 2147483648.0) config->model_max_length = static_cast<int64_t>(*number);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<AddedToken> ParseAddedToken(const Json& json, bool special_if_absent) {
  const JsonFields fields(json, "added token");
  AddedToken token;
  BERTRAND_ASSIGN_OR_RETURN(token.content, fields.String("content"));
  BERTRAND_ASSIGN_OR_RETURN(token.single_word, fields.Bool("single_word", false));
  BERTRAND_ASSIGN_OR_RETURN(token.lstrip, fields.Bool("lstrip", false));
  BERTRAND_ASSIGN_OR_RETURN(token.rstrip, fields.Bool("rstrip", false));
  BERTRAND_ASSIGN_OR_RETURN(token.special, fields.Bool("special", special_if_absent));
  BERTRAND_ASSIGN_OR_RETURN(token.normalized, fields.Bool("normalized", !token.special));
  return token;
}

absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const TokenizerConfigFiles& files) {
  TokenizerConfig config;
  config.is_bert = IsBertClass(files);
  config.adds_tokens = files.config != nullptr || files.special_tokens_map != nullptr ||
                       files.added_tokens != nullptr || config.is_bert;
  if (files.config != nullptr) {
    if (!files.config->is_object()) {
      return InvalidArgument(std::string("tokenizer_config.json must be an object, but it is ") +
                             files.config->KindName());
    }
    BERTRAND_RETURN_IF_ERROR(ReadOptions(*files.config, &config));
  }
  const Json* decoder =
      files.config == nullptr ? nullptr : files.config->FindNonNull("added_tokens_decoder");
  const Attributes attributes(files, decoder == nullptr);
  std::map<int64_t, AddedToken> tokens;
  if (decoder != nullptr) {
    BERTRAND_RETURN_IF_ERROR(ReadDecoder(*decoder, &tokens));
  } else {
    BERTRAND_RETURN_IF_ERROR(ReadLegacyTokens(files, attributes, &tokens));
  }
  BERTRAND_RETURN_IF_ERROR(ReadSpecialTokens(attributes, tokens, &config));
  for (auto& [id, token] : tokens) config.explicit_tokens.push_back(std::move(token));
  return config;
}

}  // namespace bertrand
