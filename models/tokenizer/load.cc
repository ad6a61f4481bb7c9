// Tokenizer::Load and FromJson: the files of a checkpoint into the parts of a Pipeline.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/json.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/conversion.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/memory_bound.h"
#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/tokenizer_config.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/unigram.h"

namespace bertrand {
namespace {

// The largest known tokenizer.json is below 20 MB.
constexpr uintmax_t kMaxFileBytes = 256u << 20;
// What reading JSON in place appends to the text.
constexpr size_t kReadBehindBytes = 64;

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
  std::string text;
  text.reserve(size + kReadBehindBytes);
  text.resize(size);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return InvalidArgument(path + ": cannot be read");
  }
  return std::optional<std::string>(std::move(text));
}

// Annotate, for messages that quote a file: its names and tokens can be megabytes, or lines.
absl::Status Explained(const absl::Status& status, std::string_view name) {
  constexpr size_t kMessageBytesMax = 1000, kEndBytes = 300;
  std::string message = Message(status);
  for (char& c : message) c = static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  if (message.size() > kMessageBytesMax) {
    const size_t begin = PreviousBoundary(message, kMessageBytesMax - kEndBytes + 1);
    const size_t end = PreviousBoundary(message, message.size() - kEndBytes + 1);
    message.replace(begin, end - begin, "[...]");
  }
  const std::string whole = std::string(name) + ": " + message;
  if (status.code() == absl::StatusCode::kUnimplemented) return Unimplemented(whole);
  return status.code() == absl::StatusCode::kNotFound ? NotFound(whole) : InvalidArgument(whole);
}

// Adds the file's size to *bytes.
absl::StatusOr<std::optional<Json>> ReadJson(const std::string& path, Json::SameKeys same_keys,
                                             size_t* bytes) {
  std::optional<std::string> text;
  BERTRAND_ASSIGN_OR_RETURN(text, ReadFile(path));
  if (!text.has_value()) return std::optional<Json>();
  *bytes += text->size();
  Json json;
  BERTRAND_ASSIGN_OR_RETURN(json, Json::ParseOwned(*std::move(text), path, same_keys));
  return std::optional<Json>(std::move(json));
}

const Json* OrNull(const std::optional<Json>& json) { return json.has_value() ? &*json : nullptr; }

// In a tokenizer.json of before there were types, a model is known by its fields.
absl::StatusOr<std::string> TypeOfModel(const Json& model) {
  const bool untyped = model.Find("type") == nullptr;
  if (untyped && model.Find("merges") != nullptr) return std::string("BPE");
  const Json* vocab = model.Find("vocab");
  if (untyped && vocab != nullptr && vocab->is_array()) return std::string("Unigram");
  if (untyped && model.Find("continuing_subword_prefix") != nullptr &&
      model.Find("max_input_chars_per_word") != nullptr) {
    return std::string("WordPiece");
  }
  return JsonFields(model, "model").String("type");
}

