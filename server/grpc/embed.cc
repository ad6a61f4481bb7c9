// Embed and EmbedStream: texts -> one vector each.

#include <absl/strings/str_cat.h>

#include <utility>

#include "kernels/status.h"
#include "server/grpc/methods.h"
#include "server/grpc/request.h"

namespace bertrand {
namespace {

// How the vectors shall look in the answer.
struct VectorsFormat {
  VectorType type = VectorType::kFloat32;
  size_t dimensions = 0;
};

absl::StatusOr<std::optional<PoolingChoice>> ReadPooling(v1::Pooling pooling) {
  if (pooling == v1::POOLING_UNSPECIFIED) return std::optional<PoolingChoice>();
  if (!v1::Pooling_IsValid(pooling)) {
    return InvalidArgument(absl::StrCat("pooling: unknown value ", static_cast<int>(pooling)));
  }
  return std::optional(static_cast<PoolingChoice>(pooling));
}

absl::StatusOr<VectorsFormat> ReadFormat(const v1::EmbedRequest& request, const Job& job) {
  VectorsFormat format;
  BERTRAND_ASSIGN_OR_RETURN(format.type, ReadVectorType(request.output_type()));
  format.dimensions = static_cast<size_t>(job.dimensions);
  if (request.dimensions() > job.dimensions) {
    return InvalidArgument(absl::StrCat("dimensions: ", request.dimensions(),
                                        " is above the model's ", job.dimensions));
  }
  if (request.dimensions() > 0) format.dimensions = request.dimensions();
  return format;
}

// Checks a request and fills the job from it.
absl::StatusOr<VectorsFormat> ReadRequest(const v1::EmbedRequest& request, const Exchange& exchange,
                                          Job* job) {
  BERTRAND_RETURN_IF_ERROR(CheckLongInput(request.long_input()));
  BERTRAND_RETURN_IF_ERROR(ReadPrompt(request.prompt_name(), request.prompt(), &job->prepare));
  BERTRAND_RETURN_IF_ERROR(
      ReadTruncation(request.truncation(), exchange, *job->model, &job->prepare.encode));
  BERTRAND_ASSIGN_OR_RETURN(job->pooling, ReadPooling(request.pooling()));
  if (request.has_normalize()) job->normalize = request.normalize();
  BERTRAND_ASSIGN_OR_RETURN(job->dimensions, job->model->model->EmbedDimensions(job->pooling));
  BERTRAND_RETURN_IF_ERROR(ReadInputs(request.inputs(), job));
  job->kind = Job::Kind::kEmbed;
  job->prepare.as_sentence = true;
  return ReadFormat(request, *job);
}

void WriteVectors(Job& job, const VectorsFormat& format, v1::Vectors* out) {
  const bool normalizes = job.model->model->description().normalizes;
  const bool cut = format.dimensions < static_cast<size_t>(job.dimensions);
  std::vector<float> scales;
  std::string bytes;
  bytes.reserve(job.inputs.size() * EncodedRowBytes(format.type, format.dimensions));
  for (JobInput& input : job.inputs) {
    std::span<float> row = input.embed.vector;
    const bool normalize = cut && job.normalize.value_or(normalizes);
    AppendRow(format.type, CutRow(row, format.dimensions, normalize), &bytes, &scales);
  }
  out->set_type(static_cast<v1::DataType>(format.type));
  out->set_count(static_cast<uint32_t>(job.inputs.size()));
  out->set_dimensions(static_cast<uint32_t>(format.dimensions));
  out->set_data(std::move(bytes));
  out->mutable_scales()->Add(scales.begin(), scales.end());
}

void AnswerEmbed(Exchange& exchange, Job& job, const VectorsFormat& format,
                 const absl::Status& status) {
  exchange.TakeBack(&job);
  if (!status.ok()) return exchange.Answer(status);
  google::protobuf::Arena arena;
  auto* response = google::protobuf::Arena::CreateMessage<v1::EmbedResponse>(&arena);
  WriteVectors(job, format, response->mutable_embeddings());
  WriteStats(job, response);
  WriteTiming(job.timing, response->mutable_timing());
  exchange.Answer(*response);
}

}  // namespace

absl::Status HandleEmbed(const ExchangePtr& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const ServedModel* model, ResolveModel(*exchange, Task::kEmbed));
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountInputs(*exchange));
  // Vectors as floats, encoded, and in the message; pooling and cut are not known yet.
  const int64_t answer = count * 12 * model->model->description().embedding_dimensions;
  BERTRAND_ASSIGN_OR_RETURN(const bool grown,
                            exchange->Grow(EstimateWorkBytes(*exchange, count) + answer));
  if (!grown) return absl::OkStatus();

  BERTRAND_ASSIGN_OR_RETURN(auto parsed, Parse<v1::EmbedRequest>(*exchange));
  auto job = std::make_shared<Job>();
  job->model = model;
  BERTRAND_ASSIGN_OR_RETURN(const VectorsFormat format,
                            ReadRequest(*parsed->message, *exchange, job.get()));
  const auto row_bytes = static_cast<int64_t>(EncodedRowBytes(format.type, format.dimensions));
  BERTRAND_RETURN_IF_ERROR(CheckAnswerBytes(*exchange, count * (row_bytes + 16)));
  job->owner = std::move(parsed);
  job->done = [exchange, format](Job& done, const absl::Status& status) {
    AnswerEmbed(*exchange, done, format, status);
  };
  exchange->StartJob(std::move(job));
  return absl::OkStatus();
}

}  // namespace bertrand
