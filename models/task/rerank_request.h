#pragma once

// Rerank: the relevance of documents to a query, as sentence-transformers' CrossEncoder.rank gives
// it: each document is the second text of a pair, an empty one too.
// See models/task/request.h for how a request runs.

#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "models/task/inputs_request.h"

namespace bertrand {

struct RerankOptions {
  EncodeOptions encode;
  int64_t top_n = 0;                        // 0: all
  std::optional<ScoreFunction> activation;  // unset: as the checkpoint says
};

struct Rank {
  size_t index = 0;  // of the document
  float score = 0;
};

class RerankRequest final : public InputsRequest {
 public:
  // Inputs are the documents.
  static absl::StatusOr<std::unique_ptr<RerankRequest>> Create(
      const Model& model, std::string_view query, std::vector<std::string_view> documents,
      const RerankOptions& options);
  int64_t answer_bytes() const override;  // without the documents' texts

  // Best first; equal scores in the documents' order.
  absl::StatusOr<std::vector<Rank>> Finish();

 private:
  RerankRequest(const Model& model, std::vector<TaskInput> pairs, const RerankOptions& options);
  std::string InputName(size_t index) const override;
  int64_t OutputBytes(int64_t num_tokens) const override;
  absl::Status LayOut(std::span<SequenceWork> sequences) override;

  const RerankOptions options_;
  std::vector<float> logits_;
  std::vector<LogitsOutput> outputs_;
};

}  // namespace bertrand
