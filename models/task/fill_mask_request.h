#pragma once

// FillMask: candidates for each mask token, as transformers' fill-mask pipeline gives them.
// See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/task/inputs_request.h"

namespace bertrand {

struct FillMaskOptions {
  EncodeOptions encode;
  int64_t top_k = 0;                      // 0: 5
  std::vector<std::string_view> targets;  // score only these words
};

struct MaskCandidate {
  std::string text;      // the token, decoded
  std::string sequence;  // the input with it in place
  float score = 0;
  int32_t id = 0;
};

struct FilledMask {
  TokenSpan span;
  int8_t sequence = 0;                    // the text of a pair that the mask is in
  std::vector<MaskCandidate> candidates;  // best first
};

class FillMaskRequest final : public InputsRequest {
 public:
  // InvalidArgument: a target that no token comes of.
  static absl::StatusOr<std::unique_ptr<FillMaskRequest>> Create(const Model& model,
                                                                 std::vector<TaskInput> inputs,
                                                                 const FillMaskOptions& options);
  int64_t work_bytes() const override;
  int64_t answer_bytes() const override;

  // Of each input, its masks in their order.
  absl::StatusOr<std::vector<std::vector<FilledMask>>> Finish();

 private:
  FillMaskRequest(const Model& model, std::vector<TaskInput> inputs,
                  const FillMaskOptions& options);
  absl::Status FindTargets(std::span<const std::string_view> targets);
  absl::Status Check(size_t index) const override;
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;
  int64_t NumMasks(size_t index) const;
  absl::StatusOr<MaskCandidate> Candidate(size_t index, size_t position, int32_t id,
                                          float score) const;

  int32_t mask_id_ = 0;
  int64_t num_candidates_ = 0;    // for each mask
  std::vector<int32_t> targets_;  // ids, ascending
  std::vector<int32_t> positions_;
  std::vector<int32_t> ids_;
  std::vector<float> scores_;
  std::vector<MaskOutput> outputs_;
};

}  // namespace bertrand
