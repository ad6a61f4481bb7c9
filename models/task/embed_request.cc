#include "models/task/embed_request.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

InputRules RulesOf(const EmbedOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  rules.prepare.prompt_name = options.prompt_name;
  rules.prepare.prompt = options.prompt;
  rules.prepare.as_sentence = true;
  rules.empty_second_is_pair = true;
  return rules;
}

// torch.nn.functional.normalize.
void Normalize(std::span<float> vector) {
  double squares = 0;
  for (const float value : vector) squares += double{value} * value;
  const double norm = std::max(std::sqrt(squares), 1e-12);
  for (float& value : vector) value = static_cast<float>(value / norm);
}

}  // namespace

EmbedRequest::EmbedRequest(const Model& model, std::vector<TaskInput> inputs,
                           const EmbedOptions& options)
    : InputsRequest(model, std::move(inputs), RulesOf(options)), options_(options) {}

absl::StatusOr<std::unique_ptr<EmbedRequest>> EmbedRequest::Create(const Model& model,
                                                                   std::vector<TaskInput> inputs,
                                                                   const EmbedOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kEmbed));
  BERTRAND_RETURN_IF_ERROR(CheckPrompt(options.prompt_name, options.prompt));
  std::unique_ptr<EmbedRequest> request(new EmbedRequest(model, std::move(inputs), options));
  BERTRAND_ASSIGN_OR_RETURN(request->dimensions_, model.EmbedDimensions(options.pooling));
  BERTRAND_RETURN_IF_ERROR(request->UseLongInput(options.long_input));
  return request;
}

int64_t EmbedRequest::answer_bytes() const {
  return static_cast<int64_t>(num_inputs()) * (4 * dimensions_ + 16);
}

int64_t EmbedRequest::OutputBytes(int64_t) const {
  // A window's vector, and its share in the input's.
  return (uses_windows() ? 2 : 1) * 4 * dimensions_;
}

absl::Status EmbedRequest::LayOut(std::span<SequenceWork> sequences) {
  const auto width = static_cast<size_t>(dimensions_);
  values_.resize(sequences.size() * width);
  outputs_.resize(sequences.size());
  for (const Prepared& prepared : all_prepared()) {
    for (size_t window = 0; window < prepared.num_sequences(); ++window) {
      const size_t at = prepared.first_sequence + window;
      EmbedOutput& output = outputs_[at];
      output.pooling = options_.pooling;
      // Windows are combined before they are normalised.
      output.normalize = prepared.plan.empty() ? options_.normalize : false;
      if (window == 0) output.num_prompt_tokens = prepared.input.num_prompt_tokens;
      output.vector = std::span(values_).subspan(at * width, width);
      sequences[at].embed = &output;
    }
  }
  return absl::OkStatus();
}

// The mean of the windows' vectors, weighted by their tokens.
void EmbedRequest::Combine(size_t index, std::span<float> vector) const {
  const Prepared& windows = prepared(index);
  const size_t width = vector.size();
  const float* const first = values_.data() + windows.first_sequence * width;
  if (windows.plan.empty()) {
    std::copy_n(first, width, vector.begin());
    return;
  }
  for (size_t j = 0; j < width; ++j) {
    double sum = 0;
    for (size_t window = 0; window < windows.plan.size(); ++window) {
      sum += static_cast<double>(windows.plan.num_tokens(window)) * first[window * width + j];
    }
    vector[j] = static_cast<float>(sum / static_cast<double>(windows.num_tokens));
  }
  if (normalizes()) Normalize(vector);
}

absl::StatusOr<std::span<float>> EmbedRequest::Finish() {
  const auto width = static_cast<size_t>(dimensions_);
  std::span<float> results(values_);
  if (uses_windows()) {
    results_.resize(num_inputs() * width);
    results = results_;
    for (size_t i = 0; i < num_inputs(); ++i) Combine(i, results.subspan(i * width, width));
  }
  for (size_t i = 0; i < num_inputs(); ++i) {
    BERTRAND_RETURN_IF_ERROR(CheckFinite(results.subspan(i * width, width), InputName(i)));
  }
  return results;
}

}  // namespace bertrand
