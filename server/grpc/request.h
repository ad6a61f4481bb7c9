#pragma once

// What the methods share on the way from a message to a task's request, and from its results to an
// answer: model, limits, parsing, inputs, options, spans, statistics.
//
// Everything checks before it allocates; errors name the field. Called from urgent tasks (on the
// way in) or from the thread that ended the batch (on the way out).

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <google/protobuf/arena.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/task/request.h"
#include "models/task/scores.h"
#include "proto/bertrand.pb.h"
#include "server/grpc/exchange.h"
#include "server/grpc/wire.h"
#include "server/vector_encoding.h"

namespace bertrand {

// The model that a message names in its field 1, read from the wire.
absl::StatusOr<const ServedModel*> ResolveModel(const Exchange& exchange, std::optional<Task> task);

// What the wire says of a request's inputs, before it is parsed.
struct InputCount {
  int64_t num_inputs = 0;
  // Text that is tokenised again with every input: a query with each document.
  int64_t repeated_bytes = 0;
};

// The number of occurrences of a repeated field: at most --max-inputs-per-request, and unless
// `may_be_empty` at least 1.
absl::StatusOr<int64_t> CountRepeated(const Exchange& exchange, uint32_t field, const char* name,
                                      bool may_be_empty = false);
// Of a request whose inputs are in field 2, `inputs`.
absl::StatusOr<InputCount> CountInputs(const Exchange& exchange);
// ResourceExhausted when that much text would be tokenised again and again.
absl::Status CheckRepeatedBytes(const Exchange& exchange, const char* field, int64_t bytes);

// What a request needs from its parse to its tokens: arena, ids (up to one a byte before they are
// cut), bookkeeping.
int64_t EstimateWorkBytes(const Exchange& exchange, const ServedModel& model,
                          const InputCount& count);

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

// ---- From the message; results are views into it.

absl::StatusOr<std::vector<TaskInput>> ReadInputs(
    const google::protobuf::RepeatedPtrField<v1::Input>& inputs);
std::vector<TaskInput> ReadPairs(const google::protobuf::RepeatedPtrField<v1::TextPair>& pairs);
std::vector<std::string_view> ReadTexts(
    const google::protobuf::RepeatedPtrField<std::string>& texts);

// Truncation as asked for, or as the server's --truncation says; the limit is the model's unless a
// smaller one is asked for.
absl::StatusOr<EncodeOptions> ReadTruncation(const v1::Truncation& truncation,
                                             const Exchange& exchange, const ServedModel& model);
// The same for a task that can take long inputs; where it does, only max_tokens is a limit.
absl::StatusOr<EncodeOptions> ReadTruncation(const v1::Truncation& truncation,
                                             const Exchange& exchange, const ServedModel& model,
                                             const LongInputOptions& long_input);
absl::StatusOr<LongInputOptions> ReadLongInput(const v1::LongInput& long_input,
                                               const ServedModel& model);
// `prompt` and `prompt_name` are not both set.
absl::Status CheckPrompt(const std::string& prompt_name, const std::string& prompt);
absl::StatusOr<std::optional<ScoreFunction>> ReadActivation(v1::Activation activation);
absl::StatusOr<VectorType> ReadVectorType(v1::DataType type);

// ResourceExhausted when an answer would be too large.
absl::Status CheckAnswerBytes(const Exchange& exchange, int64_t bytes);

// ---- Into the answer

// A token's message; `index` into the encoding.
void WriteToken(const Model& model, const Encoding& encoding, size_t index, v1::Token* token);
// `sequence`: 1 for a pair's second text.
void WriteSpan(const TokenSpan& span, int sequence, v1::TextSpan* out);
void WriteLabels(std::span<const LabelScore> labels, v1::ClassifyResponse::Classification* out);
void WriteTiming(const JobTiming& timing, v1::Timing* out);

template <typename Response>
void WriteStats(const TaskRequest& request, Response* response) {
  for (size_t i = 0; i < request.num_inputs(); ++i) {
    v1::InputStats* stats = response->add_stats();
    stats->set_num_tokens(static_cast<uint32_t>(request.num_tokens(i)));
    stats->set_num_truncated_tokens(static_cast<uint32_t>(request.num_truncated_tokens(i)));
  }
}

}  // namespace bertrand
