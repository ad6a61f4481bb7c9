#include "models/task/classify_request.h"

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "models/task/wire_bytes.h"

namespace bertrand {
namespace {

InputRules RulesOf(const ClassifyOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  return rules;
}

}  // namespace

ClassifyRequest::ClassifyRequest(const Model& model, std::vector<TaskInput> inputs,
                                 const ClassifyOptions& options)
    : InputsRequest(model, std::move(inputs), RulesOf(options)),
      options_(options),
      num_labels_(model.description().labels.size()) {}

absl::StatusOr<std::unique_ptr<ClassifyRequest>> ClassifyRequest::Create(
    const Model& model, std::vector<TaskInput> inputs, const ClassifyOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kClassify));
  std::unique_ptr<ClassifyRequest> request(new ClassifyRequest(model, std::move(inputs), options));
  BERTRAND_RETURN_IF_ERROR(request->UseLongInput(options.long_input));
  if (request->uses_recurrence() && !model.description().heads.classifies_last_token) {
    return InvalidArgument(
        "long_input.mode: MODE_RECURRENCE needs a classifier that reads the last token, which "
        "remembers the document; this one reads the first");
  }
  return request;
}

int64_t ClassifyRequest::answer_bytes() const {
  int64_t each = 8;
  for (const std::string& label : model().description().labels) {
    each += kLabelScoreWireBytes + static_cast<int64_t>(label.size());
  }
  return each * static_cast<int64_t>(num_inputs());
}

int64_t ClassifyRequest::OutputBytes(int64_t) const {
  return 4 * static_cast<int64_t>(num_labels_);
}

absl::Status ClassifyRequest::LayOut(std::span<SequenceWork> sequences) {
  logits_.resize(sequences.size() * num_labels_);
  outputs_.resize(sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    outputs_[i] = {LogitsHead::kClassifier,
                   std::span(logits_).subspan(i * num_labels_, num_labels_)};
    sequences[i].logits = &outputs_[i];
  }
  return absl::OkStatus();
}

// The scores of an input: of its sequence, or the mean of its windows', weighted by their tokens.
absl::StatusOr<std::vector<float>> ClassifyRequest::Scores(size_t index) {
  const ScoreFunction function = options_.activation.value_or(model().description().heads.classify);
  const Prepared& input = prepared(index);
  std::vector<double> sums(num_labels_, 0.0);
  for (size_t window = 0; window < input.num_sequences(); ++window) {
    const std::span<float> scores = outputs_[input.first_sequence + window].logits;
    BERTRAND_RETURN_IF_ERROR(CheckFinite(scores, InputName(index)));
    ApplyScoreFunction(function, scores);
    const double weight = input.plan.empty() ? 1
                                             : static_cast<double>(input.plan.num_tokens(window)) /
                                                   static_cast<double>(input.num_tokens);
    for (size_t label = 0; label < num_labels_; ++label) sums[label] += weight * scores[label];
  }
  return std::vector<float>(sums.begin(), sums.end());
}

absl::StatusOr<std::vector<std::vector<LabelScore>>> ClassifyRequest::Finish() {
  const std::vector<std::string>& labels = model().description().labels;
  std::vector<std::vector<LabelScore>> results(num_inputs());
  for (size_t i = 0; i < num_inputs(); ++i) {
    BERTRAND_ASSIGN_OR_RETURN(const std::vector<float> scores, Scores(i));
    for (const size_t id : BestFirst(scores, static_cast<size_t>(options_.top_k))) {
      results[i].push_back({labels[id], scores[id], static_cast<uint32_t>(id)});
    }
  }
  return results;
}

}  // namespace bertrand
