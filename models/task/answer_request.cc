#include "models/task/answer_request.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/status.h"
#include "models/task/inputs_request.h"
#include "models/task/scores.h"
#include "models/task/wire_bytes.h"

namespace bertrand {
namespace {

constexpr int64_t kDefaultSequenceTokens = 384;
constexpr int64_t kDefaultStride = 128;
constexpr int64_t kDefaultAnswerTokens = 15;
constexpr int64_t kSequenceBytes = 256;
// An answer on its way: the candidate, its lower-cased text, and their places in lists.
constexpr int64_t kCandidateBytes = 256;

std::string NameOf(size_t index) { return "inputs[" + std::to_string(index) + "]"; }

}  // namespace

AnswerRequest::AnswerRequest(const Model& model, std::vector<QuestionContext> inputs,
                             const AnswerOptions& options)
    : model_(model), inputs_(std::move(inputs)), options_(options), prepared_(inputs_.size()) {}

absl::StatusOr<std::unique_ptr<AnswerRequest>> AnswerRequest::Create(
    const Model& model, std::vector<QuestionContext> inputs, const AnswerOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kAnswerQuestion));
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (const bool is_question : {true, false}) {
      if (!(is_question ? inputs[i].question : inputs[i].context).empty()) continue;
      return InvalidArgument(NameOf(i) + (is_question ? ".question" : ".context") + ": is empty");
    }
  }
  std::unique_ptr<AnswerRequest> request(new AnswerRequest(model, std::move(inputs), options));
  BERTRAND_RETURN_IF_ERROR(request->SetDefaults());
  return request;
}

absl::Status AnswerRequest::SetDefaults() {
  const int64_t limit = TokenLimit(model_, EncodeOptions{});
  const int64_t special = model_.tokenizer().num_special_tokens(/*pair=*/true);
  if (options_.top_k == 0) options_.top_k = 1;
  if (options_.max_answer_tokens == 0) options_.max_answer_tokens = kDefaultAnswerTokens;
  int64_t& size = options_.max_seq_tokens;
  if (size == 0) size = std::min(limit, kDefaultSequenceTokens);
  if (size > limit || size <= special) {
    return InvalidArgument(
        "max_seq_tokens: is " + std::to_string(size) + ", expected " + std::to_string(special + 1) +
        " to " +
        (limit == std::numeric_limits<int64_t>::max() ? "any number" : std::to_string(limit)));
  }
  if (!options_.doc_stride_tokens) {
    options_.doc_stride_tokens = std::min(size / 2, kDefaultStride);
  } else if (*options_.doc_stride_tokens < 0 || *options_.doc_stride_tokens >= size) {
    return InvalidArgument("doc_stride_tokens: is " + std::to_string(*options_.doc_stride_tokens) +
                           ", expected less than max_seq_tokens, " + std::to_string(size));
  }
  return absl::OkStatus();
}

size_t AnswerRequest::input_bytes(size_t index) const {
  return inputs_[index].question.size() + inputs_[index].context.size();
}

absl::Status AnswerRequest::Prepare(size_t index) {
  const QuestionContext& source = inputs_[index];
  const HeadTraits& traits = model_.description().heads;
  Prepared& prepared = prepared_[index];
  PrepareOptions options;
  options.beyond_limit = true;
  options.encode.want_spans = true;
  options.encode.want_words = true;
  const std::string_view second = traits.context_first ? source.question : source.context;
  const TextInput text{traits.context_first ? source.context : source.question, &second};
  absl::Status status = model_.Prepare(text, options, &prepared.input);
  if (!status.ok()) return Annotate(status, NameOf(index));

  const Encoding& encoding = prepared.input.encoding;
  const int8_t which = traits.context_first ? 0 : 1;
  const auto size = static_cast<int64_t>(encoding.ids.size());
  // What fits is one window, whatever the stride.
  const bool fits = size <= options_.max_seq_tokens;
  absl::StatusOr<WindowPlan> plan = WindowPlan::Make(
      encoding, which, fits ? std::max<int64_t>(size, 1) + 1 : options_.max_seq_tokens,
      fits ? 0 : *options_.doc_stride_tokens,
      model_.tokenizer().truncation_side() != TruncationSide::kLeft);
  if (!plan.ok()) {
    const auto in_question = std::count(encoding.sequence.begin(), encoding.sequence.end(),
                                        static_cast<int8_t>(1 - which));
    return Annotate(plan.status(),
                    NameOf(index) + ": the question has " + std::to_string(in_question) +
                        " tokens, which with max_seq_tokens " +
                        std::to_string(options_.max_seq_tokens) + " and doc_stride_tokens " +
                        std::to_string(*options_.doc_stride_tokens) + " leave no room");
  }
  prepared.plan = *plan;
  if (size == 0) return InvalidArgument(NameOf(index) + ": has no tokens");
  return has_beam() ? absl::OkStatus() : CheckCandidates(index);
}

