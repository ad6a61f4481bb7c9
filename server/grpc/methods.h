#pragma once

// Every method of bertrand.v1, in one table: services in the order of the .proto, methods in the
// order of theirs. Indices are what metrics and calls go by.

#include <cstddef>
#include <memory>
#include <span>

#include "server/grpc/exchange.h"

namespace bertrand {

enum class MethodIndex : size_t {
  kEmbed,
  kEmbedStream,
  kEmbedTokens,
  kEmbedSparse,
  kClassify,
  kClassifyZeroShot,
  kRerank,
  kClassifyTokens,
  kAnswerQuestion,
  kFillMask,
  kDetectReplacedTokens,
  kPredictSentencePair,
  kTokenize,
  kDetokenize,
  kListModels,
  kGetModel,
  kLoadModel,
  kUnloadModel,
  kCount
};

std::span<const Method> AllMethods();
// Their names, for Metrics.
std::span<const char* const> AllMethodNames();

using ExchangePtr = std::shared_ptr<Exchange>;

absl::Status HandleEmbed(const ExchangePtr& exchange);
absl::Status HandleEmbedTokens(const ExchangePtr& exchange);
absl::Status HandleEmbedSparse(const ExchangePtr& exchange);
absl::Status HandleClassify(const ExchangePtr& exchange);
absl::Status HandleClassifyZeroShot(const ExchangePtr& exchange);
absl::Status HandleRerank(const ExchangePtr& exchange);
absl::Status HandleClassifyTokens(const ExchangePtr& exchange);
absl::Status HandleAnswerQuestion(const ExchangePtr& exchange);
absl::Status HandleFillMask(const ExchangePtr& exchange);
absl::Status HandleDetectReplacedTokens(const ExchangePtr& exchange);
absl::Status HandlePredictSentencePair(const ExchangePtr& exchange);
absl::Status HandleTokenize(const ExchangePtr& exchange);
absl::Status HandleDetokenize(const ExchangePtr& exchange);
absl::Status HandleListModels(const ExchangePtr& exchange);
absl::Status HandleGetModel(const ExchangePtr& exchange);
absl::Status HandleModelControl(const ExchangePtr& exchange);

}  // namespace bertrand
