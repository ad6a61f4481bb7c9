#pragma once

// What the methods share on the way from a message to a job, and from a job to an answer: model,
// limits, parsing, inputs, truncation, vectors, statistics.
//
// Everything checks before it allocates; errors name the field. Called from urgent tasks (on the
// way in) or from the thread that ended the batch (on the way out).

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <google/protobuf/arena.h>

#include <memory>
#include <optional>
#include <string>

#include "proto/bertrand.pb.h"
#include "server/grpc/exchange.h"
#include "server/grpc/wire.h"
#include "server/vector_encoding.h"

namespace bertrand {

// The model that a message names in its field 1, read from the wire.
absl::StatusOr<const ServedModel*> ResolveModel(const Exchange& exchange, std::optional<Task> task);

// The number of occurrences of field 2, `inputs`, which must be in [1, --max-inputs-per-request].
absl::StatusOr<int64_t> CountInputs(const Exchange& exchange);

// What a request needs from its parse to its vectors, apart from the answer: arena, tokens (up to
// one a byte before they are cut), bookkeeping.
int64_t EstimateWorkBytes(const Exchange& exchange, int64_t num_inputs);

// A message in its arena.
template <typename Message>
struct Parsed {
  std::unique_ptr<google::protobuf::Arena> arena = std::make_unique<google::protobuf::Arena>();
  Message* message = google::protobuf::Arena::CreateMessage<Message>(arena.get());
};

// InvalidArgument says where the bytes are not right.
template <typename Message>
absl::StatusOr<std::shared_ptr<Parsed<Message>>> Parse(const Exchange& exchange) {
  auto parsed = std::make_shared<Parsed<Message>>();
  const std::string_view bytes = exchange.bytes();
  if (!parsed->message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return ExplainParseFailure(bytes, Message::descriptor());
  }
  return parsed;
}

// Fills job->inputs with views into the messages.
absl::Status ReadInputs(const google::protobuf::RepeatedPtrField<v1::Input>& inputs, Job* job);

// Truncation as asked for, or as `fallback` says; the limit is the model's unless a smaller one is
// asked for.
absl::Status ReadTruncation(const v1::Truncation& truncation, const Exchange& exchange,
                            const ServedModel& model, EncodeOptions* encode);

// `prompt` or `prompt_name`, not both.
absl::Status ReadPrompt(const std::string& prompt_name, const std::string& prompt,
                        PrepareOptions* prepare);

// Windows and recurrence are not in this version.
absl::Status CheckLongInput(const v1::LongInput& long_input);

absl::StatusOr<VectorType> ReadVectorType(v1::DataType type);

// ResourceExhausted when vectors of that size would make too large an answer.
absl::Status CheckAnswerBytes(const Exchange& exchange, int64_t bytes);

// A token's message; `index` into the encoding.
void WriteToken(const Model& model, const Encoding& encoding, size_t index, v1::Token* token);

template <typename Response>
void WriteStats(const Job& job, Response* response) {
  for (const JobInput& input : job.inputs) {
    v1::InputStats* stats = response->add_stats();
    stats->set_num_tokens(static_cast<uint32_t>(input.prepared.encoding.ids.size()));
    stats->set_num_truncated_tokens(static_cast<uint32_t>(input.prepared.encoding.num_truncated));
  }
}

void WriteTiming(const JobTiming& timing, v1::Timing* out);

}  // namespace bertrand
