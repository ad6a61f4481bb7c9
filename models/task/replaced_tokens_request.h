#pragma once

// DetectReplacedTokens: ELECTRA's discriminator, a verdict on each token, or on each word by the
// highest score of its tokens; special tokens are left out.
// See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <vector>

#include "models/task/inputs_request.h"

namespace bertrand {

struct ReplacedTokensOptions {
  EncodeOptions encode;
  bool by_word = false;
};

struct TokenVerdict {
  std::string text;  // the source's, or the token where only ids are known
  float score = 0;   // the probability that it was replaced
  bool replaced = false;
  TokenSpan span;
  int8_t sequence = 0;  // the text of a pair that it is in
};

class ReplacedTokensRequest final : public InputsRequest {
 public:
  static absl::StatusOr<std::unique_ptr<ReplacedTokensRequest>> Create(
      const Model& model, std::vector<TaskInput> inputs, const ReplacedTokensOptions& options);
  int64_t answer_bytes() const override;

  absl::StatusOr<std::vector<std::vector<TokenVerdict>>> Finish();

 private:
  ReplacedTokensRequest(const Model& model, std::vector<TaskInput> inputs,
                        const ReplacedTokensOptions& options);
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;
  std::vector<TokenVerdict> FinishInput(size_t index) const;

  const bool by_word_;
  std::vector<float> logits_;
  std::vector<LogitsOutput> outputs_;
};

}  // namespace bertrand
