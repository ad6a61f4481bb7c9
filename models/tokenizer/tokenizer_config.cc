#include "models/tokenizer/tokenizer_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <span>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"

namespace bertrand {
namespace {

// transformers' SPECIAL_TOKENS_ATTRIBUTES, in its order.
constexpr int kNumAttributes = 7;
constexpr const char* kAttributes[kNumAttributes] = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

constexpr std::optional<NamedToken> kAttributeParts[kNumAttributes] = {
    std::nullopt,           std::nullopt,         NamedToken::kUnknown,
    NamedToken::kSeparator, NamedToken::kPadding, NamedToken::kClassification,
    NamedToken::kMask};

// The defaults of a kind's classes.
struct KindDefaults {
  TokenizerKind kind;
  std::array<const char*, kNumAttributes> tokens;  // null: none
  std::array<const char*, 3> additional;
};
constexpr KindDefaults kDefaults[] = {
    {TokenizerKind::kBert, {nullptr, nullptr, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"}, {}},
    {TokenizerKind::kRoberta, {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}, {}},
    {TokenizerKind::kXlmRoberta, {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}, {}},
    {TokenizerKind::kCamembert,
     {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"},
     {"<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"}},
    {TokenizerKind::kAlbert, {"[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"}, {}},
    {TokenizerKind::kXlnet,
     {"<s>", "</s>", "<unk>", "<sep>", "<pad>", "<cls>", "<mask>"},
     {"<eop>", "<eod>"}},
};

const KindDefaults* DefaultsOf(TokenizerKind kind) {
  for (const KindDefaults& defaults : kDefaults) {
    if (defaults.kind == kind) return &defaults;
  }
  return nullptr;
}

struct NamedKind {
  const char* name;
  TokenizerKind kind;
};
// By `tokenizer_class`, without "Fast", and by `model_type`.
constexpr NamedKind kKindsByClass[] = {
    {"BertTokenizer", TokenizerKind::kBert},
    {"DistilBertTokenizer", TokenizerKind::kBert},
    {"ElectraTokenizer", TokenizerKind::kBert},
    {"MobileBertTokenizer", TokenizerKind::kBert},
    {"ConvBertTokenizer", TokenizerKind::kBert},
    {"DPRContextEncoderTokenizer", TokenizerKind::kBert},
    {"DPRQuestionEncoderTokenizer", TokenizerKind::kBert},
    {"DPRReaderTokenizer", TokenizerKind::kBert},
    {"LayoutLMTokenizer", TokenizerKind::kBert},
    {"RetriBertTokenizer", TokenizerKind::kBert},
    {"SqueezeBertTokenizer", TokenizerKind::kBert},
    {"RobertaTokenizer", TokenizerKind::kRoberta},
    {"LongformerTokenizer", TokenizerKind::kRoberta},
    {"BartTokenizer", TokenizerKind::kRoberta},
    {"XLMRobertaTokenizer", TokenizerKind::kXlmRoberta},
    {"CamembertTokenizer", TokenizerKind::kCamembert},
    {"AlbertTokenizer", TokenizerKind::kAlbert},
    {"XLNetTokenizer", TokenizerKind::kXlnet},
};
constexpr NamedKind kKindsByModel[] = {
    {"bert", TokenizerKind::kBert},
    {"distilbert", TokenizerKind::kBert},
    {"electra", TokenizerKind::kBert},
    {"mobilebert", TokenizerKind::kBert},
    {"convbert", TokenizerKind::kBert},
    {"roberta", TokenizerKind::kRoberta},
    {"xlm-roberta", TokenizerKind::kXlmRoberta},
    {"xlm-roberta-xl", TokenizerKind::kXlmRoberta},
    {"camembert", TokenizerKind::kCamembert},
    {"albert", TokenizerKind::kAlbert},
    {"xlnet", TokenizerKind::kXlnet},
};

TokenizerKind KindByName(std::span<const NamedKind> kinds, std::string_view name) {
  for (const NamedKind& kind : kinds) {
    if (name == kind.name) return kind.kind;
  }
  return TokenizerKind::kGeneric;
}

const std::string* StringIn(const Json* json, std::string_view key) {
  const Json* value = json == nullptr ? nullptr : json->FindNonNull(key);
  return value == nullptr ? nullptr : value->as_string();
}

// As AutoTokenizer finds the class.
void ReadKind(const TokenizerConfigFiles& files, TokenizerConfig* config) {
  const std::string* name = StringIn(files.config, "tokenizer_class");
  if (name == nullptr) name = StringIn(files.model_config, "tokenizer_class");
  if (name != nullptr) {
    config->class_name = *name;
    std::string_view known = *name;
    if (known.ends_with("Fast")) known.remove_suffix(4);
    config->kind = KindByName(kKindsByClass, known);
  } else if (const std::string* type = StringIn(files.model_config, "model_type")) {
    config->class_name = *type;
    config->kind = KindByName(kKindsByModel, *type);
  } else if (files.tokenizer_json == nullptr) {
    // Without a name, what has vocab.txt alone is a BERT.
    config->kind = TokenizerKind::kBert;
  }
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

// A token takes a few hundred bytes in several tables, and special ones are compared with all, so
// that files of many are refused.
constexpr size_t kAddedTokensMax = 1 << 15, kSpecialTokensMax = 1 << 12;

absl::Status CheckCount(std::string_view name, size_t count, size_t most) {
  if (count <= most) return absl::OkStatus();
  return InvalidArgument(std::string(name) + " has " + std::to_string(count) + " tokens; at most " +
                         std::to_string(most) + " are supported");
}

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

// What a class makes of a special token that it is given as text. Those that are made of slow
// tokenizers have the slow class's idea of it.
AddedToken SpecialOfKind(const TokenizerConfig& config, bool is_slow, std::string_view attribute,
                         std::string_view content, bool* is_typed) {
  AddedToken token = SpecialToken(content);
  const bool is_mask = attribute == "mask_token";
  const bool wraps_all = is_slow && config.kind == TokenizerKind::kRoberta;
  *is_typed = wraps_all || (is_mask && config.kind != TokenizerKind::kBert &&
                            config.kind != TokenizerKind::kGeneric);
  if (!*is_typed) return token;
  token.lstrip = is_mask;
  const bool fast_is_normalized =
      config.kind == TokenizerKind::kXlmRoberta || config.kind == TokenizerKind::kXlnet;
  token.normalized = is_mask ? fast_is_normalized && !is_slow : true;
  return token;
}

absl::Status ReadSpecialTokens(const Attributes& attributes, bool is_slow,
                               const std::map<int64_t, AddedToken>& known,
                               TokenizerConfig* config) {
  const auto add = [config](AddedToken token, bool is_typed) {
    for (const SpecialAddedToken& other : config->special_tokens) {
      if (other.token.content == token.content) return;
    }
    config->special_tokens.push_back({std::move(token), is_typed});
  };
  const KindDefaults* defaults = DefaultsOf(config->kind);
  for (int i = 0; i < kNumAttributes; ++i) {
    const std::string_view name = kAttributes[i];
    const Json* json = attributes.Find(name);
    if (json != nullptr && json->is_null()) continue;
    const char* const by_default = defaults == nullptr ? nullptr : defaults->tokens[i];
    if (json == nullptr && by_default == nullptr) continue;
    AddedToken token;
    bool is_typed = true;
    const std::string* text = json == nullptr ? nullptr : json->as_string();
    const bool is_known =
        text != nullptr && std::any_of(known.begin(), known.end(), [&](const auto& other) {
          return other.second.content == *text;
        });
    if (json == nullptr || (text != nullptr && !is_known)) {
      token =
          SpecialOfKind(*config, is_slow, name, text == nullptr ? by_default : *text, &is_typed);
    } else {
      BERTRAND_ASSIGN_OR_RETURN(token, SpecialFrom(*json, name, known));
    }
    if (name == "unk_token") config->unk_token = token.content;
    if (name == "cls_token") config->cls_token = token.content;
    if (name == "sep_token") config->sep_token = token.content;
    if (const std::optional<NamedToken> part = kAttributeParts[i]) {
      config->named_tokens[*part] = token.content;
    }
    add(std::move(token), is_typed);
  }
  bool has_additional = false;
  for (const Json* source : attributes.sources()) {
    const Json* list = source->FindNonNull("additional_special_tokens");
    if (list == nullptr || !list->is_array()) continue;
    has_additional = true;
    BERTRAND_RETURN_IF_ERROR(
        CheckCount("additional_special_tokens", list->elements().size(), kSpecialTokensMax));
    for (const Json& element : list->elements()) {
      AddedToken token;
      BERTRAND_ASSIGN_OR_RETURN(token, SpecialFrom(element, "additional_special_tokens", known));
      add(std::move(token), element.is_object());
    }
  }
  if (has_additional || defaults == nullptr) return absl::OkStatus();
  for (const char* content : defaults->additional) {
    if (content != nullptr) add(SpecialToken(content), false);
  }
  return absl::OkStatus();
}

// `added_tokens_decoder` of tokenizer_config.json: id -> token.
absl::Status ReadDecoder(const Json& json, std::map<int64_t, AddedToken>* tokens) {
  BERTRAND_RETURN_IF_ERROR(
      CheckCount("added_tokens_decoder", json.members().size(), kAddedTokensMax));
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
    BERTRAND_RETURN_IF_ERROR(
        CheckCount("added_tokens.json", files.added_tokens->members().size(), kAddedTokensMax));
    TokenizerConfig named;
    BERTRAND_RETURN_IF_ERROR(ReadSpecialTokens(attributes, false, {}, &named));
    for (const auto& member : files.added_tokens->members()) {
      const std::string& text = member.first;
      int32_t id;
      BERTRAND_ASSIGN_OR_RETURN(
          id, ParseTokenId(member.second, "added_tokens.json: the id of \"" + text + "\""));
      AddedToken token;
      token.content = text;
      token.special =
          std::any_of(named.special_tokens.begin(), named.special_tokens.end(),
                      [&](const SpecialAddedToken& other) { return other.token.content == text; });
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
  BERTRAND_ASSIGN_OR_RETURN(config->do_lower_case,
                            fields.Bool("do_lower_case", config->do_lower_case));
  BERTRAND_ASSIGN_OR_RETURN(config->keep_accents, fields.Bool("keep_accents", false));
  BERTRAND_ASSIGN_OR_RETURN(config->add_prefix_space, fields.Bool("add_prefix_space", false));
  BERTRAND_ASSIGN_OR_RETURN(config->trim_offsets, fields.Bool("trim_offsets", true));
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
  ReadKind(files, &config);
  config.do_lower_case = config.kind != TokenizerKind::kXlnet;
  config.overrides_prefix_space = files.is_folder || files.config != nullptr;
  config.adds_tokens = files.config != nullptr || files.special_tokens_map != nullptr ||
                       files.added_tokens != nullptr || config.kind != TokenizerKind::kGeneric;
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
  BERTRAND_RETURN_IF_ERROR(
      ReadSpecialTokens(attributes, files.tokenizer_json == nullptr, tokens, &config));
  for (auto& [id, token] : tokens) config.explicit_tokens.push_back(std::move(token));
  return config;
}

}  // namespace bertrand
