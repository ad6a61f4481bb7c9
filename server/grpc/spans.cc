// ClassifyTokens, AnswerQuestion, FillMask and DetectReplacedTokens: results that are parts of the
// text.

#include <absl/strings/str_cat.h>

#include "models/task/answer_request.h"
#include "models/task/classify_tokens_request.h"
#include "models/task/fill_mask_request.h"
#include "models/task/replaced_tokens_request.h"
#include "server/grpc/task_call.h"

namespace bertrand {
namespace {

// Field numbers of bertrand.proto.
constexpr uint32_t kIgnoreLabels = 5, kTargets = 5;

// ---- ClassifyTokens

absl::StatusOr<InputCount> CountClassifyTokens(const Exchange& exchange) {
  BERTRAND_RETURN_IF_ERROR(CountRepeated(exchange, kIgnoreLabels, "ignore_labels", true).status());
  return CountInputs(exchange);
}

absl::StatusOr<std::unique_ptr<ClassifyTokensRequest>> ReadClassifyTokens(
    const v1::ClassifyTokensRequest& message, const TaskContext& context) {
  ClassifyTokensOptions options;
  if (!v1::ClassifyTokensRequest::Aggregation_IsValid(message.aggregation())) {
    return InvalidArgument(
        absl::StrCat("aggregation: unknown value ", static_cast<int>(message.aggregation())));
  }
  options.aggregation = static_cast<EntityAggregation>(message.aggregation());
  options.ignore_labels = ReadTexts(message.ignore_labels());
  options.keep_all_labels = message.keep_all_labels();
  LongInputOptions long_input;
  if (message.has_stride_tokens()) {
    options.stride_tokens = message.stride_tokens();
    long_input.mode = LongInputOptions::Mode::kWindows;
  }
  BERTRAND_ASSIGN_OR_RETURN(options.encode, ReadTruncation(message.truncation(), context.exchange,
                                                           context.served, long_input));
  BERTRAND_ASSIGN_OR_RETURN(auto inputs, ReadInputs(message.inputs()));
  return ClassifyTokensRequest::Create(context.model, std::move(inputs), options);
}

absl::Status WriteClassifyTokens(const v1::ClassifyTokensRequest&, ClassifyTokensRequest& request,
                                 v1::ClassifyTokensResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(auto results, request.Finish());
  for (std::vector<Entity>& entities : results) {
    auto* out = response->add_results();
    for (Entity& entity : entities) {
      v1::Entity* written = out->add_entities();
      written->set_label(std::move(entity.label));
      written->set_score(entity.score);
      written->set_token_index(static_cast<uint32_t>(entity.token_index));
      written->set_text(std::move(entity.text));
      WriteSpan(entity.span, entity.sequence, written->mutable_span());
    }
  }
  return absl::OkStatus();
}

// ---- AnswerQuestion

absl::StatusOr<std::unique_ptr<AnswerRequest>> ReadAnswer(const v1::AnswerQuestionRequest& message,
                                                          const TaskContext& context) {
  AnswerOptions options{.top_k = message.top_k(),
                        .max_seq_tokens = message.max_seq_tokens(),
                        .max_answer_tokens = message.max_answer_tokens(),
                        .allow_no_answer = message.allow_no_answer()};
  if (options.max_seq_tokens > context.served.text_tokens_max) {
    return InvalidArgument(absl::StrCat("max_seq_tokens: ", options.max_seq_tokens,
                                        " is above the model's limit of ",
                                        context.served.text_tokens_max));
  }
  if (message.has_doc_stride_tokens()) options.doc_stride_tokens = message.doc_stride_tokens();
  if (message.has_align_to_words()) options.align_to_words = message.align_to_words();
  std::vector<QuestionContext> inputs;
  for (const v1::QuestionContext& input : message.inputs()) {
    inputs.push_back({.question = input.question(), .context = input.context()});
  }
  return AnswerRequest::Create(context.model, std::move(inputs), options);
}

absl::Status WriteAnswer(const v1::AnswerQuestionRequest&, AnswerRequest& request,
                         v1::AnswerQuestionResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(auto results, request.Finish());
  for (std::vector<Answer>& answers : results) {
    auto* out = response->add_results();
    for (Answer& answer : answers) {
      v1::Answer* written = out->add_answers();
      written->set_text(std::move(answer.text));
      written->set_score(answer.score);
      WriteSpan(answer.span, 0, written->mutable_span());
    }
  }
  return absl::OkStatus();
}

// ---- FillMask

absl::StatusOr<InputCount> CountFillMask(const Exchange& exchange) {
  BERTRAND_RETURN_IF_ERROR(CountRepeated(exchange, kTargets, "targets", true).status());
  return CountInputs(exchange);
}

absl::StatusOr<std::unique_ptr<FillMaskRequest>> ReadFillMask(const v1::FillMaskRequest& message,
                                                              const TaskContext& context) {
  FillMaskOptions options;
  BERTRAND_ASSIGN_OR_RETURN(options.encode,
                            ReadTruncation(message.truncation(), context.exchange, context.served));
  options.top_k = message.top_k();
  options.targets = ReadTexts(message.targets());
  BERTRAND_ASSIGN_OR_RETURN(auto inputs, ReadInputs(message.inputs()));
  return FillMaskRequest::Create(context.model, std::move(inputs), options);
}

absl::Status WriteFillMask(const v1::FillMaskRequest&, FillMaskRequest& request,
                           v1::FillMaskResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(auto results, request.Finish());
  for (std::vector<FilledMask>& masks : results) {
    auto* out = response->add_results();
    for (FilledMask& mask : masks) {
      auto* written = out->add_masks();
      WriteSpan(mask.span, mask.sequence, written->mutable_span());
      for (MaskCandidate& candidate : mask.candidates) {
        auto* filled = written->add_candidates();
        filled->set_token(std::move(candidate.text));
        filled->set_score(candidate.score);
        filled->set_token_id(static_cast<uint32_t>(candidate.id));
        filled->set_sequence(std::move(candidate.sequence));
      }
    }
  }
  return absl::OkStatus();
}

// ---- DetectReplacedTokens

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

absl::Status HandleClassifyTokens(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kClassifyTokens, .count = CountClassifyTokens};
  return HandleTask<v1::ClassifyTokensRequest, v1::ClassifyTokensResponse>(
      exchange, kTraits, ReadClassifyTokens, WriteClassifyTokens);
}

absl::Status HandleAnswerQuestion(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kAnswerQuestion};
  return HandleTask<v1::AnswerQuestionRequest, v1::AnswerQuestionResponse>(exchange, kTraits,
                                                                           ReadAnswer, WriteAnswer);
}

absl::Status HandleFillMask(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kFillMask, .count = CountFillMask};
  return HandleTask<v1::FillMaskRequest, v1::FillMaskResponse>(exchange, kTraits, ReadFillMask,
                                                               WriteFillMask);
}

absl::Status HandleDetectReplacedTokens(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kDetectReplacedTokens};
  return HandleTask<v1::DetectReplacedTokensRequest, v1::DetectReplacedTokensResponse>(
      exchange, kTraits, ReadReplacedTokens, WriteReplacedTokens);
}

}  // namespace bertrand
