// EmbedTokens: one vector per token. Tokenize and Detokenize: text <-> tokens.

#include <absl/strings/str_cat.h>

#include <utility>

#include "kernels/status.h"
#include "server/grpc/methods.h"
#include "server/grpc/request.h"

namespace bertrand {
namespace {

// Memory of a v1::Token and its span in an answer, and its bytes on the wire, the text apart.
constexpr int64_t kTokenMessageBytes = 192;
constexpr int64_t kTokenWireBytes = 16;

struct TokensFormat {
  VectorType type = VectorType::kFloat32;
  bool exclude_special_tokens = false;
};

int64_t NumTokens(const Job& job) {
  int64_t count = 0;
  for (const JobInput& input : job.inputs) {
    count += static_cast<int64_t>(input.prepared.encoding.ids.size());
  }
  return count;
}

// Layers as ModelRunner wants them: from 0 to the last.
absl::Status ReadLayers(const google::protobuf::RepeatedField<int32_t>& layers,
                        const ModelDescription& description, std::vector<int32_t>* out) {
  const auto last = static_cast<int32_t>(description.num_layers);
  if (layers.size() > last + 1) {
    return InvalidArgument(absl::StrCat("layers: ", layers.size(), " of them; the model has ", last,
                                        " and its embeddings"));
  }
  for (int i = 0; i < layers.size(); ++i) {
    if (layers[i] < -1 || layers[i] > last) {
      return InvalidArgument(
          absl::StrCat("layers[", i, "]: ", layers[i], " is not between -1 and ", last));
    }
    out->push_back(layers[i] == -1 ? last : layers[i]);
  }
  if (out->empty()) out->push_back(last);
  return absl::OkStatus();
}

absl::StatusOr<TokensFormat> ReadRequest(const v1::EmbedTokensRequest& request,
                                         const Exchange& exchange, Job* job) {
  TokensFormat format;
  BERTRAND_ASSIGN_OR_RETURN(format.type, ReadVectorType(request.output_type()));
  format.exclude_special_tokens = request.exclude_special_tokens();
  BERTRAND_RETURN_IF_ERROR(ReadPrompt(request.prompt_name(), request.prompt(), &job->prepare));
  BERTRAND_RETURN_IF_ERROR(
      ReadTruncation(request.truncation(), exchange, *job->model, &job->prepare.encode));
  const ModelDescription& description = job->model->model->description();
  BERTRAND_RETURN_IF_ERROR(ReadLayers(request.layers(), description, &job->layers));
  BERTRAND_RETURN_IF_ERROR(ReadInputs(request.inputs(), job));
  job->kind = Job::Kind::kEmbedTokens;
  job->dimensions = static_cast<int64_t>(job->layers.size()) * description.hidden_size;
  job->prepare.as_sentence = true;
  job->prepare.encode.want_spans = true;
  return format;
}

// Once the tokens are counted, the answer's size is known.
absl::Status ReserveTokenVectors(const Exchange& exchange, const TokensFormat& format, Job& job) {
  const int64_t num_tokens = NumTokens(job);
  const auto row =
      static_cast<int64_t>(EncodedRowBytes(format.type, static_cast<size_t>(job.dimensions)));
  BERTRAND_RETURN_IF_ERROR(CheckAnswerBytes(exchange, num_tokens * (row + kTokenWireBytes)));
  return job.reservation.AddBytes(num_tokens * (4 * job.dimensions + 2 * row + kTokenMessageBytes));
}

void WriteInput(const Job& job, const JobInput& input, const TokensFormat& format,
                v1::EmbedTokensResponse::TokenEmbeddings* out) {
  const Encoding& encoding = input.prepared.encoding;
  const auto dimensions = static_cast<size_t>(job.dimensions);
  std::string bytes;
  std::vector<float> scales;
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    v1::Token* token = out->add_tokens();
    WriteToken(*job.model->model, encoding, i, token);
    if (token->special() && format.exclude_special_tokens) {
      out->mutable_tokens()->RemoveLast();
      continue;
    }
    AppendRow(format.type, input.tokens.vectors.subspan(i * dimensions, dimensions), &bytes,
              &scales);
  }
  v1::Vectors* vectors = out->mutable_vectors();
  vectors->set_type(static_cast<v1::DataType>(format.type));
  vectors->set_count(static_cast<uint32_t>(out->tokens_size()));
  vectors->set_dimensions(static_cast<uint32_t>(dimensions));
  vectors->set_data(std::move(bytes));
  vectors->mutable_scales()->Add(scales.begin(), scales.end());
}

void AnswerEmbedTokens(Exchange& exchange, Job& job, const TokensFormat& format,
                       const absl::Status& status) {
  exchange.TakeBack(&job);
  if (!status.ok()) return exchange.Answer(status);
  google::protobuf::Arena arena;
  auto* response = google::protobuf::Arena::CreateMessage<v1::EmbedTokensResponse>(&arena);
  for (const JobInput& input : job.inputs) {
    WriteInput(job, input, format, response->add_results());
  }
  WriteStats(job, response);
  WriteTiming(job.timing, response->mutable_timing());
  exchange.Answer(*response);
}

void AnswerTokenize(Exchange& exchange, Job& job, const absl::Status& status) {
  exchange.TakeBack(&job);
  if (!status.ok()) return exchange.Answer(status);
  google::protobuf::Arena arena;
  auto* response = google::protobuf::Arena::CreateMessage<v1::TokenizeResponse>(&arena);
  for (const JobInput& input : job.inputs) {
    const Encoding& encoding = input.prepared.encoding;
    auto* tokens = response->add_results();
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      WriteToken(*job.model->model, encoding, i, tokens->add_tokens());
    }
  }
  exchange.Answer(*response);
}

