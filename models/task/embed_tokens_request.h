#pragma once

// EmbedTokens: the hidden states of every token, of one or several layers side by side.
//
// See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <vector>

#include "models/task/inputs_request.h"

namespace bertrand {

struct EmbedTokensOptions {
  EncodeOptions encode;
  std::string_view prompt_name, prompt;  // at most one of the two
  std::vector<int32_t> layers;  // 0: the embeddings' output, n: after layer n, -1: last; empty: -1
};

class EmbedTokensRequest final : public InputsRequest {
 public:
  // encoding(i) has the tokens, spans included.
  static absl::StatusOr<std::unique_ptr<EmbedTokensRequest>> Create(
      const Model& model, std::vector<TaskInput> inputs, const EmbedTokensOptions& options);
  // Values per token: layers asked for x hidden size.
  int64_t dimensions() const { return dimensions_; }
  int64_t answer_bytes() const override;

  // The vectors of each input, [tokens, dimensions], in the request's memory.
  absl::StatusOr<std::vector<std::span<float>>> Finish();

 private:
  EmbedTokensRequest(const Model& model, std::vector<TaskInput> inputs,
                     const EmbedTokensOptions& options);
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;

  std::vector<int32_t> layers_;  // from 0 to the last
  int64_t dimensions_ = 0;
  std::vector<float> values_;
  std::vector<TokensOutput> outputs_;
};

}  // namespace bertrand
