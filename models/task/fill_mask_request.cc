#include "models/task/fill_mask_request.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/status.h"
#include "models/task/wire_bytes.h"

namespace bertrand {
namespace {

constexpr int64_t kDefaultCandidates = 5;

InputRules RulesOf(const FillMaskOptions& options) {
  InputRules rules;
  rules.prepare.encode = options.encode;
  rules.prepare.encode.want_spans = true;
  return rules;
}

}  // namespace

FillMaskRequest::FillMaskRequest(const Model& model, std::vector<TaskInput> inputs,
                                 const FillMaskOptions& options)
    : InputsRequest(model, std::move(inputs), RulesOf(options)) {}

absl::StatusOr<std::unique_ptr<FillMaskRequest>> FillMaskRequest::Create(
    const Model& model, std::vector<TaskInput> inputs, const FillMaskOptions& options) {
  BERTRAND_RETURN_IF_ERROR(model.CheckTask(Task::kFillMask));
  const std::optional<int32_t> mask = model.tokenizer().NamedTokenId(NamedToken::kMask);
  if (!mask) return FailedPrecondition("the tokenizer names no mask token");
  std::unique_ptr<FillMaskRequest> request(new FillMaskRequest(model, std::move(inputs), options));
  request->mask_id_ = *mask;
  BERTRAND_RETURN_IF_ERROR(request->FindTargets(options.targets));
  const auto num_targets = static_cast<int64_t>(request->targets_.size());
  request->num_candidates_ =
      std::min(options.top_k > 0 ? options.top_k : kDefaultCandidates,
               num_targets > 0 ? num_targets : model.description().vocab_size);
  return request;
}

// pipelines/fill_mask.py, get_target_ids: words that are no tokens become their first token, those
// without one are left out, and equal ones fall together.
absl::Status FillMaskRequest::FindTargets(std::span<const std::string_view> targets) {
  const Tokenizer& tokenizer = model().tokenizer();
  EncodeOptions encode;
  encode.add_special_tokens = false;
  encode.max_tokens = 1;
  Encoding encoding;
  for (size_t i = 0; i < targets.size(); ++i) {
    const std::string field = "targets[" + std::to_string(i) + "]";
    std::optional<int32_t> id = tokenizer.TokenId(targets[i]);
    if (!id) {
      const absl::Status status = tokenizer.Encode(targets[i], nullptr, encode, &encoding);
      if (!status.ok()) return Annotate(status, field);
      if (encoding.ids.empty()) continue;
      id = encoding.ids[0];
    }
    if (*id >= model().description().vocab_size) {
      return InvalidArgument(field + ": is token " + std::to_string(*id) +
                             ", the model knows those below " +
                             std::to_string(model().description().vocab_size));
    }
    targets_.push_back(*id);
  }
  if (!targets.empty() && targets_.empty()) {
    return InvalidArgument("targets: none of them gives a token");
  }
  std::sort(targets_.begin(), targets_.end());
  targets_.erase(std::unique(targets_.begin(), targets_.end()), targets_.end());
  return absl::OkStatus();
}

absl::Status FillMaskRequest::Check(size_t index) const {
  const std::vector<int32_t>& ids = encoding(index).ids;
  if (std::find(ids.begin(), ids.end(), mask_id_) != ids.end()) return absl::OkStatus();
  const bool was_cut = encoding(index).num_truncated > 0;
  return InvalidArgument("has no mask token, " +
                         std::string(model().tokenizer().TokenText(mask_id_)) +
                         (was_cut ? ", among those that truncation has left" : ""));
}

int64_t FillMaskRequest::NumMasks(size_t index) const {
  const std::vector<int32_t>& ids = encoding(index).ids;
  return std::count(ids.begin(), ids.end(), mask_id_);
}

int64_t FillMaskRequest::answer_bytes() const {
  int64_t bytes = 0;
  for (size_t i = 0; i < num_inputs(); ++i) {
    // Each candidate has the whole text, at most as long as its tokens with spaces between them.
    int64_t each = 2 * kSpanMessageWireBytes;
    for (const int32_t id : encoding(i).ids) {
      each += 1 + static_cast<int64_t>(model().tokenizer().TokenText(id).size());
    }
    bytes += NumMasks(i) * (kSpanMessageWireBytes + num_candidates_ * each);
  }
  return bytes;
}

int64_t FillMaskRequest::OutputBytes(int64_t num_tokens) const {
  // The masks are counted when they are laid out; this is for one, and for all their positions.
  return 4 * num_tokens + 8 * num_candidates_;
}

int64_t FillMaskRequest::work_bytes() const {
  int64_t bytes = InputsRequest::work_bytes();
  for (size_t i = 0; i < num_inputs(); ++i) bytes += NumMasks(i) * 8 * num_candidates_;
  return bytes;
}

absl::Status FillMaskRequest::LayOut(std::span<SequenceWork> sequences) {
  std::vector<size_t> num_masks(sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::span<const int32_t> ids = sequences[i].ids;
    for (size_t at = 0; at < ids.size(); ++at) {
      if (ids[at] != mask_id_) continue;
      positions_.push_back(static_cast<int32_t>(at));
      ++num_masks[i];
    }
  }
  const auto width = static_cast<size_t>(num_candidates_);
  ids_.resize(positions_.size() * width);
  scores_.resize(ids_.size());
  outputs_.resize(sequences.size());
  size_t first = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    MaskOutput& output = outputs_[i];
    const size_t count = num_masks[i];
    output.positions = std::span(positions_).subspan(first, count);
    output.targets = targets_;
    output.num_candidates = num_candidates_;
    output.ids = std::span(ids_).subspan(first * width, count * width);
    output.scores = std::span(scores_).subspan(first * width, count * width);
    sequences[i].mask = &output;
    first += count;
  }
  return absl::OkStatus();
}

