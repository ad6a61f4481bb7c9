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
const char* Name(Task task);  // "embed", "embed_tokens", ...: as clients name them

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

// What turns logits into scores; bertrand.v1.Activation, by number.
enum class ScoreFunction : uint8_t { kNone = 1, kSigmoid, kSoftmax };

// The heads that give logits, on all that a checkpoint may have. The first three read one vector of
// a sequence, the others every token.
enum class LogitsHead : uint8_t {
  kClassifier,       // num_labels values
  kNextSentence,     // 2 values: the second text follows, or does not
  kSentenceOrder,    // 2 values: in order, or swapped
  kTokenClassifier,  // num_labels values a token
  kAnswerSpan,       // 2 values a token: start, end
  kReplacedToken,    // 1 value a token
};

// How the tasks read a checkpoint's heads, by Hugging Face's rules.
struct HeadTraits {
  ScoreFunction classify = ScoreFunction::kSoftmax;  // pipelines/text_classification.py
  ScoreFunction rerank = ScoreFunction::kSigmoid;    // CrossEncoder.get_default_activation_fn
  // Labels of an NLI model (pipelines/zero_shot_classification.py).
  int64_t entailment = 0, contradiction = 0;
  // The classifier reads a sequence's last token, which has a memory of those before.
  bool classifies_last_token = false;
  bool orders_sentences = false;  // the pair head tells the order, not whether one follows
  // Questions come after their context (XLNet).
  bool context_first = false;
  // The answers' head is a beam search of this width; 0: it gives spans.
  int64_t beam_starts = 0, beam_ends = 0;
  // The length of a segment's memory that the checkpoint was made with; 0: not said.
  int64_t memory_tokens = 0;
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
  bool has_memory = false;  // whether Model::NewMemory gives one: LongInput.MODE_RECURRENCE
  std::vector<std::string> labels;
  HeadTraits heads;
  std::string compute_type;  // "float32"; "float8": products in it, all else in 16 bits
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
  // True: the text is not cut, and may be longer than the model's limit. For callers that make
  // windows of it. (encode.max_tokens still is a limit.)
  bool beyond_limit = false;
};

// The ids of one input, ready to be packed.
struct PreparedInput {
  Encoding encoding;
  // Leading tokens that pooling leaves out (include_prompt false); 0 without a prompt.
  int64_t num_prompt_tokens = 0;
};

// How to make one vector out of a sequence; out of a segment with a memory: of the document so far,
// as if all its tokens had been pooled at once (with the same pooling for each segment).
struct EmbedOutput {
  std::optional<PoolingChoice> pooling;  // unset: as the checkpoint says, else mean
  std::optional<bool> normalize;         // unset: as the checkpoint says
  int64_t num_prompt_tokens = 0;         // of the sequence, or the document
  std::span<float> vector;  // Model::EmbedDimensions(pooling) values, written by Forward
};

// Hidden states of every token, layers side by side: [tokens, layers.size() * hidden_size].
struct TokensOutput {
  std::span<const int32_t> layers;  // 0: the embeddings' output, n: after layer n; checked before
  std::span<float> vectors;
};

// A head's logits: [width] for those that read one vector, else [tokens, width].
struct LogitsOutput {
  LogitsHead head{};
  std::span<float> logits;
};

// Candidates for tokens of the sequence, best first, from the masked-LM head: probabilities over
// the whole vocabulary. With equal ones the smaller id (the earlier target) comes first.
struct MaskOutput {
  std::span<const int32_t> positions;  // in the sequence
  std::span<const int32_t> targets;    // the ids to choose from; empty: all
  int64_t num_candidates = 0;          // for each position; at most the targets, or the vocabulary
  std::span<int32_t> ids;              // [positions, num_candidates]
  std::span<float> scores;             // the same
};

// A SPLADE vector from the masked-LM head.
struct SparseOutput {
  std::span<float> weights;  // [vocab_size]
};

// Answers of XLNet's beam head (modeling_xlnet.py: XLNetForQuestionAnswering): starts by
// probability, and for each the ends by theirs.
struct BeamOutput {
  std::span<const uint8_t> masked;  // of each token: 1 where no answer starts or ends (`p_mask`)
  int32_t cls_index = 0;
  std::span<float> start_scores;  // [beam_starts], or as many as there are tokens
  std::span<int32_t> starts;      // the same
  std::span<float> end_scores;    // [starts, beam_ends], or as many ends as there are tokens
  std::span<int32_t> ends;        // the same
  float* no_answer_logit = nullptr;
};

