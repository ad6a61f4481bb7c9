#pragma once

// A method that runs a task: what is the same for all of them. A method says how its inputs are
// counted on the wire, makes the task's request from the message, and writes the results into the
// answer; this does the rest, in the order that keeps the server's limits.

#include <google/protobuf/arena.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "server/grpc/methods.h"
#include "server/grpc/request.h"

namespace bertrand {

// Memory of an answer while it is made, per byte on the wire: vectors are there twice (in the
// message and serialised), small messages with strings and spans weigh more in memory.
inline constexpr int64_t kVectorsMemoryFactor = 2;
inline constexpr int64_t kMessagesMemoryFactor = 5;

struct TaskTraits {
  std::optional<Task> task;  // none: any model will do
  int64_t answer_memory_factor = kMessagesMemoryFactor;
  absl::StatusOr<InputCount> (*count)(const Exchange& exchange) = CountInputs;
  // What the results of an input will need, where that is known before the parse.
  int64_t (*result_bytes)(const ServedModel& model) = nullptr;
};

// Everything that a method's Read sees besides the message.
struct TaskContext {
  const Exchange& exchange;
  const ServedModel& served;
  const Model& model;
  // For answers of another size than answer_bytes() says (vectors that are encoded in fewer bytes).
  int64_t* answer_bytes_max;
};

// For a request whose vectors answer_bytes() counts as `width` floats: the limit for what they will
// really have.
inline void ScaleAnswerLimit(VectorType type, int64_t width, int64_t dimensions,
                             const TaskContext& context) {
  const auto row_bytes =
      static_cast<int64_t>(EncodedRowBytes(type, static_cast<size_t>(dimensions)));
  *context.answer_bytes_max =
      *context.answer_bytes_max / std::max<int64_t>(row_bytes, 1) * 4 * width;
}

// Rows of an answer's vectors, encoded as they are added.
class VectorsWriter {
 public:
  VectorsWriter(VectorType type, size_t dimensions, size_t num_rows)
      : type_(type), dimensions_(dimensions) {
    bytes_.reserve(num_rows * EncodedRowBytes(type, dimensions));
  }
  void Add(std::span<const float> row) {
    AppendRow(type_, row, &bytes_, &scales_);
    ++count_;
  }
  void Finish(v1::Vectors* out) {
    out->set_type(static_cast<v1::DataType>(type_));
    out->set_count(count_);
    out->set_dimensions(static_cast<uint32_t>(dimensions_));
    out->set_data(std::move(bytes_));
    out->mutable_scales()->Add(scales_.begin(), scales_.end());
  }

 private:
  const VectorType type_;
  const size_t dimensions_;
  uint32_t count_ = 0;
  std::string bytes_;
  std::vector<float> scales_;
};

// Message, Response: of the protocol. read(message, context) gives a StatusOr of a unique_ptr to
// the task's request; write(message, request, response) the status of its Finish.
template <typename Message, typename Response, typename Read, typename Write>
absl::Status HandleTask(const ExchangePtr& exchange, const TaskTraits& traits, Read read,
                        Write write) {
  BERTRAND_ASSIGN_OR_RETURN(const ServedModel* model, ResolveModel(*exchange, traits.task));
  BERTRAND_ASSIGN_OR_RETURN(const InputCount count, traits.count(*exchange));
  const int64_t result_bytes =
      traits.result_bytes != nullptr ? count.num_inputs * traits.result_bytes(*model) : 0;
  BERTRAND_ASSIGN_OR_RETURN(
      const bool grown, exchange->Grow(EstimateWorkBytes(*exchange, *model, count) + result_bytes));
  if (!grown) return absl::OkStatus();

  BERTRAND_ASSIGN_OR_RETURN(auto parsed, Parse<Message>(*exchange));
  const Message& message = *parsed->message;
  auto job = std::make_shared<Job>();
  job->model = model;
  job->reserved_bytes = result_bytes;
  job->answer_memory_factor = traits.answer_memory_factor;
  job->answer_bytes_max = exchange->site.limits.response_bytes_max;
  const TaskContext context{*exchange, *model, *model->model, &job->answer_bytes_max};
  BERTRAND_ASSIGN_OR_RETURN(auto request, read(message, context));
  auto* const task = request.get();
  job->request = std::move(request);
  job->owner = std::move(parsed);
  job->done = [exchange, task, &message, write](Job& done, const absl::Status& ended) {
    exchange->TakeBack(&done);
    if (!ended.ok()) return exchange->Answer(ended);
    google::protobuf::Arena arena;
    auto* response = google::protobuf::Arena::CreateMessage<Response>(&arena);
    const absl::Status written = write(message, *task, response);
    if (!written.ok()) return exchange->Answer(written);
    if constexpr (requires { response->add_stats(); }) {
      WriteStats(*task, response);
      WriteTiming(done.timing, response->mutable_timing());
    }
    exchange->Answer(*response);
  };
  exchange->StartJob(std::move(job));
  return absl::OkStatus();
}

}  // namespace bertrand
