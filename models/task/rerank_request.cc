#include "models/task/rerank_request.h"

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "models/task/scores.h"

namespace bertrand {
namespace {

constexpr int64_t kRankWireBytes = 16;

InputRules RulesOf(const RerankOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  rules.empty_second_is_pair = true;
  return rules;
}

}  // namespace

RerankRequest::RerankRequest(const Model& model, std::vector<TaskInput> pairs,
                             const RerankOptions& options)
    : InputsRequest(model, std::move(pairs), RulesOf(options)), options_(options) {}

absl::StatusOr<std::unique_ptr<RerankRequest>> RerankRequest::Create(
    const Model& model, std::string_view query, std::vector<std::string_view> documents,
    const RerankOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kRerank));
  if (documents.empty()) {
    return InvalidArgument("documents: is empty; at least one document is needed");
  }
  std::vector<TaskInput> pairs(documents.size());
  for (size_t i = 0; i < pairs.size(); ++i) {
    pairs[i].kind = TaskInput::Kind::kPair;
    pairs[i].first = query;
    pairs[i].second = documents[i];
  }
  return std::unique_ptr<RerankRequest>(new RerankRequest(model, std::move(pairs), options));
}

std::string RerankRequest::InputName(size_t index) const {
  return "documents[" + std::to_string(index) + "]";
}

int64_t RerankRequest::answer_bytes() const {
  return kRankWireBytes * static_cast<int64_t>(num_inputs());
}

int64_t RerankRequest::OutputBytes(int64_t) const { return 4; }

absl::Status RerankRequest::LayOut(std::span<SequenceWork> sequences) {
  logits_.resize(sequences.size());
  outputs_.resize(sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    outputs_[i] = {LogitsHead::kClassifier, std::span(logits_).subspan(i, 1)};
    sequences[i].logits = &outputs_[i];
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Rank>> RerankRequest::Finish() {
  const ScoreFunction function = options_.activation.value_or(model().description().heads.rerank);
  for (size_t i = 0; i < logits_.size(); ++i) {
    BERTRAND_RETURN_IF_ERROR(CheckFinite(outputs_[i].logits, InputName(i)));
    ApplyScoreFunction(function, outputs_[i].logits);
  }
  std::vector<Rank> ranks;
  for (const size_t index : BestFirst(logits_, static_cast<size_t>(options_.top_n))) {
    ranks.push_back({index, logits_[index]});
  }
  return ranks;
}

}  // namespace bertrand
