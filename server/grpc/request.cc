#include "server/grpc/request.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "kernels/status.h"
#include "server/quote.h"

namespace bertrand {
namespace {

constexpr uint32_t kModelField = 1;
constexpr uint32_t kInputsField = 2;

absl::Status UnknownValue(const char* field, int value) {
  return InvalidArgument(absl::StrCat(field, ": unknown value ", value));
}

uint64_t NotNegative(int64_t microseconds) {
  return static_cast<uint64_t>(std::max<int64_t>(microseconds, 0));
}

}  // namespace

absl::StatusOr<const ServedModel*> ResolveModel(const Exchange& exchange,
                                                std::optional<Task> task) {
  BERTRAND_ASSIGN_OR_RETURN(const std::string_view name,
                            ReadStringField(exchange.bytes(), kModelField));
  if (const auto offset = FindInvalidUtf8(name); offset.has_value()) {
    return InvalidArgument(absl::StrCat("model: invalid UTF-8 at byte ", *offset));
  }
  return exchange.site.engine->Resolve(name, task);
}

absl::StatusOr<int64_t> CountInputs(const Exchange& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountField(exchange.bytes(), kInputsField));
  const int64_t limit = exchange.site.limits.inputs_per_request_max;
  if (count == 0) return InvalidArgument("inputs: is empty; at least one input is needed");
  if (count > limit) {
    return ResourceExhausted(
        absl::StrCat("inputs: ", count, " of them, above --max-inputs-per-request (", limit, ")"));
  }
  return count;
}

int64_t EstimateWorkBytes(const Exchange& exchange, int64_t num_inputs) {
  return 12 * static_cast<int64_t>(exchange.bytes().size()) + 512 * num_inputs;
}

