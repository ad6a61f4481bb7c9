#include "models/task/inputs_request.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
// A SequenceWork, its output's description, and what allocations round up.
constexpr int64_t kSequenceBytes = 256;
// Of a segment where nobody says and the model has no limit (bertrand.proto, LongInput).
constexpr int64_t kDefaultSegmentTokens = 512;

const char* FieldOf(TaskInput::Kind kind) {
  static constexpr const char* kFields[] = {".text", ".pair", ".tokens"};
  return kFields[static_cast<size_t>(kind)];
}

std::string Limit(int64_t limit) { return limit == kNoLimit ? "any" : std::to_string(limit); }

}  // namespace

InputsRequest::InputsRequest(const Model& model, std::vector<TaskInput> inputs,
                             const InputRules& rules)
    : model_(model), inputs_(std::move(inputs)), rules_(rules), prepared_(inputs_.size()) {}

size_t InputsRequest::input_bytes(size_t index) const {
  const TaskInput& input = inputs_[index];
  return input.first.size() + input.second.size() + input.ids.size();
}

std::string InputsRequest::InputName(size_t index) const {
  return "inputs[" + std::to_string(index) + "]";
}

absl::Status InputsRequest::UseWindows(int64_t window_tokens, int64_t overlap_tokens,
                                       const WindowFields& fields) {
  const int64_t limit = TokenLimit(model_, rules_.prepare.encode);
  const std::string window_field(fields.window), overlap_field(fields.overlap);
  if (window_tokens == 0 && limit == kNoLimit) {
    return InvalidArgument(window_field +
                           ": the model has no limit of its own, so the tokens of a "
                           "window must be given");
  }
  if (window_tokens == 0) window_tokens = limit;
  const int64_t special = model_.tokenizer().num_special_tokens(/*pair=*/false);
  if (window_tokens > limit || window_tokens <= special) {
    return InvalidArgument(window_field + ": is " + std::to_string(window_tokens) + ", expected " +
                           std::to_string(special + 1) + " to " + Limit(limit));
  }
  if (overlap_tokens < 0 || overlap_tokens >= window_tokens - special) {
    return InvalidArgument(overlap_field + ": is " + std::to_string(overlap_tokens) +
                           ", expected less than the window's tokens without special ones, " +
                           std::to_string(window_tokens - special));
  }
  window_tokens_ = window_tokens;
  overlap_tokens_ = overlap_tokens;
  rules_.prepare.beyond_limit = true;
  rules_.prepare.encode.max_tokens = kNoLimit;
  return absl::OkStatus();
}

absl::Status InputsRequest::UseLongInput(const LongInputOptions& options) {
  switch (options.mode) {
    case LongInputOptions::Mode::kTruncate:
      return absl::OkStatus();
    case LongInputOptions::Mode::kWindows:
      return UseWindows(options.window_tokens, options.overlap_tokens, WindowFields{});
    case LongInputOptions::Mode::kRecurrence:
      break;
  }
  if (!model_.description().has_memory) {
    return InvalidArgument(
        "long_input.mode: MODE_RECURRENCE needs a model that carries a memory from segment to "
        "segment, which this one does not; MODE_WINDOWS cuts long texts into windows");
  }
  if (options.overlap_tokens != 0) {
    return InvalidArgument("long_input.overlap_tokens: is " +
                           std::to_string(options.overlap_tokens) +
                           ", expected 0: segments do not overlap, they have a memory");
  }
  return UseRecurrence(options.window_tokens, options.memory_tokens);
}

absl::Status InputsRequest::UseRecurrence(int64_t segment_tokens, int64_t memory_tokens) {
  const int64_t limit = TokenLimit(model_, rules_.prepare.encode);
  if (segment_tokens == 0) segment_tokens = limit == kNoLimit ? kDefaultSegmentTokens : limit;
  if (segment_tokens < 1 || segment_tokens > limit) {
    return InvalidArgument("long_input.window_tokens: is " + std::to_string(segment_tokens) +
                           ", expected 1 to " + Limit(limit));
  }
  if (memory_tokens == 0) {
    memory_tokens = std::min(model_.description().heads.memory_tokens, Model::kMemoryTokensMax);
  }
  if (memory_tokens == 0) memory_tokens = std::min(segment_tokens, Model::kMemoryTokensMax);
  if (memory_tokens < 1 || memory_tokens > Model::kMemoryTokensMax) {
    return InvalidArgument("long_input.memory_tokens: is " + std::to_string(memory_tokens) +
                           ", expected 1 to " + std::to_string(Model::kMemoryTokensMax));
  }
  segment_tokens_ = segment_tokens;
  memory_tokens_ = memory_tokens;
  rules_.prepare.beyond_limit = true;
  rules_.prepare.encode.max_tokens = kNoLimit;
  return absl::OkStatus();
}

