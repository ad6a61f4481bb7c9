// Tokenizer::Load and FromJson: the files of a checkpoint into the parts of a Pipeline.

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/json.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/tokenizer_config.h"

namespace bertrand {
namespace {

// The largest known tokenizer.json is below 20 MB.
constexpr uintmax_t kMaxFileBytes = 256u << 20;

// Empty when the file does not exist.
absl::StatusOr<std::optional<std::string>> ReadFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::optional<std::string>();
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return InvalidArgument(path + ": " + error.message());
  if (size > kMaxFileBytes) {
    return InvalidArgument(path + ": " + std::to_string(size) + " bytes; at most " +
                           std::to_string(kMaxFileBytes) + " are read");
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) {
    if (size == 0) return std::optional<std::string>("");
    return InvalidArgument(path + ": cannot be read");
  }
  return std::optional<std::string>(std::move(text).str());
}

absl::StatusOr<std::optional<Json>> ReadJson(const std::string& path) {
  std::optional<std::string> text;
  BERTRAND_ASSIGN_OR_RETURN(text, ReadFile(path));
  if (!text.has_value()) return std::optional<Json>();
  Json json;
  BERTRAND_ASSIGN_OR_RETURN(json, Json::Parse(*text, path));
  return std::optional<Json>(std::move(json));
}

const Json* OrNull(const std::optional<Json>& json) { return json.has_value() ? &*json : nullptr; }

// tokenizer.json of before there were types: {"unk_token", "continuing_subword_prefix",
// "max_input_chars_per_word", "vocab"}.
bool IsUntypedWordPiece(const Json& model) {
  return model.Find("type") == nullptr && model.Find("continuing_subword_prefix") != nullptr &&
         model.Find("max_input_chars_per_word") != nullptr && model.Find("merges") == nullptr;
}

absl::StatusOr<std::unique_ptr<WordPiece>> ParseModel(const Json& json) {
  const Json* model = json.Find("model");
  if (model == nullptr || !model->is_object()) return InvalidArgument("`model` must be an object");
  if (!IsUntypedWordPiece(*model)) {
    std::string type;
    BERTRAND_ASSIGN_OR_RETURN(type, JsonFields(*model, "model").String("type"));
    if (type != "WordPiece") return NotSupported("model", type, "WordPiece is");
  }
  return ParseWordPiece(*model);
}

absl::Status AddOwnTokens(const Json& json, PipelineParts* parts) {
  const Json* list = json.FindNonNull("added_tokens");
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return InvalidArgument("`added_tokens` must be an array");
  for (const Json& element : list->elements()) {
    BERTRAND_RETURN_IF_ERROR(JsonFields(element, "added_tokens").TokenId("id").status());
    AddedToken token;
    BERTRAND_ASSIGN_OR_RETURN(token, ParseAddedToken(element, false));
    parts->added_tokens.Add(token, parts->model->vocabulary());
  }
  return absl::OkStatus();
}

absl::StatusOr<PipelineParts> ParseTokenizerJson(const Json& json) {
  if (!json.is_object()) {
    return InvalidArgument(std::string("must be an object, but it is ") + json.KindName());
  }
  PipelineParts parts;
  BERTRAND_ASSIGN_OR_RETURN(parts.model, ParseModel(json));
  BERTRAND_ASSIGN_OR_RETURN(parts.normalizer,
                            ParseNormalizer(json.Find("normalizer"), &parts.bert_normalizer));
  BERTRAND_ASSIGN_OR_RETURN(parts.pre_tokenizer, ParsePreTokenizer(json.Find("pre_tokenizer"),
                                                                   &parts.bert_pre_tokenizer));
  BERTRAND_ASSIGN_OR_RETURN(parts.post_processor, ParsePostProcessor(json.Find("post_processor")));
  BERTRAND_ASSIGN_OR_RETURN(parts.decoder, ParseDecoder(json.Find("decoder")));
  BERTRAND_RETURN_IF_ERROR(AddOwnTokens(json, &parts));
  if (const Json* truncation = json.FindNonNull("truncation")) {
    const Json* direction = truncation->Find("direction");
    const std::string* side = direction == nullptr ? nullptr : direction->as_string();
    if (side != nullptr && *side == "Left") parts.truncation_side = TruncationSide::kLeft;
  }
  return parts;
}

// What transformers' tokenizer classes do after they have the `tokenizers` object.
void ApplyConfig(const TokenizerConfig& config, PipelineParts* parts) {
  parts->clean_up_tokenization_spaces =
      config.clean_up_tokenization_spaces.value_or(parts->clean_up_tokenization_spaces);
  parts->model_max_length = config.model_max_length;
  parts->named_tokens = config.named_tokens;
  if (config.truncation_side.has_value()) parts->truncation_side = *config.truncation_side;
  if (config.is_bert && parts->bert_normalizer.has_value()) {
    BertNormalizerOptions options = *parts->bert_normalizer;
    options.lowercase = config.do_lower_case;
    options.strip_accents = config.strip_accents.value_or(config.do_lower_case);
    options.handle_chinese_chars = config.tokenize_chinese_chars;
    parts->bert_normalizer = options;
    parts->normalizer = std::make_unique<BertNormalizer>(options);
  }
  if (!config.adds_tokens) return;
  AddedTokens& added = parts->added_tokens;
  const auto is_named = [&](const AddedToken& token) {
    for (const AddedToken& special : config.special_tokens) {
      if (special.content == token.content) return true;
    }
    return false;
  };
  // transformers means to leave out explicit tokens that are there already, but compares them with
  // ids; so all are added again, and become special if they are named as special.
  std::vector<AddedToken> missing = config.explicit_tokens;
  const size_t num_explicit = missing.size();
  for (const AddedToken& token : config.special_tokens) {
    bool there = added.Find(token.content).has_value();
    for (size_t i = 0; i < num_explicit; ++i) there |= missing[i].content == token.content;
    if (!there) missing.push_back(token);
  }
  for (AddedToken& token : missing) {
    token.special = token.special || is_named(token);
    added.Add(token, parts->model->vocabulary());
  }
}

// transformers' BertConverter, from vocab.txt.
absl::StatusOr<PipelineParts> PartsFromVocabText(std::string_view text,
                                                 const TokenizerConfig& config) {
  PipelineParts parts;
  Vocabulary vocabulary;
  BERTRAND_ASSIGN_OR_RETURN(vocabulary, ParseVocabText(text));
  WordPieceOptions options;
  options.unk_token = config.unk_token;
  BERTRAND_ASSIGN_OR_RETURN(parts.model,
                            WordPiece::Create(std::move(vocabulary), std::move(options)));
  parts.bert_normalizer.emplace();  // ApplyConfig sets its options
  bool is_bert;
  Json pre_tokenizer;
  BERTRAND_ASSIGN_OR_RETURN(pre_tokenizer,
                            Json::Parse("{\"type\": \"BertPreTokenizer\"}", "vocab.txt"));
  BERTRAND_ASSIGN_OR_RETURN(parts.pre_tokenizer, ParsePreTokenizer(&pre_tokenizer, &is_bert));
  parts.bert_pre_tokenizer = true;
  parts.decoder = MakeWordPieceDecoder("##", true);
  // The default of BERT's slow tokenizers, which goes over to the fast one that is made of them.
  parts.clean_up_tokenization_spaces = true;
  return parts;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabText(const std::string& path,
                                                         std::string_view text,
                                                         const TokenizerConfig& config) {
  if (!config.is_bert) {
    return NotFound(path +
                    ": only BERT's tokenizers are made from vocab.txt; this checkpoint's is "
                    "another, and it has no tokenizer.json");
  }
  absl::StatusOr<PipelineParts> parts = PartsFromVocabText(text, config);
  if (!parts.ok()) return Annotate(parts.status(), path);
  ApplyConfig(config, &*parts);
  const auto id_of = [&](const std::string& token) {
    const std::optional<int32_t> added = parts->added_tokens.Find(token);
    return added.has_value() ? added : parts->model->vocabulary().Find(token);
  };
  const std::optional<int32_t> cls = id_of(config.cls_token), sep = id_of(config.sep_token);
  if (!cls.has_value() || !sep.has_value()) {
    return InvalidArgument(path + ": cls_token and sep_token must not be empty");
  }
  parts->post_processor = BertPostProcessor(*cls, *sep);
  absl::StatusOr<std::unique_ptr<Tokenizer>> made = Pipeline::Create(*std::move(parts));
  if (!made.ok()) return Annotate(made.status(), path);
  return made;
}

absl::StatusOr<PipelineParts> MakeParts(const Json& tokenizer_json, const TokenizerConfig& config,
                                        const std::string& name) {
  absl::StatusOr<PipelineParts> parts = ParseTokenizerJson(tokenizer_json);
  if (!parts.ok()) return Annotate(parts.status(), name);
  ApplyConfig(config, &*parts);
  return parts;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Make(absl::StatusOr<PipelineParts> parts,
                                                const std::string& name) {
  if (!parts.ok()) return parts.status();
  absl::StatusOr<std::unique_ptr<Tokenizer>> made = Pipeline::Create(*std::move(parts));
  if (!made.ok()) return Annotate(made.status(), name);
  return made;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& folder) {
  const std::string base = folder + "/";
  std::optional<Json> json, config, special, added, model;
  BERTRAND_ASSIGN_OR_RETURN(json, ReadJson(base + "tokenizer.json"));
  BERTRAND_ASSIGN_OR_RETURN(config, ReadJson(base + "tokenizer_config.json"));
  BERTRAND_ASSIGN_OR_RETURN(special, ReadJson(base + "special_tokens_map.json"));
  BERTRAND_ASSIGN_OR_RETURN(added, ReadJson(base + "added_tokens.json"));
  BERTRAND_ASSIGN_OR_RETURN(model, ReadJson(base + "config.json"));
  const TokenizerConfigFiles files{OrNull(config), OrNull(special), OrNull(added), OrNull(model),
                                   OrNull(json)};
  absl::StatusOr<TokenizerConfig> parsed = ParseTokenizerConfig(files);
  if (!parsed.ok()) return Annotate(parsed.status(), folder);
  if (json.has_value()) {
    const std::string name = base + "tokenizer.json";
    return Make(MakeParts(*json, *parsed, name), name);
  }
  std::optional<std::string> vocab;
  BERTRAND_ASSIGN_OR_RETURN(vocab, ReadFile(base + "vocab.txt"));
  if (vocab.has_value()) return LoadVocabText(base + "vocab.txt", *vocab, *parsed);
  return NotFound(folder + ": has neither tokenizer.json nor vocab.txt");
}

absl::StatusOr<PipelineParts> PartsFromJson(std::string_view tokenizer_json,
                                            std::string_view config) {
  Json json, config_json;
  BERTRAND_ASSIGN_OR_RETURN(json, Json::Parse(tokenizer_json, "tokenizer.json"));
  TokenizerConfigFiles files{nullptr, nullptr, nullptr, nullptr, &json};
  if (!config.empty()) {
    BERTRAND_ASSIGN_OR_RETURN(config_json, Json::Parse(config, "tokenizer_config.json"));
    files.config = &config_json;
  }
  absl::StatusOr<TokenizerConfig> parsed = ParseTokenizerConfig(files);
  if (!parsed.ok()) return Annotate(parsed.status(), "tokenizer.json or tokenizer_config.json");
  return MakeParts(json, *parsed, "tokenizer.json");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json,
                                                               std::string_view config) {
  return Make(PartsFromJson(tokenizer_json, config), "tokenizer.json");
}

}  // namespace bertrand
