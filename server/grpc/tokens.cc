// EmbedTokens: one vector per token. Tokenize and Detokenize: text <-> tokens.

#include <absl/strings/str_cat.h>

#include "models/task/embed_tokens_request.h"
#include "models/task/tokenize_request.h"
#include "server/grpc/task_call.h"

namespace bertrand {
namespace {

absl::StatusOr<std::unique_ptr<EmbedTokensRequest>> ReadEmbedTokens(
    const v1::EmbedTokensRequest& message, const TaskContext& context) {
  EmbedTokensOptions options;
  BERTRAND_RETURN_IF_ERROR(CheckPrompt(message.prompt_name(), message.prompt()));
  options.prompt_name = message.prompt_name();
  options.prompt = message.prompt();
  BERTRAND_ASSIGN_OR_RETURN(options.encode,
                            ReadTruncation(message.truncation(), context.exchange, context.served));
  options.layers.assign(message.layers().begin(), message.layers().end());
  BERTRAND_ASSIGN_OR_RETURN(const VectorType type, ReadVectorType(message.output_type()));
  BERTRAND_ASSIGN_OR_RETURN(auto inputs, ReadInputs(message.inputs()));
  BERTRAND_ASSIGN_OR_RETURN(auto request,
                            EmbedTokensRequest::Create(context.model, std::move(inputs), options));
  ScaleAnswerLimit(type, request->dimensions(), request->dimensions(), context);
  return request;
}

absl::Status WriteEmbedTokens(const v1::EmbedTokensRequest& message, EmbedTokensRequest& request,
                              v1::EmbedTokensResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(const VectorType type, ReadVectorType(message.output_type()));
  BERTRAND_ASSIGN_OR_RETURN(const auto values, request.Finish());
  const auto dimensions = static_cast<size_t>(request.dimensions());
  for (size_t input = 0; input < request.num_inputs(); ++input) {
    const Encoding& encoding = request.encoding(input);
    auto* out = response->add_results();
    VectorsWriter writer(type, dimensions, encoding.ids.size());
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      v1::Token* token = out->add_tokens();
      WriteToken(request.model(), encoding, i, token);
      if (token->special() && message.exclude_special_tokens()) {
        out->mutable_tokens()->RemoveLast();
        continue;
      }
      writer.Add(values[input].subspan(i * dimensions, dimensions));
    }
    writer.Finish(out->mutable_vectors());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TokenizeRequest>> ReadTokenize(const v1::TokenizeRequest& message,
                                                              const TaskContext& context) {
  TokenizeOptions options;
  BERTRAND_RETURN_IF_ERROR(CheckPrompt(message.prompt_name(), message.prompt()));
  options.prompt_name = message.prompt_name();
  options.prompt = message.prompt();
  options.truncate = message.has_truncation();
  if (options.truncate) {
    BERTRAND_ASSIGN_OR_RETURN(
        options.encode, ReadTruncation(message.truncation(), context.exchange, context.served));
  }
  if (message.has_add_special_tokens()) {
    options.encode.add_special_tokens = message.add_special_tokens();
  }
  BERTRAND_ASSIGN_OR_RETURN(auto inputs, ReadInputs(message.inputs()));
  return TokenizeRequest::Create(context.model, std::move(inputs), options);
}

absl::Status WriteTokenize(const v1::TokenizeRequest&, TokenizeRequest& request,
                           v1::TokenizeResponse* response) {
  for (size_t input = 0; input < request.num_inputs(); ++input) {
    const Encoding& encoding = request.encoding(input);
    auto* tokens = response->add_results();
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      WriteToken(request.model(), encoding, i, tokens->add_tokens());
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DetokenizeInput(const Exchange& exchange, const Tokenizer& tokenizer,
                                            const v1::TokenIds& input, bool skip_special_tokens,
                                            int64_t* answer_bytes) {
  const std::span<const uint32_t> ids(input.ids().data(), static_cast<size_t>(input.ids_size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= tokenizer.vocab_size()) {
      return InvalidArgument(
          absl::StrCat("ids[", i, "] is ", ids[i], ", expected below ", tokenizer.vocab_size()));
    }
    *answer_bytes += static_cast<int64_t>(tokenizer.TokenText(ids[i]).size()) + 1;
  }
  BERTRAND_RETURN_IF_ERROR(CheckAnswerBytes(exchange, *answer_bytes));
  return tokenizer.Decode(ids, skip_special_tokens);
}

}  // namespace

absl::Status HandleEmbedTokens(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kEmbedTokens,
                                      .answer_memory_factor = kVectorsMemoryFactor};
  return HandleTask<v1::EmbedTokensRequest, v1::EmbedTokensResponse>(
      exchange, kTraits, ReadEmbedTokens, WriteEmbedTokens);
}

absl::Status HandleTokenize(const ExchangePtr& exchange) {
  // A token of a few bytes on the wire is 200 in memory.
  static constexpr TaskTraits kTraits{.answer_memory_factor = 2 * kMessagesMemoryFactor};
  return HandleTask<v1::TokenizeRequest, v1::TokenizeResponse>(exchange, kTraits, ReadTokenize,
                                                               WriteTokenize);
}

absl::Status HandleDetokenize(const ExchangePtr& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const ServedModel* model, ResolveModel(*exchange, std::nullopt));
  BERTRAND_ASSIGN_OR_RETURN(const InputCount count, CountInputs(*exchange));
  BERTRAND_ASSIGN_OR_RETURN(const bool grown,
                            exchange->Grow(EstimateWorkBytes(*exchange, *model, count)));
  if (!grown) return absl::OkStatus();
  BERTRAND_ASSIGN_OR_RETURN(auto parsed, Parse<v1::DetokenizeRequest>(*exchange));
  const v1::DetokenizeRequest& request = *parsed->message;
  const bool skip = !request.has_skip_special_tokens() || request.skip_special_tokens();
  google::protobuf::Arena arena;
  auto* response = google::protobuf::Arena::CreateMessage<v1::DetokenizeResponse>(&arena);
  int64_t answer_bytes = 0;
  for (int i = 0; i < request.inputs_size(); ++i) {
    auto text = DetokenizeInput(*exchange, model->model->tokenizer(), request.inputs(i), skip,
                                &answer_bytes);
    if (!text.ok()) return Annotate(text.status(), absl::StrCat("inputs[", i, "]"));
    response->add_texts(*std::move(text));
  }
  exchange->Answer(*response);
  return absl::OkStatus();
}

}  // namespace bertrand