absl::Status InputsRequest::PrepareOne(const TaskInput& input, Prepared* prepared) const {
  PreparedInput& result = prepared->input;
  if (input.kind == TaskInput::Kind::kIds) {
    return model_.PrepareIds(input.ids, input.type_ids, &result);
  }
  const bool is_pair = input.kind == TaskInput::Kind::kPair &&
                       (rules_.empty_second_is_pair || !input.second.empty());
  const std::string_view* second = is_pair ? &input.second : nullptr;
  if (rules_.tokenizer_alone) {
    const std::string first = std::string(rules_.prepare.prompt).append(input.first);
    return model_.tokenizer().Encode(first, second, rules_.prepare.encode, &result.encoding);
  }
  BERTRAND_RETURN_IF_ERROR(
      model_.Prepare({.first = input.first, .second = second}, rules_.prepare, &result));
  const auto size = static_cast<int64_t>(result.encoding.ids.size());
  if (!uses_windows() || size <= window_tokens_) return absl::OkStatus();
  if (is_pair) {
    return InvalidArgument("has " + std::to_string(size) + " tokens, windows have " +
                           std::to_string(window_tokens_) +
                           ", and only single texts are cut into windows");
  }
  const bool from_left_end = rules_.prepare.encode.side == TruncationSide::kRight ||
                             (rules_.prepare.encode.side == TruncationSide::kAsConfigured &&
                              model_.tokenizer().truncation_side() == TruncationSide::kRight);
  BERTRAND_ASSIGN_OR_RETURN(prepared->plan, WindowPlan::Make(result.encoding, 0, window_tokens_,
                                                             overlap_tokens_, from_left_end));
  return absl::OkStatus();
}

absl::Status InputsRequest::CheckLength(const TaskInput& input, const Prepared& prepared) const {
  // PrepareIds has looked: ids may use every position.
  const bool ids_fit = input.kind == TaskInput::Kind::kIds && model_.description().max_ids > 0;
  if (rules_.any_length || ids_fit) return absl::OkStatus();
  const auto size = static_cast<int64_t>(prepared.input.encoding.ids.size());
  const bool is_cut = uses_windows() || uses_recurrence();
  const int64_t limit = is_cut ? kNoLimit : TokenLimit(model_, rules_.prepare.encode);
  if (size >= 1 && size <= limit) return absl::OkStatus();
  return InvalidArgument(std::to_string(size) + " tokens; the model takes 1 to " + Limit(limit));
}

absl::Status InputsRequest::Prepare(size_t index) {
  const TaskInput& input = inputs_[index];
  Prepared& prepared = prepared_[index];
  absl::Status status = PrepareOne(input, &prepared);
  if (status.ok()) status = CheckLength(input, prepared);
  if (status.ok()) status = Check(index);
  if (!status.ok()) return Annotate(status, InputName(index) + FieldOf(input.kind));
  prepared.num_tokens = prepared.plan.empty()
                            ? static_cast<int64_t>(prepared.input.encoding.ids.size())
                            : prepared.plan.num_tokens();
  return absl::OkStatus();
}

int64_t InputsRequest::work_bytes() const {
  int64_t bytes = 0;
  for (size_t i = 0; i < prepared_.size(); ++i) {
    const Prepared& prepared = prepared_[i];
    if (prepared.plan.empty()) {
      bytes += kSequenceBytes + OutputBytes(prepared.num_tokens);
      if (const int64_t memory = MemoryTokens(i); memory > 0) bytes += model_.MemoryBytes(memory);
      continue;
    }
    bytes += WindowSequences::Bytes(prepared.plan);
    // Windows are alike, the last one apart.
    const auto count = static_cast<int64_t>(prepared.plan.size());
    bytes += count * (kSequenceBytes + OutputBytes(prepared.plan.num_tokens(0)));
  }
  return bytes;
}

