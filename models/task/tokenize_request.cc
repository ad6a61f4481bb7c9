#include "models/task/tokenize_request.h"

#include <utility>

#include "kernels/status.h"
#include "models/task/wire_bytes.h"

namespace bertrand {
namespace {

InputRules RulesOf(const TokenizeOptions& options) {
  InputRules rules;
  rules.prepare.prompt_name = options.prompt_name;
  rules.prepare.prompt = options.prompt;
  rules.prepare.encode.add_special_tokens = options.encode.add_special_tokens;
  if (options.truncate) rules.prepare.encode = options.encode;
  rules.prepare.encode.want_spans = true;
  rules.prepare.beyond_limit = !options.truncate;
  rules.empty_second_is_pair = true;
  // Named prompts are the model's affair.
  rules.tokenizer_alone = !options.truncate && options.prompt_name.empty();
  rules.any_length = true;
  return rules;
}

}  // namespace

TokenizeRequest::TokenizeRequest(const Model& model, std::vector<TaskInput> inputs,
                                 const InputRules& rules)
    : InputsRequest(model, std::move(inputs), rules) {}

absl::StatusOr<std::unique_ptr<TokenizeRequest>> TokenizeRequest::Create(
    const Model& model, std::vector<TaskInput> inputs, const TokenizeOptions& options) {
  BERTRAND_RETURN_IF_ERROR(CheckPrompt(options.prompt_name, options.prompt));
  return std::unique_ptr<TokenizeRequest>(
      new TokenizeRequest(model, std::move(inputs), RulesOf(options)));
}

int64_t TokenizeRequest::answer_bytes() const {
  int64_t bytes = 0;
  for (size_t i = 0; i < num_inputs(); ++i) {
    bytes += TokensWireBytes(model().tokenizer(), encoding(i));
  }
  return bytes;
}

}  // namespace bertrand
