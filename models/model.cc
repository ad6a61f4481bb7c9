#include "models/model.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/file.h"
#include "models/checkpoint/sentence_modules.h"
#include "models/checkpoint/weight_files.h"
#include "models/config/families.h"
#include "models/document_memory.h"
#include "models/encoder/encoder.h"
#include "models/model_calibration.h"
#include "models/runner.h"
#include "models/task/embed.h"
#include "models/task/heads.h"
#include "models/task/sentence_text.h"
#include "models/task/task_list.h"

namespace bertrand {
namespace {

// Type ids that tokenizers give to a pair: 0 and 1.
constexpr int64_t kTokenizerTypes = 2;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// Length of a prompt that is tokenised alone, as sentence-transformers measures it
// (SentenceTransformer.py, _get_prompt_length).
struct PromptLength {
  int64_t num_tokens = 0;  // special tokens included, before truncation
  bool ends_with_special = false;

  // The leading tokens of a prompted text of at most `max_tokens` that are the prompt's.
  int64_t Within(int64_t max_tokens) const {
    return std::min(num_tokens, max_tokens) - (ends_with_special ? 1 : 0);
  }
};

// What is known of the layers' inputs. NotFound says how it is made.
absl::StatusOr<std::vector<BlockInputs>> ReadFloat8(const std::string& folder,
                                                    const LoadOptions& options,
                                                    const EncoderConfig& config,
                                                    const WeightFiles& files) {
  BERTRAND_RETURN_IF_ERROR(CheckFloat8Sizes(config));
  BERTRAND_ASSIGN_OR_RETURN(const CheckpointMark mark, MarkOf(config, files));
  const std::string path =
      options.float8_path.empty() ? JoinPath(folder, kFloat8FileName) : options.float8_path;
  auto inputs = ReadFloat8Inputs(path, mark);
  if (!absl::IsNotFound(inputs.status())) return inputs;
  return NotFound(Message(inputs.status()) +
                  ", and float8 needs it; `bertrand calibrate MODEL TEXTS` makes it, with texts "
                  "such as will be served, one a line");
}

class LoadedModel final : public Model {
 public:
  static absl::StatusOr<std::unique_ptr<Model>> Load(const std::string& folder,
                                                     const Backend& backend,
                                                     const LoadOptions& options);

