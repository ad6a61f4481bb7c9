// Classify, ClassifyZeroShot, Rerank and PredictSentencePair: scores of a sequence, or of a pair.

#include <absl/strings/str_cat.h>

#include "models/task/classify_request.h"
#include "models/task/rerank_request.h"
#include "models/task/sentence_pair_request.h"
#include "models/task/zero_shot_request.h"
#include "server/grpc/task_call.h"

namespace bertrand {
namespace {

// Field numbers of bertrand.proto.
constexpr uint32_t kTexts = 2, kCandidateLabels = 3, kHypothesisTemplate = 4;
constexpr uint32_t kQuery = 2, kDocuments = 3;
constexpr uint32_t kPairs = 2;

// ---- Classify

absl::StatusOr<std::unique_ptr<ClassifyRequest>> ReadClassify(const v1::ClassifyRequest& message,
                                                              const TaskContext& context) {
  ClassifyOptions options;
  BERTRAND_ASSIGN_OR_RETURN(options.long_input,
                            ReadLongInput(message.long_input(), context.served));
  BERTRAND_ASSIGN_OR_RETURN(options.encode, ReadTruncation(message.truncation(), context.exchange,
                                                           context.served, options.long_input));
  options.top_k = message.top_k();
  BERTRAND_ASSIGN_OR_RETURN(options.activation, ReadActivation(message.activation()));
  BERTRAND_ASSIGN_OR_RETURN(auto inputs, ReadInputs(message.inputs()));
  return ClassifyRequest::Create(context.model, std::move(inputs), options);
}

absl::Status WriteClassify(const v1::ClassifyRequest&, ClassifyRequest& request,
                           v1::ClassifyResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request.Finish());
  for (const auto& labels : results) WriteLabels(labels, response->add_results());
  return absl::OkStatus();
}

// ---- ClassifyZeroShot

// Bytes of all occurrences of a field.
int64_t FieldBytes(std::string_view message, uint32_t field) {
  int64_t bytes = 0;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.field() != field || reader.type() != WireReader::Type::kBytes) continue;
    bytes += static_cast<int64_t>(reader.bytes().size());
  }
  return bytes;
}

// Every text is a sequence with every label.
absl::StatusOr<InputCount> CountZeroShot(const Exchange& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const int64_t num_texts, CountRepeated(exchange, kTexts, "texts"));
  BERTRAND_ASSIGN_OR_RETURN(const int64_t num_labels,
                            CountRepeated(exchange, kCandidateLabels, "candidate_labels"));
  const int64_t limit = exchange.site.limits.inputs_per_request_max;
  if (num_texts * num_labels > limit) {
    return ResourceExhausted(absl::StrCat("texts, candidate_labels: ", num_texts, " x ", num_labels,
                                          " of them, above --max-inputs-per-request (", limit,
                                          ")"));
  }
  const std::string_view bytes = exchange.bytes();
  const int64_t hypotheses =
      FieldBytes(bytes, kCandidateLabels) + num_labels * FieldBytes(bytes, kHypothesisTemplate);
  const int64_t repeated = num_labels * FieldBytes(bytes, kTexts) + num_texts * hypotheses;
  BERTRAND_RETURN_IF_ERROR(CheckRepeatedBytes(exchange, "texts, candidate_labels", repeated));
  return InputCount{.num_inputs = num_texts * num_labels, .repeated_bytes = repeated};
}

absl::StatusOr<std::unique_ptr<ZeroShotRequest>> ReadZeroShot(
    const v1::ClassifyZeroShotRequest& message, const TaskContext& context) {
  ZeroShotOptions options;
  BERTRAND_ASSIGN_OR_RETURN(options.encode,
                            ReadTruncation(message.truncation(), context.exchange, context.served));
  options.hypothesis_template = message.hypothesis_template();
  options.multi_label = message.multi_label();
  return ZeroShotRequest::Create(context.model, ReadTexts(message.texts()),
                                 ReadTexts(message.candidate_labels()), options);
}

