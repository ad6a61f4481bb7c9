#pragma once

// EmbedSparse: SPLADE vectors, log1p(relu(logits)) of the masked-LM head, the largest of all tokens
// (special ones too). See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <vector>

#include "models/task/inputs_request.h"

namespace bertrand {

struct EmbedSparseOptions {
  EncodeOptions encode;
  std::string_view prompt_name, prompt;  // at most one of the two
  int64_t top_k = 0;                     // the largest weights; 0: every weight that is not zero
};

struct SparseVector {
  std::vector<uint32_t> indices;  // ids, ascending
  std::vector<float> values;
};

class EmbedSparseRequest final : public InputsRequest {
 public:
  static absl::StatusOr<std::unique_ptr<EmbedSparseRequest>> Create(
      const Model& model, std::vector<TaskInput> inputs, const EmbedSparseOptions& options);
  int64_t answer_bytes() const override;

  absl::StatusOr<std::vector<SparseVector>> Finish();

 private:
  EmbedSparseRequest(const Model& model, std::vector<TaskInput> inputs,
                     const EmbedSparseOptions& options);
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;

  const int64_t top_k_;
  std::vector<float> weights_;
  std::vector<SparseOutput> outputs_;
};

}  // namespace bertrand
