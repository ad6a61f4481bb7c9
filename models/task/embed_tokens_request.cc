#include "models/task/embed_tokens_request.h"

#include <string>
#include <utility>

#include "kernels/status.h"
#include "models/task/wire_bytes.h"

namespace bertrand {
namespace {

InputRules RulesOf(const EmbedTokensOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  rules.prepare.encode.want_spans = true;
  rules.prepare.prompt_name = options.prompt_name;
  rules.prepare.prompt = options.prompt;
  rules.prepare.as_sentence = true;
  rules.empty_second_is_pair = true;
  return rules;
}

// Layers as ModelRunner wants them: from 0 to the last. A layer may be asked for twice; how many
// there may be follows from the answer's size, which is checked before anything is computed.
absl::StatusOr<std::vector<int32_t>> ResolveLayers(std::span<const int32_t> layers,
                                                   int64_t num_layers) {
  const auto last = static_cast<int32_t>(num_layers);
  std::vector<int32_t> resolved;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] < -1 || layers[i] > last) {
      return InvalidArgument("layers[" + std::to_string(i) + "]: " + std::to_string(layers[i]) +
                             " is not between -1 and " + std::to_string(last));
    }
    resolved.push_back(layers[i] == -1 ? last : layers[i]);
  }
  if (resolved.empty()) resolved.push_back(last);
  return resolved;
}

}  // namespace

EmbedTokensRequest::EmbedTokensRequest(const Model& model, std::vector<TaskInput> inputs,
                                       const EmbedTokensOptions& options)
    : InputsRequest(model, std::move(inputs), RulesOf(options)) {}

absl::StatusOr<std::unique_ptr<EmbedTokensRequest>> EmbedTokensRequest::Create(
    const Model& model, std::vector<TaskInput> inputs, const EmbedTokensOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kEmbedTokens));
  BERTRAND_RETURN_IF_ERROR(CheckPrompt(options.prompt_name, options.prompt));
  std::unique_ptr<EmbedTokensRequest> request(
      new EmbedTokensRequest(model, std::move(inputs), options));
  const ModelDescription& about = model.description();
  BERTRAND_ASSIGN_OR_RETURN(request->layers_, ResolveLayers(options.layers, about.num_layers));
  request->dimensions_ = static_cast<int64_t>(request->layers_.size()) * about.hidden_size;
  return request;
}

int64_t EmbedTokensRequest::answer_bytes() const {
  int64_t bytes = 0;
  for (size_t i = 0; i < num_inputs(); ++i) {
    bytes += TokensWireBytes(model().tokenizer(), encoding(i)) + 4 * dimensions_ * num_tokens(i);
  }
  return bytes;
}

int64_t EmbedTokensRequest::OutputBytes(int64_t num_tokens) const {
  return 4 * dimensions_ * num_tokens;
}

absl::Status EmbedTokensRequest::LayOut(std::span<SequenceWork> sequences) {
  const auto width = static_cast<size_t>(dimensions_);
  size_t num_values = 0;
  for (const SequenceWork& work : sequences) num_values += work.ids.size() * width;
  values_.resize(num_values);
  outputs_.resize(sequences.size());
  std::span<float> left(values_);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const size_t size = sequences[i].ids.size() * width;
    outputs_[i] = {.layers = layers_, .vectors = left.first(size)};
    left = left.subspan(size);
    sequences[i].tokens = &outputs_[i];
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::span<float>>> EmbedTokensRequest::Finish() {
  std::vector<std::span<float>> results;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    BERTRAND_RETURN_IF_ERROR(CheckFinite(outputs_[i].vectors, InputName(i)));
    results.push_back(outputs_[i].vectors);
  }
  return results;
}

}  // namespace bertrand
