#include "models/task/embed_sparse_request.h"

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "models/task/scores.h"

namespace bertrand {
namespace {

// An index as a varint of up to 5 bytes, and a float.
constexpr int64_t kWeightWireBytes = 9;

InputRules RulesOf(const EmbedSparseOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  rules.prepare.prompt_name = options.prompt_name;
  rules.prepare.prompt = options.prompt;
  rules.prepare.as_sentence = true;
  rules.empty_second_is_pair = true;
  return rules;
}

}  // namespace

EmbedSparseRequest::EmbedSparseRequest(const Model& model, std::vector<TaskInput> inputs,
                                       const EmbedSparseOptions& options)
    : InputsRequest(model, std::move(inputs), RulesOf(options)), top_k_(options.top_k) {}

absl::StatusOr<std::unique_ptr<EmbedSparseRequest>> EmbedSparseRequest::Create(
    const Model& model, std::vector<TaskInput> inputs, const EmbedSparseOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kEmbedSparse));
  BERTRAND_RETURN_IF_ERROR(CheckPrompt(options.prompt_name, options.prompt));
  return std::unique_ptr<EmbedSparseRequest>(
      new EmbedSparseRequest(model, std::move(inputs), options));
}

int64_t EmbedSparseRequest::answer_bytes() const {
  const int64_t vocabulary = model().description().vocab_size;
  const int64_t weights = top_k_ > 0 ? std::min(top_k_, vocabulary) : vocabulary;
  return static_cast<int64_t>(num_inputs()) * (16 + kWeightWireBytes * weights);
}

int64_t EmbedSparseRequest::OutputBytes(int64_t) const {
  return 4 * model().description().vocab_size;
}

absl::Status EmbedSparseRequest::LayOut(std::span<SequenceWork> sequences) {
  const auto width = static_cast<size_t>(model().description().vocab_size);
  weights_.resize(sequences.size() * width);
  outputs_.resize(sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    outputs_[i].weights = std::span(weights_).subspan(i * width, width);
    sequences[i].sparse = &outputs_[i];
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SparseVector>> EmbedSparseRequest::Finish() {
  std::vector<SparseVector> results(outputs_.size());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const std::span<const float> weights = outputs_[i].weights;
    BERTRAND_RETURN_IF_ERROR(CheckFinite(weights, InputName(i)));
    SparseVector& result = results[i];
    if (top_k_ == 0) {
      for (size_t id = 0; id < weights.size(); ++id) {
        if (weights[id] == 0) continue;
        result.indices.push_back(static_cast<uint32_t>(id));
        result.values.push_back(weights[id]);
      }
      continue;
    }
    std::vector<size_t> best = BestFirst(weights, static_cast<size_t>(top_k_));
    std::sort(best.begin(), best.end());
    for (const size_t id : best) {
      if (weights[id] == 0) continue;
      result.indices.push_back(static_cast<uint32_t>(id));
      result.values.push_back(weights[id]);
    }
  }
  return results;
}

}  // namespace bertrand
