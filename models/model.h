#pragma once

// A checkpoint, loaded on one device: everything between text and the numbers of an answer.
//
// Model is immutable after Load and thread-safe. A ModelRunner is one slot of work in flight with
// its workspace, used by one thread at a time; the engine makes as many as it wants batches to
// overlap. Prepare (CPU work: prompt, strip, tokenizer) and Forward (device work) are apart, so
// that they overlap.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {

// bertrand.v1.Task, by number and in the order of the .proto.
enum class Task : uint8_t {
  kEmbed = 1,
  kEmbedTokens,
  kEmbedSparse,
  kClassify,
  kClassifyZeroShot,
  kRerank,
  kClassifyTokens,
  kAnswerQuestion,
  kFillMask,
  kDetectReplacedTokens,
  kPredictSentencePair,
};
const char* Name(Task task);  // "embed", "embed-tokens", ...

// bertrand.v1.Family, by number.
enum class Family : uint8_t { kBert = 1, kRoberta, kAlbert, kDistilBert, kElectra, kXlnet };

// What a client may ask for with EmbedRequest.pooling.
enum class PoolingChoice : uint8_t {
  kCls = 1,
  kMean,
  kMax,
  kMeanSqrtLen,
  kWeightedMean,
  kLastToken,
  kPooler,
};

struct ModelDescription {
  Family family{};
  std::string architecture;  // as in config.json
  std::vector<Task> tasks;   // the primary one first
  int64_t hidden_size = 0, num_layers = 0, num_heads = 0, vocab_size = 0;
  int64_t num_token_types = 0;
  // Of one input, special tokens included; 0: no limit. Text is cut to max_tokens, which a
  // checkpoint may set below what its encoder has positions for; ids that a client has made itself
  // may have max_ids.
  int64_t max_tokens = 0, max_ids = 0;
  int64_t embedding_dimensions = 0;
  bool normalizes = false;  // whether the checkpoint's embeddings end with Normalize
  std::vector<std::string> labels;
  std::string compute_type;  // "float32"
  std::string device;
  uint64_t weight_bytes = 0, num_parameters = 0;
  // What an operator may want to know about how the checkpoint was read (tensors that are not used,
  // a missing modules.json): one line each, for the log.
  std::vector<std::string> load_notes;
};

// Text to be tokenised. Views must outlive the call.
struct TextInput {
  std::string_view first;
  const std::string_view* second = nullptr;  // null: a single text
};

struct PrepareOptions {
  EncodeOptions encode;  // max_tokens beyond the model's limit is cut to it by Prepare
  // At most one of the two: a name from config_sentence_transformers.json, or the text itself.
  std::string_view prompt_name;
  std::string_view prompt;
  // True for embeddings: sentence-transformers strips texts (and lower-cases them if the checkpoint
  // says do_lower_case) and applies default_prompt_name. False: the text as it is.
  bool as_sentence = false;
};

// The ids of one input, ready to be packed.
struct PreparedInput {
  Encoding encoding;
  // Leading tokens that pooling leaves out (include_prompt false); 0 without a prompt.
  int64_t num_prompt_tokens = 0;
};

// How to make one vector out of a sequence.
struct EmbedOutput {
  std::optional<PoolingChoice> pooling;  // unset: as the checkpoint says, else mean
  std::optional<bool> normalize;         // unset: as the checkpoint says
  int64_t num_prompt_tokens = 0;
  std::span<float> vector;  // Model::EmbedDimensions(pooling) values, written by Forward
};

// Hidden states of every token, layers side by side: [tokens, layers.size() * hidden_size].
struct TokensOutput {
  std::span<const int32_t> layers;  // 0: the embeddings' output, n: after layer n; checked before
  std::span<float> vectors;
};

// One sequence of a batch. Spans must stay until Forward has returned.
struct SequenceWork {
  std::span<const int32_t> ids;
  std::span<const int32_t> type_ids;
  const EmbedOutput* embed = nullptr;  // exactly one of the two is set
  const TokensOutput* tokens = nullptr;
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  // Packs the sequences, runs the encoder, writes every output, and returns when all is on the
  // host. Allocates nothing beyond what NewRunner made. Requires: ids and type_ids in range, at
  // most max_tokens tokens and max_sequences sequences, none empty. Sequences of one batch may want
  // different outputs. A vector depends on its sequence alone, whatever else is in the batch.
  virtual absl::Status Forward(std::span<const SequenceWork> batch) = 0;
};

struct LoadOptions {
  // "auto" or "float32" in this version; others are Unimplemented.
  std::string dtype = "auto";
};

class Model {
 public:
  virtual ~Model() = default;

  // Reads a checkpoint's folder and puts its weights on the device. `backend` must outlive the
  // model. Errors name file, key or tensor, with actual and expected value.
  static absl::StatusOr<std::unique_ptr<Model>> Load(const std::string& folder,
                                                     const Backend& backend,
                                                     const LoadOptions& options);

  virtual const ModelDescription& description() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;
  bool HasTask(Task task) const;

  // Text -> ids. Spans are of the text as given: without the prompt, before stripping.
  // InvalidArgument: unknown prompt_name (names those there are), prompt and
  // prompt_name together, too long with kFail. Thread-safe, reuses the memory of `input`.
  virtual absl::Status Prepare(const TextInput& text, const PrepareOptions& options,
                               PreparedInput* input) const = 0;
  // Ids given by the client, special tokens included: length (1 to max_ids), ranges, and
  // as many type ids as ids (or none: all 0).
  virtual absl::Status PrepareIds(std::span<const uint32_t> ids, std::span<const uint32_t> type_ids,
                                  PreparedInput* input) const = 0;

  // The vector's length for a pooling; InvalidArgument when the model cannot pool so (kPooler
  // without a pooler).
  virtual absl::StatusOr<int64_t> EmbedDimensions(std::optional<PoolingChoice> pooling) const = 0;

  virtual absl::StatusOr<std::unique_ptr<ModelRunner>> NewRunner(int64_t max_tokens,
                                                                 int64_t max_sequences) const = 0;
};

}  // namespace bertrand
