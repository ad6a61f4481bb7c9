#pragma once

// AnswerQuestion: spans of a context, as transformers' question-answering pipeline gives them; and
// XLNet's beam head, with which that pipeline crashes: masks and <cls> are given to the head, a
// score is P(start) * P(end), equal answers stay apart, and the score of no answer is the head's
// own probability of it.
//
// Where questions come after the context (XLNet), question and special tokens are masked as
// elsewhere; transformers' p_mask is all 0 there, by a slip of operator precedence. Answers of
// score 0 are left out: transformers fills up with them, in no defined order.
//
// See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/task/answers.h"
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
  int64_t num_tokens(size_t index) const override { return prepared_[index].plan.num_tokens(); }
  int64_t num_truncated_tokens(size_t) const override { return 0; }  // windows drop nothing

  // Of each input, best first.
  absl::StatusOr<std::vector<std::vector<Answer>>> Finish();

 private:
  struct Prepared {
    PreparedInput input;
    WindowPlan plan;
    WindowSequences windows;
    size_t first_sequence = 0;
  };
  // A window's tokens, looked at for answers.
  struct WindowView {
    std::vector<TokenSpan> spans;
    std::vector<int32_t> words;
    std::vector<uint8_t> masked;  // 1: neither takes probability nor is an answer
    size_t context_begin = 0, context_end = 0, cls_index = 0;

    WindowTokens tokens() const { return {spans, words, context_begin, context_end}; }
    bool in_context(size_t token) const { return token >= context_begin && token < context_end; }
  };

  AnswerRequest(const Model& model, std::vector<QuestionContext> inputs,
                const AnswerOptions& options);
  absl::Status SetDefaults();
  bool has_beam() const { return model_.description().heads.beam_starts > 0; }
  WindowView View(size_t index, size_t window) const;
  size_t CandidatesEach() const;
  absl::Status CheckCandidates(size_t index) const;
  void LayOutSpans();
  void LayOutBeams();
  std::vector<Answer> FinishSpans(size_t index) const;
  std::vector<Answer> FinishBeams(size_t index) const;
  absl::Status CheckOutput(size_t index) const;

  const Model& model_;
  const std::vector<QuestionContext> inputs_;
  AnswerOptions options_;
  std::vector<Prepared> prepared_;
  std::vector<std::vector<uint8_t>> masks_;  // of each sequence
  std::vector<SpanOutput> outputs_;
  std::vector<ScoredSpan> spans_;
  std::vector<BeamOutput> beams_;
  std::vector<float> beam_scores_;
  std::vector<int32_t> beam_indices_;
  std::vector<SequenceWork> sequences_;
  bool laid_out_ = false;
};

}  // namespace bertrand