// Windows are answered on the device, which has room for so many spans.
absl::Status AnswerRequest::CheckCandidates(size_t index) const {
  const auto tokens = static_cast<size_t>(prepared_[index].plan.num_tokens(0));
  const size_t spans =
      NumSpans(tokens, CandidatesEach(), static_cast<size_t>(options_.max_answer_tokens));
  if (spans <= SpanOutput::kSpansMax) return absl::OkStatus();
  return InvalidArgument(NameOf(index) + ": top_k " + std::to_string(options_.top_k) +
                         " takes the best " + std::to_string(spans) + " spans of a window of " +
                         std::to_string(tokens) + " tokens, expected at most " +
                         std::to_string(SpanOutput::kSpansMax));
}

// transformers' pre_topk: some candidates may become one when they are aligned to words.
size_t AnswerRequest::CandidatesEach() const {
  const auto top_k = static_cast<size_t>(options_.top_k);
  return options_.align_to_words ? 2 * top_k + 10 : top_k;
}

int64_t AnswerRequest::work_bytes() const {
  int64_t bytes = 0;
  for (const Prepared& prepared : prepared_) {
    const auto windows = static_cast<int64_t>(prepared.plan.size());
    const int64_t tokens = prepared.plan.num_tokens(0);
    const int64_t candidates = std::min(tokens * tokens, static_cast<int64_t>(CandidatesEach()));
    bytes += WindowSequences::Bytes(prepared.plan) +
             windows * (kSequenceBytes + 10 * tokens + kCandidateBytes * candidates);
  }
  return bytes;
}

int64_t AnswerRequest::answer_bytes() const {
  int64_t bytes = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    // Answers of score 0 may be the whole context; each window has `CandidatesEach` at most.
    const int64_t windows = static_cast<int64_t>(prepared_[i].plan.size());
    const int64_t tokens = prepared_[i].plan.num_tokens(0);
    const int64_t each = std::min(tokens * tokens, static_cast<int64_t>(CandidatesEach()));
    bytes += std::min(options_.top_k, 1 + windows * each) *
             (kSpanMessageWireBytes + static_cast<int64_t>(inputs_[i].context.size()));
  }
  return bytes;
}

// ---- The stage

absl::StatusOr<bool> AnswerRequest::NextStage() {
  sequences_.clear();
  if (laid_out_) return false;
  laid_out_ = true;
  for (Prepared& prepared : prepared_) {
    prepared.first_sequence = sequences_.size();
    prepared.windows.Build(prepared.input.encoding, prepared.plan);
    for (size_t window = 0; window < prepared.plan.size(); ++window) {
      SequenceWork& work = sequences_.emplace_back();
      work.ids = prepared.windows.ids(window);
      work.type_ids = prepared.windows.type_ids(window);
    }
  }
  if (has_beam()) {
    LayOutBeams();
  } else {
    LayOutSpans();
  }
  return true;
}

void AnswerRequest::LayOutSpans() {
  const auto answer_tokens = static_cast<size_t>(options_.max_answer_tokens);
  outputs_.resize(sequences_.size());
  masks_.resize(sequences_.size());
  size_t num_spans = 0;
  for (const SequenceWork& work : sequences_) {
    num_spans += NumSpans(work.ids.size(), CandidatesEach(), answer_tokens);
  }
  spans_.resize(num_spans);
  std::span<ScoredSpan> left(spans_);
  for (size_t index = 0; index < prepared_.size(); ++index) {
    const Prepared& prepared = prepared_[index];
    for (size_t window = 0; window < prepared.plan.size(); ++window) {
      const size_t i = prepared.first_sequence + window, size = sequences_[i].ids.size();
      WindowView view = View(index, window);
      masks_[i] = std::move(view.masked);
      const size_t count = NumSpans(size, CandidatesEach(), answer_tokens);
      outputs_[i] = {masks_[i], static_cast<int32_t>(view.cls_index),
                     static_cast<int32_t>(std::min(size, answer_tokens)), left.first(count)};
      left = left.subspan(count);
      sequences_[i].answers = &outputs_[i];
    }
  }
}

void AnswerRequest::LayOutBeams() {
  const HeadTraits& traits = model_.description().heads;
  const auto starts_max = static_cast<size_t>(traits.beam_starts);
  const auto ends_max = static_cast<size_t>(traits.beam_ends);
  const size_t each = starts_max + starts_max * ends_max;
  beam_scores_.resize(sequences_.size() * (each + 1));
  beam_indices_.resize(sequences_.size() * each);
  beams_.resize(sequences_.size());
  masks_.resize(sequences_.size());
  for (size_t index = 0; index < prepared_.size(); ++index) {
    const Prepared& prepared = prepared_[index];
    for (size_t window = 0; window < prepared.plan.size(); ++window) {
      const size_t i = prepared.first_sequence + window;
      const size_t size = sequences_[i].ids.size();
      const size_t starts = std::min(size, starts_max), ends = std::min(size, ends_max);
      WindowView view = View(index, window);
      masks_[i] = std::move(view.masked);
      BeamOutput& beam = beams_[i];
      beam.masked = masks_[i];
      beam.cls_index = static_cast<int32_t>(view.cls_index);
      const std::span<float> scores = std::span(beam_scores_).subspan(i * (each + 1), each + 1);
      const std::span<int32_t> indices = std::span(beam_indices_).subspan(i * each, each);
      beam.start_scores = scores.first(starts);
      beam.end_scores = scores.subspan(starts_max, starts * ends);
      beam.starts = indices.first(starts);
      beam.ends = indices.subspan(starts_max, starts * ends);
      beam.no_answer_logit = &scores[each];
      sequences_[i].beam = &beam;
    }
  }
}