absl::Status ReadInputs(const google::protobuf::RepeatedPtrField<v1::Input>& inputs, Job* job) {
  job->inputs.resize(static_cast<size_t>(inputs.size()));
  for (int i = 0; i < inputs.size(); ++i) {
    const v1::Input& input = inputs[i];
    SourceInput& source = job->inputs[static_cast<size_t>(i)].source;
    switch (input.content_case()) {
      case v1::Input::kText:
        source.kind = SourceInput::Kind::kText;
        source.first = input.text();
        break;
      case v1::Input::kPair:
        source.kind = SourceInput::Kind::kPair;
        source.first = input.pair().first();
        source.second = input.pair().second();
        break;
      case v1::Input::kTokens: {
        const v1::TokenIds& tokens = input.tokens();
        source.kind = SourceInput::Kind::kIds;
        source.ids = {tokens.ids().data(), static_cast<size_t>(tokens.ids_size())};
        source.type_ids = {tokens.type_ids().data(), static_cast<size_t>(tokens.type_ids_size())};
        break;
      }
      case v1::Input::CONTENT_NOT_SET:
        return InvalidArgument(
            absl::StrCat("inputs[", i, "]: has no content; set text, pair or tokens"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadTruncation(const v1::Truncation& truncation, const Exchange& exchange,
                            const ServedModel& model, EncodeOptions* encode) {
  switch (truncation.mode()) {
    case v1::Truncation::MODE_UNSPECIFIED:
      encode->truncation = exchange.site.limits.truncation;
      break;
    case v1::Truncation::MODE_FAIL:
      encode->truncation = TruncationMode::kFail;
      break;
    case v1::Truncation::MODE_LONGEST_FIRST:
      encode->truncation = TruncationMode::kLongestFirst;
      break;
    case v1::Truncation::MODE_ONLY_FIRST:
      encode->truncation = TruncationMode::kOnlyFirst;
      break;
    case v1::Truncation::MODE_ONLY_SECOND:
      encode->truncation = TruncationMode::kOnlySecond;
      break;
    default:
      return UnknownValue("truncation.mode", truncation.mode());
  }
  switch (truncation.side()) {
    case v1::Truncation::SIDE_UNSPECIFIED:
      encode->side = TruncationSide::kAsConfigured;
      break;
    case v1::Truncation::SIDE_RIGHT:
      encode->side = TruncationSide::kRight;
      break;
    case v1::Truncation::SIDE_LEFT:
      encode->side = TruncationSide::kLeft;
      break;
    default:
      return UnknownValue("truncation.side", truncation.side());
  }
  if (truncation.max_tokens() > model.text_tokens_max) {
    return InvalidArgument(absl::StrCat("truncation.max_tokens: ", truncation.max_tokens(),
                                        " is above the model's limit of ", model.text_tokens_max));
  }
  encode->max_tokens =
      truncation.max_tokens() > 0 ? truncation.max_tokens() : model.text_tokens_max;
  return absl::OkStatus();
}

absl::Status ReadPrompt(const std::string& prompt_name, const std::string& prompt,
                        PrepareOptions* prepare) {
  if (!prompt_name.empty() && !prompt.empty()) {
    return InvalidArgument("prompt, prompt_name: at most one of the two may be set");
  }
  prepare->prompt_name = prompt_name;
  prepare->prompt = prompt;
  return absl::OkStatus();
}

absl::Status CheckLongInput(const v1::LongInput& long_input) {
  switch (long_input.mode()) {
    case v1::LongInput::MODE_UNSPECIFIED:
      return absl::OkStatus();
    case v1::LongInput::MODE_WINDOWS:
    case v1::LongInput::MODE_RECURRENCE:
      return Unimplemented(
          absl::StrCat("long_input.mode: ", v1::LongInput::Mode_Name(long_input.mode()),
                       " is not in this version; leave it out to truncate"));
    default:
      return UnknownValue("long_input.mode", long_input.mode());
  }
}

absl::StatusOr<VectorType> ReadVectorType(v1::DataType type) {
  if (type == v1::DATA_TYPE_UNSPECIFIED) return VectorType::kFloat32;
  if (!v1::DataType_IsValid(type)) return UnknownValue("output_type", type);
  return static_cast<VectorType>(type);
}

absl::Status CheckAnswerBytes(const Exchange& exchange, int64_t bytes) {
  const int64_t limit = exchange.site.limits.response_bytes_max;
  if (bytes <= limit) return absl::OkStatus();
  return ResourceExhausted(absl::StrCat("the answer would have about ", bytes,
                                        " bytes, above --max-response-bytes (", limit, ")"));
}

void WriteToken(const Model& model, const Encoding& encoding, size_t index, v1::Token* token) {
  const int32_t id = encoding.ids[index];
  token->set_id(static_cast<uint32_t>(id));
  const std::string_view text = model.tokenizer().TokenText(id);
  token->set_text(text.data(), text.size());
  // Ids that the client gave have neither mask nor spans.
  token->set_special(index < encoding.special.size() ? encoding.special[index] != 0
                                                     : model.tokenizer().IsSpecial(id));
  token->set_type_id(
      index < encoding.type_ids.size() ? static_cast<uint32_t>(encoding.type_ids[index]) : 0);
  if (index >= encoding.spans.size()) return;
  if (index < encoding.sequence.size() && encoding.sequence[index] < 0) return;
  const TokenSpan& span = encoding.spans[index];
  v1::TextSpan* out = token->mutable_span();
  out->set_start(span.start);
  out->set_end(span.end);
  out->set_start_byte(span.start_byte);
  out->set_end_byte(span.end_byte);
  if (index < encoding.sequence.size()) {
    out->set_sequence_index(static_cast<uint32_t>(encoding.sequence[index]));
  }
}

void WriteTiming(const JobTiming& timing, v1::Timing* out) {
  out->set_tokenize_us(NotNegative(MicrosecondsBetween(timing.received, timing.prepared)));
  out->set_queue_us(NotNegative(MicrosecondsBetween(timing.prepared, timing.started)));
  out->set_inference_us(NotNegative(timing.inference_us));
  out->set_total_us(NotNegative(MicrosecondsBetween(timing.received, timing.finished)));
}

}  // namespace bertrand
