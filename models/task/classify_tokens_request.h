#pragma once

// ClassifyTokens: labelled tokens, words or spans, as transformers' token-classification pipeline
// gives them. See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/task/entities.h"
#include "models/task/inputs_request.h"

namespace bertrand {

struct ClassifyTokensOptions {
  EncodeOptions encode;
  EntityAggregation aggregation = EntityAggregation::kNone;
  std::vector<std::string_view> ignore_labels;  // empty: "O", unless keep_all_labels
  bool keep_all_labels = false;
  std::optional<int64_t> stride_tokens;  // set: windows over long texts; with grouping only
};

class ClassifyTokensRequest final : public InputsRequest {
 public:
  static absl::StatusOr<std::unique_ptr<ClassifyTokensRequest>> Create(
      const Model& model, std::vector<TaskInput> inputs, const ClassifyTokensOptions& options);
  int64_t answer_bytes() const override;

  absl::StatusOr<std::vector<std::vector<Entity>>> Finish();

 private:
  ClassifyTokensRequest(const Model& model, std::vector<TaskInput> inputs,
                        const ClassifyTokensOptions& options);
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;
  std::vector<ClassifiedToken> Classified(size_t index, size_t window, int8_t which) const;
  bool IsIgnored(const Entity& entity) const;
  std::vector<Entity> FinishInput(size_t index);

  const ClassifyTokensOptions options_;
  const size_t num_labels_;
  std::vector<float> logits_;
  std::vector<LogitsOutput> outputs_;
};

}  // namespace bertrand
