#include "models/task/classify_tokens_request.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/status.h"
#include "models/task/scores.h"
#include "models/task/wire_bytes.h"

namespace bertrand {
namespace {

constexpr std::string_view kOutside = "O";

InputRules RulesOf(const ClassifyTokensOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  rules.prepare.encode.want_spans = true;
  return rules;
}

size_t CountCodePoints(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

// pipelines/token_classification.py, gather_pre_entities: whether a token goes on with a word.
bool IsSubword(const Tokenizer& tokenizer, std::string_view text, std::string_view source,
               const TokenSpan& span) {
  if (tokenizer.has_subword_prefix()) {
    const size_t source_size = span.end - span.start;
    return CountCodePoints(text) != source_size;
  }
  // A space at the start, or the code point before it.
  if (span.start == 0) return false;
  if (span.start_byte < source.size() && source[span.start_byte] == ' ') return false;
  return source[span.start_byte - 1] != ' ';
}

}  // namespace

ClassifyTokensRequest::ClassifyTokensRequest(const Model& model, std::vector<TaskInput> inputs,
                                             const ClassifyTokensOptions& options)
    : InputsRequest(model, std::move(inputs), RulesOf(options)),
      options_(options),
      num_labels_(model.description().labels.size()) {}

absl::StatusOr<std::unique_ptr<ClassifyTokensRequest>> ClassifyTokensRequest::Create(
    const Model& model, std::vector<TaskInput> inputs, const ClassifyTokensOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kClassifyTokens));
  std::unique_ptr<ClassifyTokensRequest> request(
      new ClassifyTokensRequest(model, std::move(inputs), options));
  if (!options.stride_tokens) return request;
  if (options.aggregation == EntityAggregation::kNone) {
    return InvalidArgument(
        "stride_tokens: windows need an aggregation, since their entities are merged");
  }
  // Without a limit all is one window, as in transformers.
  if (TokenLimit(model, options.encode) == std::numeric_limits<int64_t>::max()) return request;
  BERTRAND_RETURN_IF_ERROR(request->UseWindows(
      0, *options.stride_tokens, {.window = "truncation.max_tokens", .overlap = "stride_tokens"}));
  return request;
}

int64_t ClassifyTokensRequest::answer_bytes() const {
  size_t longest_label = 0;
  for (const std::string& label : model().description().labels) {
    longest_label = std::max(longest_label, label.size());
  }
  int64_t bytes = 0;
  for (size_t i = 0; i < num_inputs(); ++i) {
    bytes += TokensWireBytes(model().tokenizer(), encoding(i)) +
             num_tokens(i) * static_cast<int64_t>(longest_label) +
             static_cast<int64_t>(input_bytes(i));
  }
  return bytes;
}

int64_t ClassifyTokensRequest::OutputBytes(int64_t num_tokens) const {
  // Logits, and what becomes of a token on the way to an entity.
  return num_tokens * (4 * static_cast<int64_t>(num_labels_) +
                       static_cast<int64_t>(sizeof(ClassifiedToken) + 2 * sizeof(Entity)));
}

absl::Status ClassifyTokensRequest::LayOut(std::span<SequenceWork> sequences) {
  size_t num_logits = 0;
  for (const SequenceWork& work : sequences) num_logits += work.ids.size() * num_labels_;
  logits_.resize(num_logits);
  outputs_.resize(sequences.size());
  std::span<float> left(logits_);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const size_t size = sequences[i].ids.size() * num_labels_;
    outputs_[i] = {LogitsHead::kTokenClassifier, left.first(size)};
    left = left.subspan(size);
    sequences[i].logits = &outputs_[i];
  }
  return absl::OkStatus();
}

// The tokens of one window that are from text `which`, with their probabilities.
std::vector<ClassifiedToken> ClassifyTokensRequest::Classified(size_t index, size_t window,
                                                               int8_t which) const {
  const Tokenizer& tokenizer = model().tokenizer();
  const Encoding& whole = encoding(index);
  const std::string_view source = which == 0 ? input(index).first : input(index).second;
  const std::span<const float> scores = outputs_[prepared(index).first_sequence + window].logits;
  const std::optional<int32_t> unknown = tokenizer.NamedTokenId(NamedToken::kUnknown);
  std::vector<ClassifiedToken> tokens;
  for (size_t i = 0; i < scores.size() / num_labels_; ++i) {
    const size_t at = SourceToken(index, window, i);
    if (whole.sequence[at] != which) continue;
    ClassifiedToken token;
    token.text = tokenizer.TokenText(whole.ids[at]);
    token.scores = scores.subspan(i * num_labels_, num_labels_);
    token.index = static_cast<int64_t>(i);
    token.sequence = which;
    if (!whole.spans.empty()) {
      token.span = SpanInWindow(tokenizer, whole, prepared(index).plan, window, at, source);
      token.is_subword = IsSubword(tokenizer, token.text, source, token.span);
      if (whole.ids[at] == unknown) {
        token.text =
            source.substr(token.span.start_byte, token.span.end_byte - token.span.start_byte);
        token.is_subword = false;
      }
    }
    tokens.push_back(token);
  }
  return tokens;
}

bool ClassifyTokensRequest::IsIgnored(const Entity& entity) const {
  const std::vector<std::string_view>& ignored = options_.ignore_labels;
  if (options_.keep_all_labels) return false;
  if (ignored.empty()) return entity.label == kOutside;
  return std::find(ignored.begin(), ignored.end(), entity.label) != ignored.end();
}

std::vector<Entity> ClassifyTokensRequest::FinishInput(size_t index) {
  const Prepared& windows = prepared(index);
  std::vector<Entity> entities;
  for (size_t window = 0; window < windows.num_sequences(); ++window) {
    const std::span<float> logits = outputs_[windows.first_sequence + window].logits;
    for (size_t i = 0; i < logits.size(); i += num_labels_) {
      Softmax(logits.subspan(i, num_labels_));
    }
    for (const int8_t which : {int8_t{0}, int8_t{1}}) {
      const std::vector<ClassifiedToken> tokens = Classified(index, window, which);
      for (Entity& entity : AggregateEntities(tokens, options_.aggregation,
                                              model().description().labels, model().tokenizer())) {
        if (!IsIgnored(entity)) entities.push_back(std::move(entity));
      }
    }
  }
  return windows.num_sequences() > 1 ? MergeOverlapping(std::move(entities)) : entities;
}

absl::StatusOr<std::vector<std::vector<Entity>>> ClassifyTokensRequest::Finish() {
  std::vector<std::vector<Entity>> results;
  for (size_t i = 0; i < num_inputs(); ++i) {
    for (size_t window = 0; window < prepared(i).num_sequences(); ++window) {
      BERTRAND_RETURN_IF_ERROR(
          CheckFinite(outputs_[prepared(i).first_sequence + window].logits, InputName(i)));
    }
    results.push_back(FinishInput(i));
  }
  return results;
}

}  // namespace bertrand
