#include "models/task/zero_shot_request.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/status.h"
#include "models/task/inputs_request.h"
#include "models/task/wire_bytes.h"

namespace bertrand {
namespace {

constexpr std::string_view kDefaultTemplate = "This example is {}.";
constexpr int64_t kSequenceBytes = 256;

// Python's str.format with one argument: {} and {0} once or more, {{ and }} for braces.
absl::StatusOr<std::string> Format(std::string_view pattern, std::string_view label, bool* used) {
  std::string text;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c != '{' && c != '}') {
      text += c;
      continue;
    }
    const std::string_view rest = pattern.substr(i);
    if (rest.starts_with("{{") || rest.starts_with("}}")) {
      text += c;
      ++i;
    } else if (rest.starts_with("{}") || rest.starts_with("{0}")) {
      text += label;
      i += rest[1] == '}' ? 1 : 2;
      *used = true;
    } else {
      return InvalidArgument("hypothesis_template: byte " + std::to_string(i) +
                             " is a brace of its own; {} stands for the label, {{ and }} for "
                             "braces");
    }
  }
  return text;
}

}  // namespace

ZeroShotRequest::ZeroShotRequest(const Model& model, std::vector<std::string_view> texts,
                                 std::vector<std::string_view> labels,
                                 const ZeroShotOptions& options)
    : model_(model),
      texts_(std::move(texts)),
      labels_(std::move(labels)),
      options_(options),
      pairs_(texts_.size() * labels_.size()) {}

absl::StatusOr<std::unique_ptr<ZeroShotRequest>> ZeroShotRequest::Create(
    const Model& model, std::vector<std::string_view> texts,
    std::vector<std::string_view> candidate_labels, const ZeroShotOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kClassifyZeroShot));
  if (texts.empty()) return InvalidArgument("texts: is empty; at least one text is needed");
  if (candidate_labels.empty()) {
    return InvalidArgument("candidate_labels: is empty; at least one label is needed");
  }
  std::unique_ptr<ZeroShotRequest> request(
      new ZeroShotRequest(model, std::move(texts), std::move(candidate_labels), options));
  const std::string_view pattern =
      options.hypothesis_template.empty() ? kDefaultTemplate : options.hypothesis_template;
  for (const std::string_view label : request->labels_) {
    bool used = false;
    BERTRAND_ASSIGN_OR_RETURN(std::string hypothesis, Format(pattern, label, &used));
    if (!used) return InvalidArgument("hypothesis_template: has no {} where the label should go");
    request->hypotheses_.push_back(std::move(hypothesis));
  }
  return request;
}

size_t ZeroShotRequest::input_bytes(size_t index) const {
  size_t bytes = texts_[index].size() * labels_.size();
  for (const std::string& hypothesis : hypotheses_) bytes += hypothesis.size();
  return bytes;
}

absl::Status ZeroShotRequest::Prepare(size_t index) {
  PrepareOptions prepare;
  prepare.encode = options_.encode;
  // The hypothesis is never cut (_parse_and_tokenize: only_first).
  if (prepare.encode.truncation != TruncationMode::kFail) {
    prepare.encode.truncation = TruncationMode::kOnlyFirst;
  }
  for (size_t label = 0; label < labels_.size(); ++label) {
    // A list of pairs: an empty hypothesis stays one of a pair.
    const std::string_view hypothesis = hypotheses_[label];
    const TextInput input{.first = texts_[index], .second = &hypothesis};
    PreparedInput& pair = pairs_[index * labels_.size() + label];
    absl::Status status = model_.Prepare(input, prepare, &pair);
    if (status.ok() && pair.encoding.ids.empty()) status = InvalidArgument("has no tokens");
    if (!status.ok()) {
      return Annotate(status, "texts[" + std::to_string(index) + "] with candidate_labels[" +
                                  std::to_string(label) + "]");
    }
  }
  return absl::OkStatus();
}

int64_t ZeroShotRequest::work_bytes() const {
  return static_cast<int64_t>(pairs_.size()) *
         (kSequenceBytes + 4 * static_cast<int64_t>(model_.description().labels.size()));
}

int64_t ZeroShotRequest::answer_bytes() const {
  int64_t each = 8;
  for (const std::string_view label : labels_) {
    each += kLabelScoreWireBytes + static_cast<int64_t>(label.size());
  }
  return each * static_cast<int64_t>(texts_.size());
}

absl::StatusOr<bool> ZeroShotRequest::NextStage() {
  sequences_.clear();
  if (laid_out_) return false;
  laid_out_ = true;
  const size_t width = model_.description().labels.size();
  logits_.resize(pairs_.size() * width);
  outputs_.resize(pairs_.size());
  sequences_.resize(pairs_.size());
  for (size_t i = 0; i < pairs_.size(); ++i) {
    outputs_[i] = {LogitsHead::kClassifier, std::span(logits_).subspan(i * width, width)};
    sequences_[i].ids = pairs_[i].encoding.ids;
    sequences_[i].type_ids = pairs_[i].encoding.type_ids;
    sequences_[i].logits = &outputs_[i];
  }
  return true;
}

int64_t ZeroShotRequest::num_tokens(size_t index) const {
  int64_t sum = 0;
  for (size_t label = 0; label < labels_.size(); ++label) {
    sum += static_cast<int64_t>(pairs_[index * labels_.size() + label].encoding.ids.size());
  }
  return sum;
}

int64_t ZeroShotRequest::num_truncated_tokens(size_t index) const {
  int64_t sum = 0;
  for (size_t label = 0; label < labels_.size(); ++label) {
    sum += pairs_[index * labels_.size() + label].encoding.num_truncated;
  }
  return sum;
}

// pipelines/zero_shot_classification.py, postprocess, of one text's logits [labels, width].
std::vector<float> ZeroShotRequest::Scores(std::span<const float> logits) const {
  const HeadTraits& traits = model_.description().heads;
  const size_t width = model_.description().labels.size();
  const auto entailment = static_cast<size_t>(traits.entailment);
  const auto contradiction = static_cast<size_t>(traits.contradiction);
  std::vector<float> scores(labels_.size());
  for (size_t label = 0; label < labels_.size(); ++label) {
    scores[label] = logits[label * width + entailment];
  }
  if (!options_.multi_label && labels_.size() > 1) {
    Softmax(scores);
    return scores;
  }
  for (size_t label = 0; label < labels_.size(); ++label) {
    float both[2] = {logits[label * width + contradiction], scores[label]};
    Softmax(both);
    scores[label] = both[1];
  }
  return scores;
}

absl::StatusOr<std::vector<std::vector<LabelScore>>> ZeroShotRequest::Finish() {
  std::vector<std::vector<LabelScore>> results(texts_.size());
  const size_t size = labels_.size() * model_.description().labels.size();
  for (size_t i = 0; i < texts_.size(); ++i) {
    const std::span<const float> logits = std::span(logits_).subspan(i * size, size);
    BERTRAND_RETURN_IF_ERROR(CheckFinite(logits, "texts[" + std::to_string(i) + "]"));
    const std::vector<float> scores = Scores(logits);
    // transformers sorts by a reversed argsort.
    for (const size_t label : BestFirst(scores, 0, Ties::kHigherFirst)) {
      results[i].push_back({labels_[label], scores[label], static_cast<uint32_t>(label)});
    }
  }
  return results;
}

}  // namespace bertrand
