#pragma once

// The heads of a checkpoint: from hidden states of chosen tokens to logits. Which there are is told
// by the weights (models/config/head_config.h says where to look).
//
// TaskHeads owns its weights on the device, is immutable after Load and thread-safe; the encoder
// and the backend must outlive it. A HeadsWorkspace is one batch's memory. Running allocates
// nothing. Rows are worked on in chunks of at most HeadsWorkspace::rows(), because logits over a
// vocabulary are large.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "models/checkpoint/weight_loader.h"
#include "models/config/head_config.h"
#include "models/encoder/encoder.h"

namespace bertrand {

class TaskHeads;

// How SPLADE vectors are made of logits (SparsePoolParams).
struct SparsePooling {
  bool sum = false;
  bool log_twice = false;
};

class HeadsWorkspace {
 public:
  // For batches of at most max_tokens tokens.
  static absl::StatusOr<HeadsWorkspace> Create(const Backend& backend, const TaskHeads& heads,
                                               int64_t max_tokens);

  // Rows of a chunk, and of a chunk for the masked-LM head.
  int64_t rows() const { return rows_; }
  int64_t vocabulary_rows() const { return vocabulary_rows_; }

  // [rows, hidden]: where a chunk's hidden states are gathered.
  TensorView input(int64_t rows) const { return View(*input_, rows, hidden_size_); }
  // [rows, 2 hidden]: those of the beam head, side by side with another's.
  TensorView pairs(int64_t rows) const { return View(*input_, rows, 2 * hidden_size_); }
  // [vocab_size]: a SPLADE vector on its way.
  TensorView sparse() const { return {sparse_->data(), dtype_, {vocab_size_}}; }
  // [rows, k] each, of at most candidates_max() values.
  TensorView values(int64_t rows, int64_t k) const { return View(*values_, rows, k); }
  TensorView indices(int64_t rows, int64_t k) const {
    return {indices_->data(), DType::kInt32, {rows, k}};
  }
  int64_t candidates_max() const { return candidates_max_; }
  // [tokens, 2], of at most max_tokens: logits of answers' starts and ends.
  TensorView answer_logits(int64_t tokens) const { return View(*answer_logits_, tokens, 2); }
  // int32 [vocab_size]: the ids to choose from.
  TensorView targets(int64_t size) const { return {targets_->data(), DType::kInt32, {size}}; }

 private:
  friend class TaskHeads;
  HeadsWorkspace() = default;
  TensorView View(const Buffer& buffer, int64_t rows, int64_t columns) const {
    return {buffer.data(), dtype_, {rows, columns}};
  }

  DType dtype_{};
  int64_t hidden_size_ = 0, vocab_size_ = 0;
  int64_t rows_ = 0, vocabulary_rows_ = 0, candidates_max_ = 0;
  std::unique_ptr<Buffer> input_, front_, back_;
  std::unique_ptr<Buffer> answer_logits_;  // only with the answers' head
  // Only with a masked-LM head.
  std::unique_ptr<Buffer> logits_, sparse_, values_, indices_, targets_;
};

class TaskHeads {
 public:
  // A head whose tensors are not all there, of the right shapes, is absent; but when config.json
  // names the head, and a part of it is there, what is missing or of another shape is an error that
  // names it.
  static absl::StatusOr<std::unique_ptr<TaskHeads>> Load(const HeadConfig& config,
                                                         const EncoderNames& names,
                                                         const EncoderConfig& encoder,
                                                         const WeightFiles& files,
                                                         const Backend& backend);
  // The encoder, whose pooler some heads read, comes after the heads. Requires: outlives them.
  void set_encoder(const Encoder* encoder) { encoder_ = encoder; }
  void set_sparse_pooling(const SparsePooling& pooling) { sparse_pooling_ = pooling; }

  bool has(LogitsHead head) const { return Find(head) != nullptr; }
  bool has_masked_lm() const { return !masked_lm_.layers.empty(); }
  bool has_beam() const { return beam_.start != nullptr; }
  const SparsePooling& sparse_pooling() const { return sparse_pooling_; }
  int64_t num_starts() const { return beam_.num_starts; }
  int64_t num_ends() const { return beam_.num_ends; }
  bool any() const { return !logits_.empty() || has_masked_lm() || has_beam(); }
  // config.json names a head, and the file has no weights of it.
  bool lacks_named_head() const { return lacks_named_head_; }