// Byte-level models take words from ByteLevel, and other models from anything else.
absl::Status ParseModel(Json model, size_t memory_max, PipelineParts* parts) {
  if (!model.is_object()) return InvalidArgument("`model` must be an object");
  std::string type;
  BERTRAND_ASSIGN_OR_RETURN(type, TypeOfModel(model));
  const bool byte_level = parts->pre_tokenizer_traits.byte_level.has_value();
  if (byte_level && type != "BPE") {
    return Unimplemented("model: " + type + " behind the pre_tokenizer ByteLevel is not supported");
  }
  if (type == "WordPiece") {
    std::unique_ptr<WordPiece> word_piece;
    BERTRAND_ASSIGN_OR_RETURN(word_piece, ParseWordPiece(std::move(model), memory_max));
    parts->word_piece = word_piece.get();
    parts->model = std::move(word_piece);
  } else if (type == "BPE") {
    std::unique_ptr<Bpe> bpe;
    BERTRAND_ASSIGN_OR_RETURN(bpe, ParseBpe(std::move(model), byte_level));
    parts->bpe = bpe.get();
    parts->model = std::move(bpe);
  } else if (type == "Unigram") {
    BERTRAND_ASSIGN_OR_RETURN(parts->model, ParseUnigram(std::move(model), memory_max));
  } else {
    return NotSupported("model", type, "BPE, Unigram and WordPiece are");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<AddedToken>> ParseOwnTokens(const Json& json) {
  std::vector<AddedToken> tokens;
  const Json* list = json.FindNonNull("added_tokens");
  if (list == nullptr) return tokens;
  if (!list->is_array()) return InvalidArgument("`added_tokens` must be an array");
  for (const Json& element : list->elements()) {
    BERTRAND_RETURN_IF_ERROR(JsonFields(element, "added_tokens").TokenId("id").status());
    AddedToken token;
    BERTRAND_ASSIGN_OR_RETURN(token, ParseAddedToken(element, false));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// The model last: what the others were made of is freed before it takes its memory.
absl::StatusOr<PipelineParts> ParseTokenizerJson(Json json, size_t memory_max) {
  if (!json.is_object()) {
    return InvalidArgument(std::string("must be an object, but it is ") + json.KindName());
  }
  PipelineParts parts;
  BERTRAND_ASSIGN_OR_RETURN(parts.normalizer,
                            ParseNormalizer(json.Find("normalizer"), &parts.bert_normalizer));
  BERTRAND_ASSIGN_OR_RETURN(parts.pre_tokenizer, ParsePreTokenizer(json.Find("pre_tokenizer"),
                                                                   &parts.pre_tokenizer_traits));
  BERTRAND_ASSIGN_OR_RETURN(parts.post_processor, ParsePostProcessor(json.Find("post_processor")));
  BERTRAND_ASSIGN_OR_RETURN(parts.decoder, ParseDecoder(json.Find("decoder")));
  std::vector<AddedToken> own_tokens;
  BERTRAND_ASSIGN_OR_RETURN(own_tokens, ParseOwnTokens(json));
  if (const Json* truncation = json.FindNonNull("truncation")) {
    const Json* direction = truncation->Find("direction");
    const std::string* side = direction == nullptr ? nullptr : direction->as_string();
    if (side != nullptr && *side == "Left") parts.truncation_side = TruncationSide::kLeft;
  }
  Json model = json.Take("model");
  json = Json();
  BERTRAND_RETURN_IF_ERROR(ParseModel(std::move(model), memory_max, &parts));
  for (const AddedToken& token : own_tokens) {
    parts.added_tokens.Add(token, parts.model->vocabulary());
  }
  return parts;
}

// The configuration's tokens.
void AddConfiguredTokens(const TokenizerConfig& config, PipelineParts* parts) {
  AddedTokens& added = parts->added_tokens;
  const auto is_named = [&](const AddedToken& token) {
    return std::any_of(
        config.special_tokens.begin(), config.special_tokens.end(),
        [&](const SpecialAddedToken& special) { return special.token.content == token.content; });
  };
  // transformers means to leave out explicit tokens that are there already, but compares them with
  // ids; so all are added again, and become special if they are named as special. It compares
  // special tokens with texts, which those that are objects never equal.
  std::vector<AddedToken> missing = config.explicit_tokens;
  const size_t num_explicit = missing.size();
  for (const auto& [token, is_typed] : config.special_tokens) {
    bool there = !is_typed && added.Find(token.content).has_value();
    for (size_t i = 0; i < num_explicit; ++i) {
      AddedToken same = missing[i];
      same.special = token.special;
      there |= is_typed ? same == token : same.content == token.content;
    }
    if (!there) missing.push_back(token);
  }
  for (AddedToken& token : missing) {
    token.special = token.special || is_named(token);
    added.Add(token, parts->model->vocabulary());
  }
}

// What transformers' tokenizer classes do after they have the `tokenizers` object.
void ApplyConfig(const TokenizerConfig& config, PipelineParts* parts) {
  parts->clean_up_tokenization_spaces =
      config.clean_up_tokenization_spaces.value_or(parts->clean_up_tokenization_spaces);
  parts->model_max_length = config.model_max_length;
  parts->named_tokens = config.named_tokens;
  if (config.truncation_side.has_value()) parts->truncation_side = *config.truncation_side;
  if (config.kind == TokenizerKind::kBert && parts->bert_normalizer.has_value()) {
    BertNormalizerOptions options = *parts->bert_normalizer;
    options.lowercase = config.do_lower_case;
    options.strip_accents = config.strip_accents.value_or(config.do_lower_case);
    options.handle_chinese_chars = config.tokenize_chinese_chars;
    parts->bert_normalizer = options;
    parts->normalizer = std::make_unique<BertNormalizer>(options);
  }
  std::optional<PreTokenizerTraits::ByteLevel>& byte_level = parts->pre_tokenizer_traits.byte_level;
  if (config.overrides_prefix_space && byte_level.has_value() && byte_level->alone) {
    byte_level->add_prefix_space = config.add_prefix_space;
    parts->pre_tokenizer =
        MakeByteLevelPreTokenizer(config.add_prefix_space, byte_level->use_regex);
  }
  if (config.kind == TokenizerKind::kRoberta && parts->post_processor.has_options) {
    parts->post_processor.add_prefix_space = config.add_prefix_space;
    parts->post_processor.trim_offsets = config.trim_offsets;
  }
  if (config.adds_tokens) AddConfiguredTokens(config, parts);
}

// A checkpoint without tokenizer.json.
struct SlowFiles {
  std::string name;  // for messages
  absl::StatusOr<PipelineParts> parts;
};

absl::StatusOr<SlowFiles> ReadSlowFiles(const std::string& folder, const TokenizerConfig& config) {
  const std::string base = folder + "/";
  const auto refused = [&](const std::string& file, const std::string& whose) {
    return NotFound(base + file + ": only " + whose +
                    " tokenizers are made from it; this checkpoint's is another (" +
                    (config.class_name.empty() ? "no tokenizer_class" : config.class_name) +
                    "), and it has no tokenizer.json");
  };
  std::optional<std::string> first, second;
  BERTRAND_ASSIGN_OR_RETURN(first, ReadFile(base + "vocab.json"));
  BERTRAND_ASSIGN_OR_RETURN(second, ReadFile(base + "merges.txt"));
  if (first.has_value() && second.has_value()) {
    if (config.kind != TokenizerKind::kRoberta) return refused("vocab.json", "RoBERTa's");
    return SlowFiles{folder, PartsFromMerges(*std::move(first), *std::move(second), config)};
  }
  for (const char* file : {"spiece.model", "sentencepiece.bpe.model"}) {
    std::optional<std::string> bytes;
    BERTRAND_ASSIGN_OR_RETURN(bytes, ReadFile(base + file));
    if (!bytes.has_value()) continue;
    if (config.kind == TokenizerKind::kGeneric || config.kind == TokenizerKind::kBert ||
        config.kind == TokenizerKind::kRoberta) {
      return refused(file, "ALBERT's, CamemBERT's, XLM-R's and XLNet's");
    }
    return SlowFiles{base + file, PartsFromSentencePiece(*std::move(bytes), config)};
  }
  std::optional<std::string> vocab;
  BERTRAND_ASSIGN_OR_RETURN(vocab, ReadFile(base + "vocab.txt"));
  if (!vocab.has_value()) {
    return NotFound(folder +
                    ": has neither tokenizer.json nor vocab.txt, vocab.json and merges.txt, "
                    "spiece.model or sentencepiece.bpe.model");
  }
  if (config.kind != TokenizerKind::kBert) return refused("vocab.txt", "BERT's");
  return SlowFiles{base + "vocab.txt", PartsFromVocabText(*std::move(vocab), config)};
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadSlowFiles(const std::string& folder,
                                                         const TokenizerConfig& config) {
  absl::StatusOr<SlowFiles> files = ReadSlowFiles(folder, config);
  if (!files.ok()) return files.status();
  if (!files->parts.ok()) return Explained(files->parts.status(), files->name);
  PipelineParts& parts = *files->parts;
  ApplyConfig(config, &parts);
  if (absl::Status status = FinishConversion(config, &parts); !status.ok()) {
    return Explained(status, files->name);
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> made = Pipeline::Create(std::move(parts));
  if (!made.ok()) return Explained(made.status(), files->name);
  return made;
}

// `bytes`: of the files.
absl::StatusOr<PipelineParts> MakeParts(Json tokenizer_json, size_t bytes,
                                        const TokenizerConfig& config, const std::string& name) {
  absl::StatusOr<PipelineParts> parts =
      ParseTokenizerJson(std::move(tokenizer_json), MemoryBoundOf(bytes));
  if (!parts.ok()) return Explained(parts.status(), name);
  ApplyConfig(config, &*parts);
  return parts;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Make(absl::StatusOr<PipelineParts> parts,
                                                const std::string& name) {
  if (!parts.ok()) return parts.status();
  absl::StatusOr<std::unique_ptr<Tokenizer>> made = Pipeline::Create(*std::move(parts));
  if (!made.ok()) return Explained(made.status(), name);
  return made;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& folder) {
  const std::string base = folder + "/";
  std::optional<Json> json, config, special, added, model;
  size_t bytes = 0;
  constexpr auto kLast = Json::SameKeys::kLastCounts;  // Python reads these
  BERTRAND_ASSIGN_OR_RETURN(json,
                            ReadJson(base + "tokenizer.json", Json::SameKeys::kRefused, &bytes));
  BERTRAND_ASSIGN_OR_RETURN(config, ReadJson(base + "tokenizer_config.json", kLast, &bytes));
  BERTRAND_ASSIGN_OR_RETURN(special, ReadJson(base + "special_tokens_map.json", kLast, &bytes));
  BERTRAND_ASSIGN_OR_RETURN(added, ReadJson(base + "added_tokens.json", kLast, &bytes));
  BERTRAND_ASSIGN_OR_RETURN(model, ReadJson(base + "config.json", kLast, &bytes));
  const TokenizerConfigFiles files{OrNull(config), OrNull(special), OrNull(added),
                                   OrNull(model),  OrNull(json),    true};
  absl::StatusOr<TokenizerConfig> parsed = ParseTokenizerConfig(files);
  if (!parsed.ok()) return Explained(parsed.status(), folder);
  if (json.has_value()) {
    const std::string name = base + "tokenizer.json";
    return Make(MakeParts(*std::move(json), bytes, *parsed, name), name);
  }
  return LoadSlowFiles(folder, *parsed);
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
  if (!parsed.ok()) return Explained(parsed.status(), "tokenizer.json or tokenizer_config.json");
  return MakeParts(std::move(json), tokenizer_json.size() + config.size(), *parsed,
                   "tokenizer.json");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json,
                                                               std::string_view config) {
  return Make(PartsFromJson(tokenizer_json, config), "tokenizer.json");
}

}  // namespace bertrand
