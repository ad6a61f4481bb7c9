#pragma once

// AnswerQuestion: spans of a context, as transformers' question-answering pipeline gives them; and
// XLNet's beam head, with which that pipeline crashes: masks and <cls> are given to the head, a
// score is P(start) * P(end), equal answers stay apart.
//
// For XLNet question and special tokens are masked as for the others; transformers' p_mask is all 0
// there, by a slip of operator precedence. See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/task/request.h"
#include "models/task/windows.h"

namespace bertrand {

struct QuestionContext {
  std::string_view question, context;
};

struct AnswerOptions {
  int64_t top_k = 0;                         // 0: 1
  int64_t max_seq_tokens = 0;                // 0: min(model's limit, 384)
  std::optional<int64_t> doc_stride_tokens;  // unset: min(max_seq_tokens / 2, 128)
  int64_t max_answer_tokens = 0;             // 0: 15
  bool allow_no_answer = false;
  bool align_to_words = true;
};

struct Answer {
  std::string text;  // empty with the span 0, 0: no answer
  float score = 0;
  TokenSpan span;  // in the context
};

class AnswerRequest final : public TaskRequest {
 public:
  static absl::StatusOr<std::unique_ptr<AnswerRequest>> Create(const Model& model,
                                                               std::vector<QuestionContext> inputs,
                                                               const AnswerOptions& options);

  size_t num_inputs() const override { return inputs_.size(); }
  size_t input_bytes(size_t index) const override;
  absl::Status Prepare(size_t index) override;
  int64_t work_bytes() const override;
  int64_t answer_bytes() const override;
  absl::StatusOr<bool> NextStage() override;
  std::span<const SequenceWork> sequences() const override { return sequences_; }
  int64_t num_tokens(size_t index) const override;
  int64_t num_truncated_tokens(size_t) const override { return 0; }  // windows drop nothing

  // Of each input, best first.
  absl::StatusOr<std::vector<std::vector<Answer>>> Finish();

 private:
  struct Prepared;
  struct BeamMemory;

  AnswerRequest(const Model& model, std::vector<QuestionContext> inputs,
                const AnswerOptions& options);
  absl::Status SetDefaults();
  void LayOutSpans();
  void LayOutBeams();

 public:
  ~AnswerRequest() override;

 private:
  const Model& model_;
  const std::vector<QuestionContext> inputs_;
  AnswerOptions options_;
  std::vector<Prepared> prepared_;
  std::vector<float> logits_;
  std::vector<LogitsOutput> outputs_;
  std::unique_ptr<BeamMemory> beam_;
  std::vector<SequenceWork> sequences_;
  bool laid_out_ = false;
};

}  // namespace bertrand