AnswerRequest::WindowView AnswerRequest::View(size_t index, size_t window) const {
  const Prepared& prepared = prepared_[index];
  const Encoding& whole = prepared.input.encoding;
  const bool context_first = model_.description().heads.context_first;
  const std::optional<int32_t> cls = model_.tokenizer().NamedTokenId(NamedToken::kClassification);
  const auto size = static_cast<size_t>(prepared.plan.num_tokens(window));
  WindowView view;
  // transformers means position 0; where the question comes last, its <cls> is the last token.
  view.cls_index = context_first ? size - 1 : 0;
  view.context_begin = static_cast<size_t>(prepared.plan.text_begin());
  view.context_end = view.context_begin +
                     static_cast<size_t>(prepared.plan.end(window) - prepared.plan.begin(window));
  for (size_t token = 0; token < size; ++token) {
    const size_t at = prepared.plan.SourceToken(window, token);
    view.spans.push_back(
        SpanInWindow(model_.tokenizer(), whole, prepared.plan, window, at, inputs_[index].context));
    view.words.push_back(whole.words[at]);
    // Every <cls> is unmasked, those that the texts spell out too.
    view.masked.push_back(view.in_context(token) || whole.ids[at] == cls ? 0 : 1);
  }
  return view;
}

// ---- The answers

std::vector<Answer> AnswerRequest::FinishSpans(size_t index) const {
  const Prepared& prepared = prepared_[index];
  AnswerList answers(inputs_[index].context, /*merge=*/true);
  float null_score = std::numeric_limits<float>::max();
  for (size_t window = 0; window < prepared.plan.size(); ++window) {
    const WindowView view = View(index, window);
    const SpanOutput& output = outputs_[prepared.first_sequence + window];
    const DecodedWindow decoded = DecodeWindow(output.spans, output.masked, CandidatesEach(),
                                               static_cast<size_t>(options_.max_answer_tokens));
    null_score = std::min(null_score, decoded.null_score);
    const WindowTokens tokens = view.tokens();
    for (const TokenAnswer& answer : decoded.answers) {
      answers.Add(ContextSpan(tokens, answer.start, answer.end, options_.align_to_words),
                  answer.score);
    }
  }
  if (options_.allow_no_answer) answers.AddNoAnswer(null_score);
  return answers.Best(static_cast<size_t>(options_.top_k));
}

std::vector<Answer> AnswerRequest::FinishBeams(size_t index) const {
  const Prepared& prepared = prepared_[index];
  AnswerList answers(inputs_[index].context, /*merge=*/false);
  float null_score = std::numeric_limits<float>::max();
  for (size_t window = 0; window < prepared.plan.size(); ++window) {
    const WindowView view = View(index, window);
    const WindowTokens tokens = view.tokens();
    const BeamOutput& beam = beams_[prepared.first_sequence + window];
    const size_t ends = beam.ends.size() / beam.starts.size();
    for (size_t i = 0; i < beam.ends.size(); ++i) {
      const int32_t start = beam.starts[i / ends], end = beam.ends[i];
      const auto first = static_cast<size_t>(start), last = static_cast<size_t>(end);
      if (end < start || end - start >= options_.max_answer_tokens || !view.in_context(first) ||
          !view.in_context(last)) {
        continue;
      }
      answers.Add(ContextSpan(tokens, first, last, options_.align_to_words),
                  beam.start_scores[i / ends] * beam.end_scores[i]);
    }
    null_score = std::min(null_score, Sigmoid(*beam.no_answer_logit));
  }
  if (options_.allow_no_answer) answers.AddNoAnswer(null_score);
  return answers.Best(static_cast<size_t>(options_.top_k));
}

absl::Status AnswerRequest::CheckOutput(size_t index) const {
  const Prepared& prepared = prepared_[index];
  for (size_t window = 0; window < prepared.plan.size(); ++window) {
    const size_t i = prepared.first_sequence + window;
    if (!has_beam()) {
      const float null_score = outputs_[i].spans[0].score;  // NaN where any logit is not finite
      BERTRAND_RETURN_IF_ERROR(CheckFinite(std::span(&null_score, 1), NameOf(index)));
      continue;
    }
    BERTRAND_RETURN_IF_ERROR(CheckFinite(beams_[i].start_scores, NameOf(index)));
    BERTRAND_RETURN_IF_ERROR(CheckFinite(beams_[i].end_scores, NameOf(index)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<Answer>>> AnswerRequest::Finish() {
  std::vector<std::vector<Answer>> results;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    BERTRAND_RETURN_IF_ERROR(CheckOutput(i));
    results.push_back(has_beam() ? FinishBeams(i) : FinishSpans(i));
  }
  return results;
}

}  // namespace bertrand