  // Requires has(head): values of a row of logits; whether there is a row for every token, and if
  // not, whether it is the last token's.
  int64_t width(LogitsHead head) const;
  bool reads_every_token(LogitsHead head) const { return head >= LogitsHead::kTokenClassifier; }
  bool reads_last_token(LogitsHead head) const { return Find(head)->on_last_token; }

  uint64_t num_parameters() const { return num_parameters_; }
  uint64_t weight_bytes() const { return weight_bytes_; }
  // Names of tensors that were read.
  const std::set<std::string, std::less<>>& used_tensors() const { return used_tensors_; }

  // Rows of hidden states -> logits. `x` is workspace.input(R), R <= workspace.rows() (for the
  // vocabulary: vocabulary_rows()); the result lies in the workspace until the next call.
  absl::StatusOr<TensorView> Logits(Stream& stream, LogitsHead head, const TensorView& x,
                                    HeadsWorkspace& workspace) const;
  // Requires has(kAnswerSpan). Start and end logits into `y` [R, 2].
  absl::Status AnswerLogits(Stream& stream, const TensorView& x, HeadsWorkspace& workspace,
                            const TensorView& y) const;
  absl::StatusOr<TensorView> VocabularyLogits(Stream& stream, const TensorView& x,
                                              HeadsWorkspace& workspace) const;
  // The parts of the beam head, each [R, 1]: `x` is workspace.input(R), then workspace.pairs(R)
  // with [state, state of the start], and [state of the start, state of <cls>].
  absl::StatusOr<TensorView> BeamStarts(Stream& stream, const TensorView& x,
                                        HeadsWorkspace& workspace) const;
  absl::StatusOr<TensorView> BeamEnds(Stream& stream, const TensorView& pairs,
                                      HeadsWorkspace& workspace) const;
  absl::StatusOr<TensorView> BeamNoAnswer(Stream& stream, const TensorView& pairs,
                                          HeadsWorkspace& workspace) const;

 private:
  friend class HeadsWorkspace;
  struct Layer {
    std::unique_ptr<PackedLinear> linear;
    Activation activation = Activation::kNone;
    NormWeights norm;
    bool has_norm = false;
    float norm_eps = 0;
  };
  struct Stack {
    LogitsHead head{};
    bool on_pooler = false, on_last_token = false;
    std::vector<Layer> layers;
  };
  struct Beam {
    std::unique_ptr<PackedLinear> start;
    Layer end_dense, end, class_dense, class_out;
    int64_t num_starts = 0, num_ends = 0;
  };
  struct Source;

  TaskHeads(const EncoderConfig& encoder, const Backend& backend)
      : backend_(backend), hidden_size_(encoder.hidden_size), vocab_size_(encoder.vocab_size) {}
  const Stack* Find(LogitsHead head) const;
  absl::Status LoadAll(const HeadConfig& config, const Source& source, WeightLoader& loader);
  absl::StatusOr<std::vector<Layer>> LoadLayers(const std::vector<HeadLayer>& layers,
                                                WeightLoader& loader) const;
  absl::Status LoadMaskedLm(const MaskedLmNames& names, const Source& source, WeightLoader& loader);
  absl::Status LoadBeam(const BeamNames& names, WeightLoader& loader);
  absl::StatusOr<TensorView> RunLayer(Stream& stream, const Layer& layer, const TensorView& x,
                                      void* y) const;
  absl::StatusOr<TensorView> RunLayers(Stream& stream, const std::vector<Layer>& layers,
                                       size_t count, TensorView x, HeadsWorkspace& workspace) const;

  const Backend& backend_;
  const Encoder* encoder_ = nullptr;
  const int64_t hidden_size_, vocab_size_;
  std::vector<Stack> logits_;
  Stack masked_lm_;  // the last layer is the decoder
  Beam beam_;
  SparsePooling sparse_pooling_;
  bool lacks_named_head_ = false;
  uint64_t num_parameters_ = 0, weight_bytes_ = 0;
  std::set<std::string, std::less<>> used_tensors_;
};

}  // namespace bertrand