// pipelines/fill_mask.py, postprocess: special tokens stay in the text where several masks are, or
// the others would go too.
absl::StatusOr<MaskCandidate> FillMaskRequest::Candidate(size_t index, size_t position, int32_t id,
                                                         float score) const {
  const Tokenizer& tokenizer = model().tokenizer();
  const std::optional<int32_t> padding = tokenizer.NamedTokenId(NamedToken::kPadding);
  const std::vector<int32_t>& source = encoding(index).ids;
  std::vector<uint32_t> ids;
  for (size_t at = 0; at < source.size(); ++at) {
    const int32_t token = at == position ? id : source[at];
    if (token != padding) ids.push_back(static_cast<uint32_t>(token));
  }
  const auto own = static_cast<uint32_t>(id);
  MaskCandidate candidate;
  candidate.id = id;
  candidate.score = score;
  // Ids of a model that the tokenizer does not have are nothing to it.
  std::erase_if(ids, [&](uint32_t token) { return token >= tokenizer.vocab_size(); });
  if (own < tokenizer.vocab_size()) {
    BERTRAND_ASSIGN_OR_RETURN(candidate.text, tokenizer.Decode(std::span(&own, 1), false));
  }
  const bool skip_special = outputs_[index].positions.size() == 1;
  BERTRAND_ASSIGN_OR_RETURN(candidate.sequence, tokenizer.Decode(ids, skip_special));
  return candidate;
}

absl::StatusOr<std::vector<std::vector<FilledMask>>> FillMaskRequest::Finish() {
  std::vector<std::vector<FilledMask>> results(num_inputs());
  const auto width = static_cast<size_t>(num_candidates_);
  for (size_t i = 0; i < num_inputs(); ++i) {
    const MaskOutput& output = outputs_[i];
    BERTRAND_RETURN_IF_ERROR(CheckFinite(output.scores, InputName(i)));
    const Encoding& tokens = encoding(i);
    for (size_t mask = 0; mask < output.positions.size(); ++mask) {
      const auto position = static_cast<size_t>(output.positions[mask]);
      FilledMask& result = results[i].emplace_back();
      if (position < tokens.spans.size()) result.span = tokens.spans[position];
      result.sequence = std::max<int8_t>(0, tokens.sequence[position]);
      for (size_t at = mask * width; at < (mask + 1) * width; ++at) {
        BERTRAND_ASSIGN_OR_RETURN(MaskCandidate candidate,
                                  Candidate(i, position, output.ids[at], output.scores[at]));
        result.candidates.push_back(std::move(candidate));
      }
    }
  }
  return results;
}

}  // namespace bertrand
