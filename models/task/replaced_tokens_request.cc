#include "models/task/replaced_tokens_request.h"

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "models/task/scores.h"
#include "models/task/wire_bytes.h"

namespace bertrand {
namespace {

InputRules RulesOf(const ReplacedTokensOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  rules.prepare.encode.want_spans = true;
  rules.prepare.encode.want_words = true;
  return rules;
}

}  // namespace

ReplacedTokensRequest::ReplacedTokensRequest(const Model& model, std::vector<TaskInput> inputs,
                                             const ReplacedTokensOptions& options)
    : InputsRequest(model, std::move(inputs), RulesOf(options)), by_word_(options.by_word) {}

absl::StatusOr<std::unique_ptr<ReplacedTokensRequest>> ReplacedTokensRequest::Create(
    const Model& model, std::vector<TaskInput> inputs, const ReplacedTokensOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kDetectReplacedTokens));
  return std::unique_ptr<ReplacedTokensRequest>(
      new ReplacedTokensRequest(model, std::move(inputs), options));
}

int64_t ReplacedTokensRequest::answer_bytes() const {
  int64_t bytes = 0;
  for (size_t i = 0; i < num_inputs(); ++i) {
    // Texts of different tokens do not overlap, but for code points that are several tokens.
    bytes +=
        TokensWireBytes(model().tokenizer(), encoding(i)) + static_cast<int64_t>(input_bytes(i));
  }
  return bytes;
}

int64_t ReplacedTokensRequest::OutputBytes(int64_t num_tokens) const { return 4 * num_tokens; }

absl::Status ReplacedTokensRequest::LayOut(std::span<SequenceWork> sequences) {
  size_t num_logits = 0;
  for (const SequenceWork& work : sequences) num_logits += work.ids.size();
  logits_.resize(num_logits);
  outputs_.resize(sequences.size());
  std::span<float> left(logits_);
  for (size_t i = 0; i < sequences.size(); ++i) {
    outputs_[i] = {LogitsHead::kReplacedToken, left.first(sequences[i].ids.size())};
    left = left.subspan(sequences[i].ids.size());
    sequences[i].logits = &outputs_[i];
  }
  return absl::OkStatus();
}

std::vector<TokenVerdict> ReplacedTokensRequest::FinishInput(size_t index) const {
  const Encoding& tokens = encoding(index);
  const std::span<const float> logits = outputs_[index].logits;
  std::vector<TokenVerdict> verdicts;
  int32_t last_word = -1;
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    const int8_t sequence = tokens.sequence[i];
    if (sequence < 0) continue;
    const int32_t word = i < tokens.words.size() ? tokens.words[i] : -1;
    const bool goes_on = by_word_ && word >= 0 && word == last_word && !verdicts.empty() &&
                         verdicts.back().sequence == sequence;
    last_word = word;
    if (!goes_on) {
      TokenVerdict& verdict = verdicts.emplace_back();
      verdict.score = Sigmoid(logits[i]);
      verdict.replaced = logits[i] > 0;
      verdict.sequence = sequence;
      if (tokens.spans.empty()) {
        verdict.text = model().tokenizer().TokenText(tokens.ids[i]);
      } else {
        verdict.span = tokens.spans[i];
      }
      continue;
    }
    TokenVerdict& verdict = verdicts.back();
    verdict.score = std::max(verdict.score, Sigmoid(logits[i]));
    verdict.replaced = verdict.replaced || logits[i] > 0;
    verdict.span.end = tokens.spans[i].end;
    verdict.span.end_byte = tokens.spans[i].end_byte;
  }
  if (tokens.spans.empty()) return verdicts;
  for (TokenVerdict& verdict : verdicts) {
    const TaskInput& source = input(index);
    const std::string_view text = verdict.sequence == 0 ? source.first : source.second;
    verdict.text =
        text.substr(verdict.span.start_byte, verdict.span.end_byte - verdict.span.start_byte);
  }
  return verdicts;
}

absl::StatusOr<std::vector<std::vector<TokenVerdict>>> ReplacedTokensRequest::Finish() {
  std::vector<std::vector<TokenVerdict>> results;
  for (size_t i = 0; i < num_inputs(); ++i) {
    BERTRAND_RETURN_IF_ERROR(CheckFinite(outputs_[i].logits, InputName(i)));
    results.push_back(FinishInput(i));
  }
  return results;
}

}  // namespace bertrand
