#pragma once

// ClassifyZeroShot: labels without training, through an NLI model, as transformers'
// zero-shot-classification pipeline gives them: each text with each label's hypothesis is a pair,
// of which only the text is ever cut. See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/task/request.h"
#include "models/task/scores.h"

namespace bertrand {

struct ZeroShotOptions {
  EncodeOptions encode;  // `truncation` says kFail, or whatever else: the text is cut
  std::string_view hypothesis_template;  // empty: "This example is {}."
  bool multi_label = false;
};

class ZeroShotRequest final : public TaskRequest {
 public:
  // InvalidArgument: no text, no label, a template without {}. Inputs are the texts.
  static absl::StatusOr<std::unique_ptr<ZeroShotRequest>> Create(
      const Model& model, std::vector<std::string_view> texts,
      std::vector<std::string_view> candidate_labels, const ZeroShotOptions& options);

  size_t num_inputs() const override { return texts_.size(); }
  size_t input_bytes(size_t index) const override;
  absl::Status Prepare(size_t index) override;
  int64_t work_bytes() const override;
  int64_t answer_bytes() const override;
  absl::StatusOr<bool> NextStage() override;
  std::span<const SequenceWork> sequences() const override { return sequences_; }
  int64_t num_tokens(size_t index) const override;            // summed over the labels
  int64_t num_truncated_tokens(size_t index) const override;  // the same

  // Of each text, best first; label_id is the candidate's index, labels are views of the
  // candidates.
  absl::StatusOr<std::vector<std::vector<LabelScore>>> Finish();

 private:
  ZeroShotRequest(const Model& model, std::vector<std::string_view> texts,
                  std::vector<std::string_view> labels, const ZeroShotOptions& options);
  std::vector<float> Scores(std::span<const float> logits) const;

  const Model& model_;
  const std::vector<std::string_view> texts_, labels_;
  const ZeroShotOptions options_;
  std::vector<std::string> hypotheses_;
  std::vector<PreparedInput> pairs_;  // [texts, labels]
  std::vector<float> logits_;         // [texts, labels, the model's labels]
  std::vector<LogitsOutput> outputs_;
  std::vector<SequenceWork> sequences_;
  bool laid_out_ = false;
};

}  // namespace bertrand