// The best spans of a sequence's tokens, from the answers' head (kernels/backend.h: SpanParams).
struct SpanOutput {
  static constexpr size_t kSpansMax = 65535;
  std::span<const uint8_t> masked;  // of each token: 1 where no answer starts or ends
  int32_t null_token = 0;           // takes probability, and stands for "no answer"
  int32_t tokens_max = 0;           // of a span; at least 1
  std::span<ScoredSpan> spans;      // the null token's, then the best; 1 to kSpansMax
};

// What the layers keep of the tokens before a sequence, when a document runs as segments:
// transformers' `mems`, of one document, on the device. Model::NewMemory makes it, empty; whoever
// runs the document owns it, for one thread at a time, and it must not outlive the model.
class SequenceMemory {
 public:
  virtual ~SequenceMemory() = default;
  virtual int64_t max_tokens() const = 0;
  virtual int64_t num_tokens() const = 0;  // at the moment; at most max_tokens
};

// One sequence of a batch. Spans must stay until Forward has returned. Exactly one output is set,
// or none with a memory: a segment that is read on the way to later ones.
struct SequenceWork {
  std::span<const int32_t> ids;
  std::span<const int32_t> type_ids;
  const EmbedOutput* embed = nullptr;
  const TokensOutput* tokens = nullptr;
  const LogitsOutput* logits = nullptr;
  const MaskOutput* mask = nullptr;
  const SparseOutput* sparse = nullptr;
  const BeamOutput* beam = nullptr;
  const SpanOutput* answers = nullptr;
  // Of the segments before this one, of one document: every token attends to it, and Forward
  // replaces it by the last max_tokens of what it was and this sequence (modeling_xlnet.py:
  // cache_mem). Null: none. Not twice in one batch; of no more use after a Forward that failed.
  SequenceMemory* memory = nullptr;
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  // Packs the sequences, runs the encoder, writes every output, and returns when all is on the
  // host. Allocates nothing beyond what NewRunner made. Requires: ids and type_ids in range, at
  // most max_tokens tokens and max_sequences sequences, none empty; a sequence with a memory has at
  // most max_tokens together with the memory's max_tokens. Sequences of one batch may want
  // different outputs. A vector depends on its sequence alone, whatever else is in the batch. An
  // output whose hidden states are not finite is NaN. DataLoss: the device is lost, for good.
  virtual absl::Status Forward(std::span<const SequenceWork> batch) = 0;
};

// The type that most of a checkpoint's values are stored in: float32, float16 or bfloat16. Whoever
// makes a backend for it wants to know. Errors as Model::Load's.
absl::StatusOr<DType> StoredType(const std::string& folder);

struct LoadOptions {
  // "auto", or the type that the backend is expected to compute in. "float8": layers' products in
  // float8 on a backend that has them (Backend::CheckFloat8), all else as the backend computes.
  std::string dtype = "auto";
  // Of float8: what Calibration::Finish has given, in a file; empty: bertrand-fp8.json in the
  // folder.
  std::string float8_path;
};

// Looks at what a checkpoint's layers read while texts run, so that float8 has scales for it. One
// thread at a time; the model must outlive it.
class Calibration {
 public:
  virtual ~Calibration() = default;
  // Runs sequences of together at most `max_tokens` tokens (Model::NewCalibration), none empty.
  virtual absl::Status Run(std::span<const PreparedInput> inputs) = 0;
  // The text of bertrand-fp8.json. FailedPrecondition: nothing has run, or names a layer whose
  // input has no scale.
  virtual absl::StatusOr<std::string> Finish() const = 0;
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
  // FailedPrecondition unless the model has the task: names those it has, and why.
  absl::Status CheckTask(Task task) const;

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

  // Device memory for one document's recurrence: 1 to kMemoryTokensMax tokens, MemoryBytes of them
  // in size. FailedPrecondition unless description().has_memory.
  static constexpr int64_t kMemoryTokensMax = 65536;
  virtual absl::StatusOr<std::unique_ptr<SequenceMemory>> NewMemory(int64_t max_tokens) const;
  virtual int64_t MemoryBytes(int64_t max_tokens) const;

  virtual absl::StatusOr<std::unique_ptr<ModelRunner>> NewRunner(int64_t max_tokens,
                                                                 int64_t max_sequences) const = 0;

  // Of a model on a backend whose memory is the host's, else FailedPrecondition; InvalidArgument
  // where its sizes have no products in float8.
  virtual absl::StatusOr<std::unique_ptr<Calibration>> NewCalibration(int64_t max_tokens) const;
};

}  // namespace bertrand
