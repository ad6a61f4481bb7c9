#pragma once

// Classify: scores of the labels of a sequence or a pair, as transformers' text-classification
// pipeline gives them. Long texts: the mean of the windows' scores weighted by their tokens; or, as
// segments with a memory, the scores of the last segment.
//
// As with transformers' `tokenizer(a, "")`, a pair whose second text is empty is a single text.
// See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <vector>

#include "models/task/inputs_request.h"
#include "models/task/scores.h"

namespace bertrand {

struct ClassifyOptions {
  EncodeOptions encode;
  LongInputOptions long_input;
  int64_t top_k = 0;                        // 0: every label
  std::optional<ScoreFunction> activation;  // unset: as the checkpoint says
};

class ClassifyRequest final : public InputsRequest {
 public:
  static absl::StatusOr<std::unique_ptr<ClassifyRequest>> Create(const Model& model,
                                                                 std::vector<TaskInput> inputs,
                                                                 const ClassifyOptions& options);
  int64_t answer_bytes() const override;

  // Of each input, best first; equal scores in the labels' order. Labels are views into the model.
  absl::StatusOr<std::vector<std::vector<LabelScore>>> Finish();

 private:
  ClassifyRequest(const Model& model, std::vector<TaskInput> inputs,
                  const ClassifyOptions& options);
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;
  absl::StatusOr<std::vector<float>> Scores(size_t index);

  const ClassifyOptions options_;
  const size_t num_labels_;
  std::vector<float> logits_;
  std::vector<LogitsOutput> outputs_;
};

}  // namespace bertrand
