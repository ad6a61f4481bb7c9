#pragma once

// Tokenize: ids and spans, without the device: there is no stage.
//
// Without truncation the texts go to the tokenizer as they are, after the prompt, and no limit of
// the model cuts them. See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <vector>

#include "models/task/inputs_request.h"

namespace bertrand {

struct TokenizeOptions {
  // add_special_tokens, truncation, side and max_tokens; the latter three only with `truncate`.
  EncodeOptions encode;
  bool truncate = false;
  std::string_view prompt_name, prompt;  // at most one of the two
};

class TokenizeRequest final : public InputsRequest {
 public:
  // encoding(i) is the result, from Prepare on.
  static absl::StatusOr<std::unique_ptr<TokenizeRequest>> Create(const Model& model,
                                                                 std::vector<TaskInput> inputs,
                                                                 const TokenizeOptions& options);
  int64_t work_bytes() const override { return 0; }
  int64_t answer_bytes() const override;
  absl::StatusOr<bool> NextStage() override { return false; }

 private:
  TokenizeRequest(const Model& model, std::vector<TaskInput> inputs, const PrepareOptions& options);
  int64_t OutputBytes(int64_t) const override { return 0; }
  absl::Status LayOut(std::span<SequenceWork>) override { return absl::OkStatus(); }
};

}  // namespace bertrand
