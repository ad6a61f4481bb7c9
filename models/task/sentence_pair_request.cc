#include "models/task/sentence_pair_request.h"

#include <utility>

#include "kernels/status.h"
#include "models/task/scores.h"

namespace bertrand {
namespace {

constexpr int64_t kPredictionWireBytes = 16;

InputRules RulesOf(const SentencePairOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  return rules;
}

}  // namespace

SentencePairRequest::SentencePairRequest(const Model& model, std::vector<TaskInput> pairs,
                                         const SentencePairOptions& options)
    : InputsRequest(model, std::move(pairs), RulesOf(options)),
      head_(model.description().heads.orders_sentences ? LogitsHead::kSentenceOrder
                                                       : LogitsHead::kNextSentence) {}

absl::StatusOr<std::unique_ptr<SentencePairRequest>> SentencePairRequest::Create(
    const Model& model, std::vector<TaskInput> pairs, const SentencePairOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kPredictSentencePair));
  return std::unique_ptr<SentencePairRequest>(
      new SentencePairRequest(model, std::move(pairs), options));
}

std::string SentencePairRequest::InputName(size_t index) const {
  return "pairs[" + std::to_string(index) + "]";
}

int64_t SentencePairRequest::answer_bytes() const {
  return kPredictionWireBytes * static_cast<int64_t>(num_inputs());
}

int64_t SentencePairRequest::OutputBytes(int64_t) const { return 8; }

absl::Status SentencePairRequest::LayOut(std::span<SequenceWork> sequences) {
  logits_.resize(2 * sequences.size());
  outputs_.resize(sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    outputs_[i] = {head_, std::span(logits_).subspan(2 * i, 2)};
    sequences[i].logits = &outputs_[i];
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SentencePairPrediction>> SentencePairRequest::Finish() {
  std::vector<SentencePairPrediction> results;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const std::span<float> scores = outputs_[i].logits;
    BERTRAND_RETURN_IF_ERROR(CheckFinite(scores, InputName(i)));
    Softmax(scores);
    // Both heads: label 0 is a continuation, or the right order.
    results.push_back({scores[0], scores[1]});
  }
  return results;
}

}  // namespace bertrand