  const ModelDescription& description() const override { return description_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  absl::Status Prepare(const TextInput& text, const PrepareOptions& options,
                       PreparedInput* input) const override;
  absl::Status PrepareIds(std::span<const uint32_t> ids, std::span<const uint32_t> type_ids,
                          PreparedInput* input) const override;
  absl::StatusOr<int64_t> EmbedDimensions(std::optional<PoolingChoice> pooling) const override {
    return head_->Dimensions(pooling);
  }
  absl::StatusOr<std::unique_ptr<ModelRunner>> NewRunner(int64_t max_tokens,
                                                         int64_t max_sequences) const override {
    return PackedRunner::Create(*encoder_, *head_, backend_, max_tokens, max_sequences,
                                heads_.get());
  }
  absl::StatusOr<std::unique_ptr<SequenceMemory>> NewMemory(int64_t max_tokens) const override;
  int64_t MemoryBytes(int64_t max_tokens) const override;
  absl::StatusOr<std::unique_ptr<Calibration>> NewCalibration(int64_t max_tokens) const override;

 private:
  explicit LoadedModel(const Backend& backend) : backend_(backend) {}
  absl::Status SetLimits(const std::string& folder);
  absl::Status MeasurePrompts();
  void Describe(const ModelConfig& config, std::string files_note);

  absl::StatusOr<std::string_view> FindPrompt(const PrepareOptions& options) const;
  absl::StatusOr<PromptLength> MeasurePrompt(std::string_view prompt) const;
  absl::Status CheckRanges(const Encoding& encoding) const;

  const Backend& backend_;
  std::string weights_folder_;
  SentenceModules modules_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<EmbedHead> head_;
  std::unique_ptr<TaskHeads> heads_;
  // Of the checkpoint's own prompts, by their text; empty when include_prompt is true.
  std::map<std::string, PromptLength, std::less<>> prompt_lengths_;
  ModelDescription description_;
};

absl::StatusOr<std::unique_ptr<Model>> LoadedModel::Load(const std::string& folder,
                                                         const Backend& backend,
                                                         const LoadOptions& options) {
  std::unique_ptr<LoadedModel> model(new LoadedModel(backend));
  BERTRAND_ASSIGN_OR_RETURN(model->modules_, ReadSentenceModules(folder));
  const std::string& inner = model->modules_.transformer_folder;
  BERTRAND_ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(inner));
  BERTRAND_ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::Open(inner));
  std::vector<BlockInputs> float8;
  if (options.dtype == bertrand::Name(DType::kFloat8)) {
    BERTRAND_ASSIGN_OR_RETURN(float8, ReadFloat8(folder, options, config.encoder, files));
  }
  model->weights_folder_ = inner;
  BERTRAND_ASSIGN_OR_RETURN(model->tokenizer_, Tokenizer::Load(inner));
  BERTRAND_ASSIGN_OR_RETURN(
      model->heads_, TaskHeads::Load(config.heads, config.names, config.encoder, files, backend));
  // What the heads have read is of use.
  EncoderNames names = config.names;
  for (const std::string& tensor : model->heads_->used_tensors()) {
    names.ignored_suffixes.push_back(tensor);
  }
  std::string files_note;
  BERTRAND_ASSIGN_OR_RETURN(
      model->encoder_, Encoder::Load(config.encoder, names, files, backend, &files_note, float8));
  model->heads_->set_encoder(model->encoder_.get());
  model->heads_->set_sparse_pooling({model->modules_.sparse_sum, model->modules_.sparse_log_twice});
  if (model->modules_.is_sparse && !model->heads_->has_masked_lm()) {
    return InvalidArgument(folder +
                           ": modules.json says MLMTransformer, and the checkpoint has no " +
                           "weights of a masked-LM head");
  }
  BERTRAND_ASSIGN_OR_RETURN(model->head_,
                            EmbedHead::Load(model->modules_, *model->encoder_, backend));
  model->Describe(config, std::move(files_note));
  BERTRAND_RETURN_IF_ERROR(model->SetLimits(folder));
  BERTRAND_RETURN_IF_ERROR(model->MeasurePrompts());
  return std::unique_ptr<Model>(std::move(model));
}

// sentence-transformers (models/Transformer.py): max_seq_length if there is one, else the
// tokenizer's own limit; the position table bounds both.
absl::Status LoadedModel::SetLimits(const std::string& folder) {
  description_.max_ids = encoder_->config().max_tokens();
  int64_t limit = description_.max_ids > 0 ? description_.max_ids : kNoLimit;
  if (modules_.max_seq_length) {
    limit = std::min(limit, *modules_.max_seq_length);
  } else if (const std::optional<int64_t> length = tokenizer_->model_max_length()) {
    limit = std::min(limit, *length);
  }
  const int64_t special = tokenizer_->num_special_tokens(/*pair=*/false);
  if (limit < std::max<int64_t>(1, special)) {
    return InvalidArgument(folder + ": inputs are limited to " + std::to_string(limit) +
                           " tokens, expected room for " + std::to_string(special) +
                           " special tokens");
  }
  description_.max_tokens = limit == kNoLimit ? 0 : limit;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SequenceMemory>> LoadedModel::NewMemory(int64_t max_tokens) const {
  if (!description_.has_memory) return Model::NewMemory(max_tokens);
  if (max_tokens < 1 || max_tokens > kMemoryTokensMax) {
    return InvalidArgument("a memory of " + std::to_string(max_tokens) + " tokens, expected 1 to " +
                           std::to_string(kMemoryTokensMax));
  }
  BERTRAND_ASSIGN_OR_RETURN(EncoderMemory encoder,
                            EncoderMemory::Create(backend_, encoder_->config(), max_tokens));
  return std::make_unique<DocumentMemory>(
      std::move(encoder), PooledDocument(head_->num_poolings(), description_.hidden_size));
}

int64_t LoadedModel::MemoryBytes(int64_t max_tokens) const {
  if (!description_.has_memory) return Model::MemoryBytes(max_tokens);
  return EncoderMemory::SizeBytes(backend_, encoder_->config(), max_tokens) +
         PooledDocument::SizeBytes(head_->num_poolings(), description_.hidden_size);
}

absl::StatusOr<std::unique_ptr<Calibration>> LoadedModel::NewCalibration(int64_t max_tokens) const {
  BERTRAND_ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::Open(weights_folder_));
  BERTRAND_ASSIGN_OR_RETURN(CheckpointMark mark, MarkOf(encoder_->config(), files));
  return ModelCalibration::Create(*encoder_, *head_, backend_, std::move(mark), max_tokens);
}

absl::Status LoadedModel::MeasurePrompts() {
  if (modules_.include_prompt) return absl::OkStatus();
  for (const auto& [name, prompt] : modules_.prompts) {
    absl::StatusOr<PromptLength> length = MeasurePrompt(prompt);
    if (!length.ok()) return Annotate(length.status(), "prompt \"" + name + "\"");
    prompt_lengths_.emplace(prompt, *length);
  }
  return absl::OkStatus();
}

void LoadedModel::Describe(const ModelConfig& config, std::string files_note) {
  ModelDescription& about = description_;
  about.family = config.family;
  about.architecture = config.architecture;
  about.tasks = ListTasks(config, modules_, *heads_);
  if (heads_->has(LogitsHead::kClassifier) || heads_->has(LogitsHead::kTokenClassifier)) {
    about.labels = NamesOfLabels(config.heads);
  }
  about.heads = config.heads.traits;
  about.heads.orders_sentences = heads_->has(LogitsHead::kSentenceOrder);
  if (heads_->has_beam()) {
    about.heads.beam_starts = heads_->num_starts();
    about.heads.beam_ends = heads_->num_ends();
  }
  about.hidden_size = config.encoder.hidden_size;
  about.num_layers = config.encoder.num_layers;
  about.num_heads = config.encoder.num_heads;
  about.vocab_size = config.encoder.vocab_size;
  about.num_token_types = config.encoder.num_token_types;
  about.has_memory = config.encoder.is_relative();
  about.heads.classifies_last_token =
      heads_->has(LogitsHead::kClassifier) && heads_->reads_last_token(LogitsHead::kClassifier);
  about.embedding_dimensions = head_->Dimensions(std::nullopt).value();
  about.normalizes = head_->normalizes();
  about.compute_type =
      bertrand::Name(encoder_->is_float8() ? DType::kFloat8 : backend_.activation_dtype());
  about.device = backend_.name();
  about.weight_bytes = encoder_->weight_bytes() + head_->weight_bytes() + heads_->weight_bytes();
  about.num_parameters =
      encoder_->num_parameters() + head_->num_parameters() + heads_->num_parameters();
  if (config.names.pooler_is_outside && encoder_->has_pooler() &&
      heads_->has(LogitsHead::kClassifier)) {
    // Both have read it.
    about.num_parameters -= static_cast<uint64_t>(about.hidden_size * (about.hidden_size + 1));
  }
  about.load_notes = modules_.notes;
  if (heads_->lacks_named_head()) {
    about.load_notes.push_back("config.json says " + config.architecture +
                               ", but the checkpoint has no weights of such a head (transformers " +
                               "would make up random ones): what needs it is refused");
  }
  if (PathExists(JoinPath(weights_folder_, "adapter_config.json"))) {
    about.load_notes.push_back(weights_folder_ + " has adapter_config.json: adapters of PEFT are " +
                               "not applied, the checkpoint's own weights are served");
  }
  if (!files_note.empty()) about.load_notes.push_back(std::move(files_note));
  if (tokenizer_->vocab_size() > config.encoder.vocab_size) {
    about.load_notes.push_back("the tokenizer has " + std::to_string(tokenizer_->vocab_size()) +
                               " ids, the model embeds " +
                               std::to_string(config.encoder.vocab_size) +
                               ": texts with the others are refused");
  }
}

absl::StatusOr<std::string_view> LoadedModel::FindPrompt(const PrepareOptions& options) const {
  if (!options.prompt_name.empty() && !options.prompt.empty()) {
    return InvalidArgument("prompt and prompt_name are both set, expected at most one");
  }
  if (!options.prompt.empty()) return options.prompt;
  std::string_view name = options.prompt_name;
  if (name.empty()) {
    if (!options.as_sentence || !modules_.default_prompt_name) return std::string_view();
    name = *modules_.default_prompt_name;
  }
  const auto prompt = modules_.prompts.find(name);
  if (prompt != modules_.prompts.end()) return std::string_view(prompt->second);
  std::string known;
  for (const auto& [other, text] : modules_.prompts) known += (known.empty() ? "" : ", ") + other;
  return InvalidArgument("unknown prompt_name \"" + std::string(name) + "\", this model has " +
                         known);
}

absl::StatusOr<PromptLength> LoadedModel::MeasurePrompt(std::string_view prompt) const {
  const auto known = prompt_lengths_.find(prompt);
  if (known != prompt_lengths_.end()) return known->second;
  Encoding encoding;
  std::string memory;
  const TextCleaning cleaning{.strip = true, .lower = modules_.do_lower_case};
  BERTRAND_RETURN_IF_ERROR(tokenizer_->Encode(CleanText(prompt, cleaning, &memory), nullptr,
                                              EncodeOptions{}, &encoding));
  PromptLength length;
  length.num_tokens = static_cast<int64_t>(encoding.ids.size());
  length.ends_with_special = !encoding.ids.empty() && tokenizer_->IsSpecial(encoding.ids.back());
  return length;
}

absl::Status LoadedModel::Prepare(const TextInput& text, const PrepareOptions& options,
                                  PreparedInput* input) const {
  BERTRAND_ASSIGN_OR_RETURN(const std::string_view prompt, FindPrompt(options));
  // Before anything is put in front of it or taken away, so that the offset is the client's.
  for (const std::string_view part :
       {text.first, text.second == nullptr ? std::string_view() : *text.second, prompt}) {
    if (!options.as_sentence && prompt.empty()) break;  // Encode sees the text as it is
    if (const std::optional<size_t> offset = FindInvalidUtf8(part)) {
      return InvalidArgument("text is not valid UTF-8 at byte " + std::to_string(*offset));
    }
  }
  EncodeOptions encode = options.encode;
  if (!options.beyond_limit && description_.max_tokens > 0) {
    encode.max_tokens = std::min(encode.max_tokens, description_.max_tokens);
  }

  const TextCleaning second_cleaning{.strip = options.as_sentence,
                                     .lower = options.as_sentence && modules_.do_lower_case};
  TextCleaning first_cleaning = second_cleaning;
  first_cleaning.prompt = prompt;
  std::string first_memory, second_memory;
  const std::string_view first = CleanText(text.first, first_cleaning, &first_memory);
  std::string_view second;
  if (text.second != nullptr) second = CleanText(*text.second, second_cleaning, &second_memory);
  Encoding& encoding = input->encoding;
  BERTRAND_RETURN_IF_ERROR(
      tokenizer_->Encode(first, text.second == nullptr ? nullptr : &second, encode, &encoding));
  BERTRAND_RETURN_IF_ERROR(CheckRanges(encoding));
  if (encode.want_spans && first != text.first) {
    MapSpansBack(text.first, first_cleaning, encoding.sequence, 0, encoding.spans);
  }
  if (encode.want_spans && text.second != nullptr && second != *text.second) {
    MapSpansBack(*text.second, second_cleaning, encoding.sequence, 1, encoding.spans);
  }
  input->num_prompt_tokens = 0;
  if (!prompt.empty() && !modules_.include_prompt) {
    BERTRAND_ASSIGN_OR_RETURN(const PromptLength length, MeasurePrompt(prompt));
    input->num_prompt_tokens = length.Within(encode.max_tokens);
  }
  return absl::OkStatus();
}

// Tokenizers of real checkpoints have ids and types that the model's tables do not.
absl::Status LoadedModel::CheckRanges(const Encoding& encoding) const {
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    if (encoding.ids[i] >= description_.vocab_size) {
      return InvalidArgument("the text has token id " + std::to_string(encoding.ids[i]) +
                             ", the model embeds ids below " +
                             std::to_string(description_.vocab_size));
    }
    // A model without token types looks at none, whatever its tokenizer gives.
    const int64_t num_types = description_.num_token_types;
    if (num_types > 0 && encoding.type_ids[i] >= num_types) {
      return InvalidArgument("the text has token type " + std::to_string(encoding.type_ids[i]) +
                             ", the model has " + std::to_string(description_.num_token_types) +
                             ": it takes no pairs");
    }
  }
  return absl::OkStatus();
}

