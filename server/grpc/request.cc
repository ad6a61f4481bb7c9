#include "server/grpc/request.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "kernels/status.h"
#include "server/quote.h"

namespace bertrand {
namespace {

constexpr uint32_t kModelField = 1;
constexpr uint32_t kInputsField = 2;
// Text that is tokenised with every input may be that many messages' worth in all: seconds of work.
constexpr int64_t kRepeatedFactorMax = 16;
// Windows and segments of models without a limit: what such models were trained with. Less where a
// batch could not hold a segment and a memory of that length.
constexpr int64_t kWindowTokens = 512;

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

absl::StatusOr<int64_t> CountRepeated(const Exchange& exchange, uint32_t field, const char* name,
                                      bool may_be_empty) {
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountField(exchange.bytes(), field));
  const int64_t limit = exchange.site.limits.inputs_per_request_max;
  if (count == 0 && !may_be_empty) {
    return InvalidArgument(absl::StrCat(name, ": is empty; at least one is needed"));
  }
  if (count > limit) {
    return ResourceExhausted(
        absl::StrCat(name, ": ", count, " of them, above --max-inputs-per-request (", limit, ")"));
  }
  return count;
}

absl::StatusOr<InputCount> CountInputs(const Exchange& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const int64_t count, CountRepeated(exchange, kInputsField, "inputs"));
  return InputCount{.num_inputs = count};
}

absl::Status CheckRepeatedBytes(const Exchange& exchange, const char* field, int64_t bytes) {
  const int64_t limit = exchange.site.limits.request_bytes_max;
  if (bytes / kRepeatedFactorMax <= limit) return absl::OkStatus();
  return ResourceExhausted(absl::StrCat(field, ": is tokenised once for each input, ", bytes,
                                        " bytes in all, above ", kRepeatedFactorMax,
                                        " times --max-request-bytes (", limit, ")"));
}

int64_t EstimateWorkBytes(const Exchange& exchange, const ServedModel& model,
                          const InputCount& count) {
  constexpr int64_t kBytesPerByte = 12, kBytesPerToken = 40, kBytesPerInput = 512;
  const int64_t repeated = std::min(kBytesPerByte * count.repeated_bytes,
                                    kBytesPerToken * count.num_inputs * model.input_tokens_max);
  return kBytesPerByte * static_cast<int64_t>(exchange.bytes().size()) +
         kBytesPerInput * count.num_inputs + repeated;
}

absl::StatusOr<std::vector<TaskInput>> ReadInputs(
    const google::protobuf::RepeatedPtrField<v1::Input>& inputs) {
  std::vector<TaskInput> read(static_cast<size_t>(inputs.size()));
  for (int i = 0; i < inputs.size(); ++i) {
    const v1::Input& input = inputs[i];
    TaskInput& out = read[static_cast<size_t>(i)];
    switch (input.content_case()) {
      case v1::Input::kText:
        out.kind = TaskInput::Kind::kText;
        out.first = input.text();
        break;
      case v1::Input::kPair:
        out.kind = TaskInput::Kind::kPair;
        out.first = input.pair().first();
        out.second = input.pair().second();
        break;
      case v1::Input::kTokens: {
        const v1::TokenIds& tokens = input.tokens();
        out.kind = TaskInput::Kind::kIds;
        out.ids = {tokens.ids().data(), static_cast<size_t>(tokens.ids_size())};
        out.type_ids = {tokens.type_ids().data(), static_cast<size_t>(tokens.type_ids_size())};
        break;
      }
      case v1::Input::CONTENT_NOT_SET:
        return InvalidArgument(
            absl::StrCat("inputs[", i, "]: has no content; set text, pair or tokens"));
    }
  }
  return read;
}

std::vector<TaskInput> ReadPairs(const google::protobuf::RepeatedPtrField<v1::TextPair>& pairs) {
  std::vector<TaskInput> read;
  read.reserve(static_cast<size_t>(pairs.size()));
  for (const v1::TextPair& pair : pairs) {
    read.push_back(
        {.kind = TaskInput::Kind::kPair, .first = pair.first(), .second = pair.second()});
  }
  return read;
}

