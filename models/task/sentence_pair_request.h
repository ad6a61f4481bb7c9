#pragma once

// PredictSentencePair: BERT's next-sentence and ALBERT's sentence-order heads.
// See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <vector>

#include "models/task/inputs_request.h"

namespace bertrand {

struct SentencePairOptions {
  EncodeOptions encode;
};

struct SentencePairPrediction {
  float in_order = 0;  // the second text follows the first
  float not_in_order = 0;
};

class SentencePairRequest final : public InputsRequest {
 public:
  // `pairs` are of Kind::kPair.
  static absl::StatusOr<std::unique_ptr<SentencePairRequest>> Create(
      const Model& model, std::vector<TaskInput> pairs, const SentencePairOptions& options);
  int64_t answer_bytes() const override;

  absl::StatusOr<std::vector<SentencePairPrediction>> Finish();

 private:
  SentencePairRequest(const Model& model, std::vector<TaskInput> pairs,
                      const SentencePairOptions& options);
  std::string InputName(size_t index) const override;
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;

  const LogitsHead head_;
  std::vector<float> logits_;
  std::vector<LogitsOutput> outputs_;
};

}  // namespace bertrand