absl::Status LoadedModel::PrepareIds(std::span<const uint32_t> ids,
                                     std::span<const uint32_t> type_ids,
                                     PreparedInput* input) const {
  const auto size = static_cast<int64_t>(ids.size());
  const int64_t max_ids = description_.max_ids;
  if (size < 1 || (max_ids > 0 && size > max_ids)) {
    return InvalidArgument("ids: " + std::to_string(size) + " given, expected 1 to " +
                           (max_ids > 0 ? std::to_string(max_ids) : "any number"));
  }
  if (!type_ids.empty() && type_ids.size() != ids.size()) {
    return InvalidArgument("type_ids: " + std::to_string(type_ids.size()) +
                           " given, expected none or " + std::to_string(size));
  }
  // A model without token types looks at none; what its own tokenizer may give is in order.
  const int64_t num_types =
      description_.num_token_types > 0 ? description_.num_token_types : kTokenizerTypes;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= description_.vocab_size) {
      return InvalidArgument("ids[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                             ", expected below " + std::to_string(description_.vocab_size));
    }
    if (!type_ids.empty() && type_ids[i] >= num_types) {
      return InvalidArgument("type_ids[" + std::to_string(i) + "] is " +
                             std::to_string(type_ids[i]) + ", expected below " +
                             std::to_string(num_types));
    }
  }
  Encoding& encoding = input->encoding;
  encoding.ids.assign(ids.begin(), ids.end());
  encoding.type_ids.assign(ids.size(), 0);
  std::copy(type_ids.begin(), type_ids.end(), encoding.type_ids.begin());
  encoding.special.resize(ids.size());
  encoding.sequence.resize(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool is_special = tokenizer_->IsSpecial(ids[i]);
    encoding.special[i] = is_special ? 1 : 0;
    encoding.sequence[i] = is_special ? -1 : 0;
  }
  encoding.spans.clear();
  encoding.num_truncated = 0;
  input->num_prompt_tokens = 0;
  return absl::OkStatus();
}

}  // namespace