std::vector<std::string_view> ReadTexts(
    const google::protobuf::RepeatedPtrField<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

absl::StatusOr<EncodeOptions> ReadTruncation(const v1::Truncation& truncation,
                                             const Exchange& exchange, const ServedModel& model) {
  return ReadTruncation(truncation, exchange, model, LongInputOptions());
}

absl::StatusOr<EncodeOptions> ReadTruncation(const v1::Truncation& truncation,
                                             const Exchange& exchange, const ServedModel& model,
                                             const LongInputOptions& long_input) {
  EncodeOptions encode;
  switch (truncation.mode()) {
    case v1::Truncation::MODE_UNSPECIFIED:
      encode.truncation = exchange.site.limits.truncation;
      break;
    case v1::Truncation::MODE_FAIL:
      encode.truncation = TruncationMode::kFail;
      break;
    case v1::Truncation::MODE_LONGEST_FIRST:
      encode.truncation = TruncationMode::kLongestFirst;
      break;
    case v1::Truncation::MODE_ONLY_FIRST:
      encode.truncation = TruncationMode::kOnlyFirst;
      break;
    case v1::Truncation::MODE_ONLY_SECOND:
      encode.truncation = TruncationMode::kOnlySecond;
      break;
    default:
      return UnknownValue("truncation.mode", truncation.mode());
  }
  switch (truncation.side()) {
    case v1::Truncation::SIDE_UNSPECIFIED:
      encode.side = TruncationSide::kAsConfigured;
      break;
    case v1::Truncation::SIDE_RIGHT:
      encode.side = TruncationSide::kRight;
      break;
    case v1::Truncation::SIDE_LEFT:
      encode.side = TruncationSide::kLeft;
      break;
    default:
      return UnknownValue("truncation.side", truncation.side());
  }
  // Windows and segments of a model without a limit are no longer than a batch, either.
  if (long_input.mode == LongInputOptions::Mode::kTruncate ||
      model.model->description().max_tokens == 0) {
    encode.max_tokens = model.text_tokens_max;
    if (truncation.max_tokens() > model.text_tokens_max) {
      return InvalidArgument(absl::StrCat("truncation.max_tokens: ", truncation.max_tokens(),
                                          " is above the model's limit of ",
                                          model.text_tokens_max));
    }
  }
  if (truncation.max_tokens() > 0) encode.max_tokens = truncation.max_tokens();
  return encode;
}

absl::StatusOr<LongInputOptions> ReadLongInput(const v1::LongInput& long_input,
                                               const ServedModel& model) {
  using Mode = LongInputOptions::Mode;
  LongInputOptions options{.window_tokens = long_input.window_tokens(),
                           .overlap_tokens = long_input.overlap_tokens(),
                           .memory_tokens = long_input.memory_tokens()};
  switch (long_input.mode()) {
    case v1::LongInput::MODE_UNSPECIFIED:
      return LongInputOptions();
    case v1::LongInput::MODE_WINDOWS:
      options.mode = Mode::kWindows;
      break;
    case v1::LongInput::MODE_RECURRENCE:
      options.mode = Mode::kRecurrence;
      break;
    default:
      return UnknownValue("long_input.mode", long_input.mode());
  }
  if (options.window_tokens > model.text_tokens_max) {
    return InvalidArgument(absl::StrCat("long_input.window_tokens: ", options.window_tokens,
                                        " is above the model's limit of ", model.text_tokens_max));
  }
  if (options.window_tokens == 0) {
    options.window_tokens = model.model->description().max_tokens > 0
                                ? model.text_tokens_max
                                : std::min(kWindowTokens, model.text_tokens_max / 2);
  }
  return options;
}

absl::Status CheckPrompt(const std::string& prompt_name, const std::string& prompt) {
  if (prompt_name.empty() || prompt.empty()) return absl::OkStatus();
  return InvalidArgument("prompt, prompt_name: at most one of the two may be set");
}

absl::StatusOr<std::optional<ScoreFunction>> ReadActivation(v1::Activation activation) {
  if (activation == v1::ACTIVATION_UNSPECIFIED) return std::optional<ScoreFunction>();
  if (!v1::Activation_IsValid(activation)) return UnknownValue("activation", activation);
  return std::optional(static_cast<ScoreFunction>(activation));
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
  const int sequence = index < encoding.sequence.size() ? encoding.sequence[index] : 0;
  WriteSpan(encoding.spans[index], sequence, token->mutable_span());
}

void WriteSpan(const TokenSpan& span, int sequence, v1::TextSpan* out) {
  out->set_start(span.start);
  out->set_end(span.end);
  out->set_start_byte(span.start_byte);
  out->set_end_byte(span.end_byte);
  out->set_sequence_index(static_cast<uint32_t>(sequence));
}

void WriteLabels(std::span<const LabelScore> labels, v1::ClassifyResponse::Classification* out) {
  for (const LabelScore& label : labels) {
    v1::LabelScore* score = out->add_labels();
    score->set_label(label.label.data(), label.label.size());
    score->set_score(label.score);
    score->set_label_id(label.label_id);
  }
}

void WriteTiming(const JobTiming& timing, v1::Timing* out) {
  out->set_tokenize_us(NotNegative(MicrosecondsBetween(timing.received, timing.prepared)));
  out->set_queue_us(NotNegative(MicrosecondsBetween(timing.prepared, timing.started)));
  out->set_inference_us(NotNegative(timing.inference_us));
  out->set_total_us(NotNegative(MicrosecondsBetween(timing.received, timing.finished)));
}

}  // namespace bertrand