absl::Status WriteZeroShot(const v1::ClassifyZeroShotRequest&, ZeroShotRequest& request,
                           v1::ClassifyZeroShotResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request.Finish());
  for (const auto& labels : results) WriteLabels(labels, response->add_results());
  return absl::OkStatus();
}

// ---- Rerank

absl::StatusOr<InputCount> CountRerank(const Exchange& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountRepeated(exchange, kDocuments, "documents"));
  const int64_t repeated = count * FieldBytes(exchange.bytes(), kQuery);
  BERTRAND_RETURN_IF_ERROR(CheckRepeatedBytes(exchange, "query", repeated));
  return InputCount{.num_inputs = count, .repeated_bytes = repeated};
}

absl::StatusOr<std::unique_ptr<RerankRequest>> ReadRerank(const v1::RerankRequest& message,
                                                          const TaskContext& context) {
  RerankOptions options;
  BERTRAND_ASSIGN_OR_RETURN(options.encode,
                            ReadTruncation(message.truncation(), context.exchange, context.served));
  options.top_n = message.top_n();
  BERTRAND_ASSIGN_OR_RETURN(options.activation, ReadActivation(message.activation()));
  if (message.return_documents()) {  // answer_bytes() is without them
    *context.answer_bytes_max -= FieldBytes(context.exchange.bytes(), kDocuments);
  }
  return RerankRequest::Create(context.model, message.query(), ReadTexts(message.documents()),
                               options);
}

absl::Status WriteRerank(const v1::RerankRequest& message, RerankRequest& request,
                         v1::RerankResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<Rank> ranks, request.Finish());
  for (const Rank& rank : ranks) {
    auto* out = response->add_ranks();
    out->set_index(static_cast<uint32_t>(rank.index));
    out->set_score(rank.score);
    if (!message.return_documents()) continue;
    out->set_document(message.documents(static_cast<int>(rank.index)));
  }
  return absl::OkStatus();
}

// ---- PredictSentencePair

absl::StatusOr<InputCount> CountPairs(const Exchange& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountRepeated(exchange, kPairs, "pairs"));
  return InputCount{.num_inputs = count};
}

absl::StatusOr<std::unique_ptr<SentencePairRequest>> ReadSentencePair(
    const v1::PredictSentencePairRequest& message, const TaskContext& context) {
  SentencePairOptions options;
  BERTRAND_ASSIGN_OR_RETURN(options.encode,
                            ReadTruncation(message.truncation(), context.exchange, context.served));
  return SentencePairRequest::Create(context.model, ReadPairs(message.pairs()), options);
}

absl::Status WriteSentencePair(const v1::PredictSentencePairRequest&, SentencePairRequest& request,
                               v1::PredictSentencePairResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(const auto predictions, request.Finish());
  for (const SentencePairPrediction& prediction : predictions) {
    auto* out = response->add_results();
    out->set_in_order(prediction.in_order);
    out->set_not_in_order(prediction.not_in_order);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status HandleClassify(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kClassify};
  return HandleTask<v1::ClassifyRequest, v1::ClassifyResponse>(exchange, kTraits, ReadClassify,
                                                               WriteClassify);
}

absl::Status HandleClassifyZeroShot(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kClassifyZeroShot, .count = CountZeroShot};
  return HandleTask<v1::ClassifyZeroShotRequest, v1::ClassifyZeroShotResponse>(
      exchange, kTraits, ReadZeroShot, WriteZeroShot);
}

absl::Status HandleRerank(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kRerank, .count = CountRerank};
  return HandleTask<v1::RerankRequest, v1::RerankResponse>(exchange, kTraits, ReadRerank,
                                                           WriteRerank);
}

absl::Status HandlePredictSentencePair(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kPredictSentencePair, .count = CountPairs};
  return HandleTask<v1::PredictSentencePairRequest, v1::PredictSentencePairResponse>(
      exchange, kTraits, ReadSentencePair, WriteSentencePair);
}

}  // namespace bertrand