size_t InputsRequest::NumSegments(size_t index) const {
  if (!uses_recurrence()) return 1;
  return static_cast<size_t>((prepared_[index].num_tokens - 1) / segment_tokens_ + 1);
}

// No more than all segments but the last have tokens.
int64_t InputsRequest::MemoryTokens(size_t index) const {
  if (!uses_recurrence()) return 0;
  const auto before = static_cast<int64_t>(NumSegments(index) - 1) * segment_tokens_;
  return std::min(memory_tokens_, before);
}

absl::StatusOr<bool> InputsRequest::NextSegments() {
  if (!laid_out_) {
    laid_out_ = true;
    documents_.resize(prepared_.size());
    memories_.resize(prepared_.size());
    for (size_t i = 0; i < prepared_.size(); ++i) {
      prepared_[i].first_sequence = i;
      documents_[i].ids = prepared_[i].input.encoding.ids;
      documents_[i].type_ids = prepared_[i].input.encoding.type_ids;
      if (const int64_t tokens = MemoryTokens(i); tokens > 0) {
        BERTRAND_ASSIGN_OR_RETURN(memories_[i], model_.NewMemory(tokens));
      }
    }
    BERTRAND_RETURN_IF_ERROR(LayOut(documents_));
  }
  sequences_.clear();
  const size_t begin = segment_++ * static_cast<size_t>(segment_tokens_);
  for (size_t i = 0; i < documents_.size(); ++i) {
    const SequenceWork& document = documents_[i];
    if (begin >= document.ids.size()) {
      memories_[i].reset();
      continue;
    }
    const size_t size = std::min(static_cast<size_t>(segment_tokens_), document.ids.size() - begin);
    SequenceWork& work = sequences_.emplace_back(document);
    work.ids = document.ids.subspan(begin, size);
    work.type_ids = document.type_ids.subspan(begin, size);
    work.memory = memories_[i].get();
  }
  return !sequences_.empty();
}

absl::StatusOr<bool> InputsRequest::NextStage() {
  if (uses_recurrence()) return NextSegments();
  if (laid_out_) {
    sequences_.clear();
    return false;
  }
  laid_out_ = true;
  windows_.resize(prepared_.size());
  size_t count = 0;
  for (Prepared& prepared : prepared_) {
    prepared.first_sequence = count;
    count += prepared.num_sequences();
  }
  sequences_.resize(count);
  for (size_t i = 0; i < prepared_.size(); ++i) {
    const Prepared& prepared = prepared_[i];
    SequenceWork* const works = sequences_.data() + prepared.first_sequence;
    if (prepared.plan.empty()) {
      works[0].ids = prepared.input.encoding.ids;
      works[0].type_ids = prepared.input.encoding.type_ids;
      continue;
    }
    windows_[i].Build(prepared.input.encoding, prepared.plan);
    for (size_t window = 0; window < prepared.plan.size(); ++window) {
      works[window].ids = windows_[i].ids(window);
      works[window].type_ids = windows_[i].type_ids(window);
    }
  }
  BERTRAND_RETURN_IF_ERROR(LayOut(sequences_));
  return true;
}

size_t InputsRequest::SourceToken(size_t input, size_t window, size_t token) const {
  const WindowPlan& plan = prepared_[input].plan;
  return plan.empty() ? token : plan.SourceToken(window, token);
}

absl::Status CheckPrompt(std::string_view prompt_name, std::string_view prompt) {
  if (prompt_name.empty() || prompt.empty()) return absl::OkStatus();
  return InvalidArgument("prompt, prompt_name: at most one of the two may be set");
}

absl::Status CheckFinite(std::span<const float> values, const std::string& input_name) {
  // The sum of zeros is zero if and only if all values are finite: one pass that vectorises.
  float sum = 0;
  for (const float value : values) sum += value * 0.0f;
  if (sum == 0.0f) return absl::OkStatus();
  return Internal(input_name +
                  ": the model's output is not finite (NaN); a model that float16 is too narrow "
                  "for needs --dtype bfloat16");
}

int64_t TokenLimit(const Model& model, const EncodeOptions& encode) {
  const int64_t limit = model.description().max_tokens;
  return limit > 0 ? std::min(limit, encode.max_tokens) : encode.max_tokens;
}

}  // namespace bertrand