const char* Name(Task task) {
  constexpr std::array kNames = {
      "embed",
      "embed_tokens",
      "embed_sparse",
      "classify",
      "classify_zero_shot",
      "rerank",
      "classify_tokens",
      "answer_question",
      "fill_mask",
      "detect_replaced_tokens",
      "predict_sentence_pair",
  };
  const auto index = static_cast<size_t>(task) - 1;
  return index < kNames.size() ? kNames[index] : "unknown";
}

bool Model::HasTask(Task task) const {
  const std::vector<Task>& tasks = description().tasks;
  return std::find(tasks.begin(), tasks.end(), task) != tasks.end();
}

absl::Status Model::CheckTask(Task task) const {
  if (HasTask(task)) return absl::OkStatus();
  std::string tasks;
  for (const Task known : description().tasks) {
    tasks += (tasks.empty() ? "" : ", ") + std::string(bertrand::Name(known));
  }
  std::string message =
      "has no head for the task \"" + std::string(bertrand::Name(task)) + "\"; it has: " + tasks;
  if (task == Task::kRerank && HasTask(Task::kClassify)) {
    return FailedPrecondition(message + "; it has " + std::to_string(description().labels.size()) +
                              " labels, and relevance is one");
  }
  return FailedPrecondition(message +
                            "; the checkpoint has no weights of such a head (transformers would "
                            "make up random ones)");
}

