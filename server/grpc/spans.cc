// DetectReplacedTokens: results that are parts of the text.

#include "models/task/replaced_tokens_request.h"
#include "server/grpc/task_call.h"

namespace bertrand {
namespace {

absl::StatusOr<std::unique_ptr<ReplacedTokensRequest>> ReadReplacedTokens(
    const v1::DetectReplacedTokensRequest& message, const TaskContext& context) {
  ReplacedTokensOptions options{.by_word = message.by_word()};
  BERTRAND_ASSIGN_OR_RETURN(options.encode,
                            ReadTruncation(message.truncation(), context.exchange, context.served));
  BERTRAND_ASSIGN_OR_RETURN(auto inputs, ReadInputs(message.inputs()));
  return ReplacedTokensRequest::Create(context.model, std::move(inputs), options);
}

absl::Status WriteReplacedTokens(const v1::DetectReplacedTokensRequest&,
                                 ReplacedTokensRequest& request,
                                 v1::DetectReplacedTokensResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(auto results, request.Finish());
  for (std::vector<TokenVerdict>& verdicts : results) {
    auto* out = response->add_results();
    for (TokenVerdict& verdict : verdicts) {
      auto* written = out->add_verdicts();
      written->set_text(std::move(verdict.text));
      written->set_score(verdict.score);
      written->set_replaced(verdict.replaced);
      WriteSpan(verdict.span, verdict.sequence, written->mutable_span());
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status HandleDetectReplacedTokens(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kDetectReplacedTokens};
  return HandleTask<v1::DetectReplacedTokensRequest, v1::DetectReplacedTokensResponse>(
      exchange, kTraits, ReadReplacedTokens, WriteReplacedTokens);
}

}  // namespace bertrand
