#pragma once

// Embed: one pooled vector per input (EmbedRequest in bertrand.proto). Long texts: the mean of the
// windows' vectors weighted by their tokens, then normalised; or, as segments with a memory, one
// pooling over all tokens of all segments.
//
// See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <vector>

#include "models/task/inputs_request.h"

namespace bertrand {

struct EmbedOptions {
  EncodeOptions encode;
  std::string_view prompt_name, prompt;  // at most one of the two
  std::optional<PoolingChoice> pooling;  // unset: as the checkpoint says, else mean
  std::optional<bool> normalize;         // unset: as the checkpoint says
  LongInputOptions long_input;
};

class EmbedRequest final : public InputsRequest {
 public:
  static absl::StatusOr<std::unique_ptr<EmbedRequest>> Create(const Model& model,
                                                              std::vector<TaskInput> inputs,
                                                              const EmbedOptions& options);
  // Values of a vector.
  int64_t dimensions() const { return dimensions_; }
  // Whether the vectors come out with length 1.
  bool normalizes() const { return options_.normalize.value_or(model().description().normalizes); }
  int64_t answer_bytes() const override;

  // The vectors, [num_inputs, dimensions], in the request's memory: callers may change them.
  absl::StatusOr<std::span<float>> Finish();

 private:
  EmbedRequest(const Model& model, std::vector<TaskInput> inputs, const EmbedOptions& options);
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;
  void Combine(size_t index, std::span<float> vector) const;

  const EmbedOptions options_;
  int64_t dimensions_ = 0;
  std::vector<float> values_;   // a vector for each sequence
  std::vector<float> results_;  // a vector for each input, where windows were combined
  std::vector<EmbedOutput> outputs_;
};

}  // namespace bertrand