absl::StatusOr<std::unique_ptr<SequenceMemory>> Model::NewMemory(int64_t) const {
  return FailedPrecondition("this model has no memory: it cannot run a document as segments");
}

int64_t Model::MemoryBytes(int64_t) const { return 0; }

absl::StatusOr<std::unique_ptr<Calibration>> Model::NewCalibration(int64_t) const {
  return FailedPrecondition("this model has nothing to calibrate");
}

absl::StatusOr<DType> StoredType(const std::string& folder) {
  if (!PathExists(folder)) return NotFound(folder + ": no such folder");
  BERTRAND_ASSIGN_OR_RETURN(const SentenceModules modules, ReadSentenceModules(folder));
  BERTRAND_ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::Open(modules.transformer_folder));
  return files.MainType();
}

absl::StatusOr<std::unique_ptr<Model>> Model::Load(const std::string& folder,
                                                   const Backend& backend,
                                                   const LoadOptions& options) {
  const std::string dtype = bertrand::Name(backend.activation_dtype());
  if (options.dtype == bertrand::Name(DType::kFloat8)) {
    BERTRAND_RETURN_IF_ERROR(backend.CheckFloat8());
  } else if (options.dtype != "auto" && options.dtype != dtype) {
    return InvalidArgument("dtype \"" + options.dtype + "\" on a device that computes in " + dtype);
  }
  if (!PathExists(folder)) return NotFound(folder + ": no such folder");
  return LoadedModel::Load(folder, backend, options);
}

}  // namespace bertrand