absl::Status ReadTokenizeRequest(const v1::TokenizeRequest& request, const Exchange& exchange,
                                 Job* job) {
  BERTRAND_RETURN_IF_ERROR(ReadPrompt(request.prompt_name(), request.prompt(), &job->prepare));
  if (request.has_truncation()) {
    BERTRAND_RETURN_IF_ERROR(
        ReadTruncation(request.truncation(), exchange, *job->model, &job->prepare.encode));
  }
  BERTRAND_RETURN_IF_ERROR(ReadInputs(request.inputs(), job));
  job->kind = Job::Kind::kPrepare;
  // Model::Prepare always cuts to the model's limit, which Tokenize does only when asked to; but it
  // alone knows the named prompts.
  job->tokenizer_alone = !request.has_truncation() && request.prompt_name().empty();
  job->prepare.encode.want_spans = true;
  if (request.has_add_special_tokens()) {
    job->prepare.encode.add_special_tokens = request.add_special_tokens();
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
  BERTRAND_ASSIGN_OR_RETURN(const ServedModel* model, ResolveModel(*exchange, Task::kEmbedTokens));
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountInputs(*exchange));
  BERTRAND_ASSIGN_OR_RETURN(const bool grown, exchange->Grow(EstimateWorkBytes(*exchange, count)));
  if (!grown) return absl::OkStatus();
  BERTRAND_ASSIGN_OR_RETURN(auto parsed, Parse<v1::EmbedTokensRequest>(*exchange));
  auto job = std::make_shared<Job>();
  job->model = model;
  BERTRAND_ASSIGN_OR_RETURN(const TokensFormat format,
                            ReadRequest(*parsed->message, *exchange, job.get()));
  job->owner = std::move(parsed);
  job->on_prepared = [exchange, format](Job& prepared) {
    return ReserveTokenVectors(*exchange, format, prepared);
  };
  job->done = [exchange, format](Job& done, const absl::Status& status) {
    AnswerEmbedTokens(*exchange, done, format, status);
  };
  exchange->StartJob(std::move(job));
  return absl::OkStatus();
}

absl::Status HandleTokenize(const ExchangePtr& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const ServedModel* model, ResolveModel(*exchange, std::nullopt));
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountInputs(*exchange));
  BERTRAND_ASSIGN_OR_RETURN(const bool grown, exchange->Grow(EstimateWorkBytes(*exchange, count)));
  if (!grown) return absl::OkStatus();
  BERTRAND_ASSIGN_OR_RETURN(auto parsed, Parse<v1::TokenizeRequest>(*exchange));
  auto job = std::make_shared<Job>();
  job->model = model;
  BERTRAND_RETURN_IF_ERROR(ReadTokenizeRequest(*parsed->message, *exchange, job.get()));
  job->owner = std::move(parsed);
  job->on_prepared = [exchange](Job& prepared) -> absl::Status {
    const int64_t num_tokens = NumTokens(prepared);
    BERTRAND_RETURN_IF_ERROR(CheckAnswerBytes(*exchange, num_tokens * kTokenWireBytes));
    return prepared.reservation.AddBytes(num_tokens * kTokenMessageBytes);
  };
  job->done = [exchange](Job& done, const absl::Status& status) {
    AnswerTokenize(*exchange, done, status);
  };
  exchange->StartJob(std::move(job));
  return absl::OkStatus();
}

absl::Status HandleDetokenize(const ExchangePtr& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const ServedModel* model, ResolveModel(*exchange, std::nullopt));
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountInputs(*exchange));
  BERTRAND_ASSIGN_OR_RETURN(const bool grown, exchange->Grow(EstimateWorkBytes(*exchange, count)));
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
