// Embed, EmbedStream and EmbedSparse: texts -> one vector each.

#include <absl/strings/str_cat.h>

#include "models/task/embed_request.h"
#include "models/task/embed_sparse_request.h"
#include "server/grpc/task_call.h"

namespace bertrand {
namespace {

absl::StatusOr<std::optional<PoolingChoice>> ReadPooling(v1::Pooling pooling) {
  if (pooling == v1::POOLING_UNSPECIFIED) return std::optional<PoolingChoice>();
  if (!v1::Pooling_IsValid(pooling)) {
    return InvalidArgument(absl::StrCat("pooling: unknown value ", static_cast<int>(pooling)));
  }
  return std::optional(static_cast<PoolingChoice>(pooling));
}

// The vectors' length in the answer.
int64_t AnswerDimensions(const v1::EmbedRequest& message, const EmbedRequest& request) {
  return message.dimensions() > 0 ? message.dimensions() : request.dimensions();
}

absl::StatusOr<std::unique_ptr<EmbedRequest>> ReadEmbed(const v1::EmbedRequest& message,
                                                        const TaskContext& context) {
  EmbedOptions options;
  BERTRAND_RETURN_IF_ERROR(CheckPrompt(message.prompt_name(), message.prompt()));
  options.prompt_name = message.prompt_name();
  options.prompt = message.prompt();
  BERTRAND_ASSIGN_OR_RETURN(options.long_input,
                            ReadLongInput(message.long_input(), context.served));
  BERTRAND_ASSIGN_OR_RETURN(options.encode, ReadTruncation(message.truncation(), context.exchange,
                                                           context.served, options.long_input));
  BERTRAND_ASSIGN_OR_RETURN(options.pooling, ReadPooling(message.pooling()));
  if (message.has_normalize()) options.normalize = message.normalize();
  BERTRAND_ASSIGN_OR_RETURN(const VectorType type, ReadVectorType(message.output_type()));
  BERTRAND_ASSIGN_OR_RETURN(auto inputs, ReadInputs(message.inputs()));
  BERTRAND_ASSIGN_OR_RETURN(auto request,
                            EmbedRequest::Create(context.model, std::move(inputs), options));
  if (message.dimensions() > request->dimensions()) {
    return InvalidArgument(absl::StrCat("dimensions: ", message.dimensions(),
                                        " is above the model's ", request->dimensions()));
  }
  ScaleAnswerLimit(type, request->dimensions(), AnswerDimensions(message, *request), context);
  return request;
}

absl::Status WriteEmbed(const v1::EmbedRequest& message, EmbedRequest& request,
                        v1::EmbedResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(const VectorType type, ReadVectorType(message.output_type()));
  BERTRAND_ASSIGN_OR_RETURN(const std::span<float> values, request.Finish());
  const auto width = static_cast<size_t>(request.dimensions());
  const auto dimensions = static_cast<size_t>(AnswerDimensions(message, request));
  const bool normalize = dimensions < width && request.normalizes();
  VectorsWriter writer(type, dimensions, request.num_inputs());
  for (size_t i = 0; i < request.num_inputs(); ++i) {
    writer.Add(CutRow(values.subspan(i * width, width), dimensions, normalize));
  }
  writer.Finish(response->mutable_embeddings());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<EmbedSparseRequest>> ReadSparse(
    const v1::EmbedSparseRequest& message, const TaskContext& context) {
  EmbedSparseOptions options;
  BERTRAND_RETURN_IF_ERROR(CheckPrompt(message.prompt_name(), message.prompt()));
  options.prompt_name = message.prompt_name();
  options.prompt = message.prompt();
  options.top_k = message.top_k();
  BERTRAND_ASSIGN_OR_RETURN(options.encode,
                            ReadTruncation(message.truncation(), context.exchange, context.served));
  BERTRAND_ASSIGN_OR_RETURN(auto inputs, ReadInputs(message.inputs()));
  return EmbedSparseRequest::Create(context.model, std::move(inputs), options);
}

absl::Status WriteSparse(const v1::EmbedSparseRequest&, EmbedSparseRequest& request,
                         v1::EmbedSparseResponse* response) {
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<SparseVector> vectors, request.Finish());
  for (const SparseVector& vector : vectors) {
    auto* out = response->add_embeddings();
    out->mutable_indices()->Add(vector.indices.begin(), vector.indices.end());
    out->mutable_values()->Add(vector.values.begin(), vector.values.end());
  }
  return absl::OkStatus();
}

// Vectors as floats, in the message, and serialised; pooling and cut are not known yet. Some more
// for the outputs' bookkeeping.
int64_t EmbedResultBytes(const ServedModel& model) {
  return 12 * model.model->description().embedding_dimensions + 256;
}

}  // namespace

absl::Status HandleEmbed(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kEmbed,
                                      .answer_memory_factor = kVectorsMemoryFactor,
                                      .result_bytes = EmbedResultBytes};
  return HandleTask<v1::EmbedRequest, v1::EmbedResponse>(exchange, kTraits, ReadEmbed, WriteEmbed);
}

absl::Status HandleEmbedSparse(const ExchangePtr& exchange) {
  static constexpr TaskTraits kTraits{.task = Task::kEmbedSparse,
                                      .answer_memory_factor = kVectorsMemoryFactor};
  return HandleTask<v1::EmbedSparseRequest, v1::EmbedSparseResponse>(exchange, kTraits, ReadSparse,
                                                                     WriteSparse);
}

}  // namespace bertrand
