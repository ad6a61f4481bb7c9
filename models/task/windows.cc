#include "models/task/windows.h"

#include <algorithm>
#include <string>

#include "kernels/status.h"

namespace bertrand {

absl::StatusOr<WindowPlan> WindowPlan::Make(const Encoding& whole, int8_t which,
                                            int64_t window_tokens, int64_t overlap_tokens,
                                            bool from_left_end) {
  const auto& sequence = whole.sequence;
  const auto first = std::find(sequence.begin(), sequence.end(), which);
  const auto last = std::find_if(first, sequence.end(), [which](int8_t of) { return of != which; });
  if (std::find(last, sequence.end(), which) != sequence.end()) {
    return InvalidArgument("the tokenizer's template has a text twice: it cannot be cut");
  }
  WindowPlan plan;
  plan.which_ = which;
  plan.from_left_end_ = from_left_end;
  plan.text_begin_ = first - sequence.begin();
  plan.text_size_ = last - first;
  plan.fixed_ = static_cast<int64_t>(whole.ids.size()) - plan.text_size_;
  plan.room_ = window_tokens - plan.fixed_;
  plan.step_ = plan.room_ - overlap_tokens;
  if (plan.room_ < 1) {
    return InvalidArgument("windows of " + std::to_string(window_tokens) +
                           " tokens have no room beside " + std::to_string(plan.fixed_) +
                           " that are in each");
  }
  if (overlap_tokens < 0 || plan.step_ < 1) {
    return InvalidArgument("windows have room for " + std::to_string(plan.room_) +
                           " tokens of the text, and cannot overlap by " +
                           std::to_string(overlap_tokens));
  }
  const int64_t rest = std::max<int64_t>(0, plan.text_size_ - plan.room_);
  plan.num_windows_ = 1 + static_cast<size_t>((rest + plan.step_ - 1) / plan.step_);
  return plan;
}

int64_t WindowPlan::begin(size_t window) const {
  const int64_t offset = static_cast<int64_t>(window) * step_;
  return from_left_end_ ? offset : std::max<int64_t>(0, text_size_ - offset - room_);
}

int64_t WindowPlan::end(size_t window) const {
  const int64_t offset = static_cast<int64_t>(window) * step_;
  return from_left_end_ ? std::min(text_size_, offset + room_) : text_size_ - offset;
}

int64_t WindowPlan::num_tokens() const {
  if (empty()) return 0;
  // All but the last are full.
  return static_cast<int64_t>(size() - 1) * (fixed_ + room_) + num_tokens(size() - 1);
}

size_t WindowPlan::SourceToken(size_t window, size_t token) const {
  const auto at = static_cast<int64_t>(token);
  if (at < text_begin_) return token;
  const int64_t size = end(window) - begin(window);
  const int64_t skipped = at < text_begin_ + size ? begin(window) : text_size_ - size;
  return static_cast<size_t>(at + skipped);
}

TokenSpan SpanInWindow(const Tokenizer& tokenizer, const Encoding& whole, const WindowPlan& plan,
                       size_t window, size_t at, std::string_view source) {
  TokenSpan span = whole.spans[at];
  if (plan.empty() || plan.begin(window) == 0 || !tokenizer.keeps_first_space(plan.which() == 1) ||
      at != static_cast<size_t>(plan.text_begin() + plan.begin(window))) {
    return span;
  }
  constexpr std::string_view kSpace = "\u0120";  // byte-level's space; two are both taken off
  std::string_view text = tokenizer.TokenText(whole.ids[at]);
  if (!text.starts_with(kSpace)) return span;
  text.remove_prefix(kSpace.size());
  if (text.starts_with(kSpace) || span.start_byte == 0 || source[span.start_byte - 1] != ' ') {
    return span;
  }
  const bool is_empty = span.start == span.end;
  --span.start;
  --span.start_byte;
  if (is_empty) {
    span.end = span.start;
    span.end_byte = span.start_byte;
  }
  return span;
}

void WindowSequences::Build(const Encoding& whole, const WindowPlan& plan) {
  const auto total = static_cast<size_t>(plan.num_tokens());
  ids_.reserve(total);
  type_ids_.reserve(total);
  for (size_t window = 0; window < plan.size(); ++window) {
    const auto size = static_cast<size_t>(plan.num_tokens(window));
    for (size_t token = 0; token < size; ++token) {
      const size_t source = plan.SourceToken(window, token);
      ids_.push_back(whole.ids[source]);
      type_ids_.push_back(whole.type_ids[source]);
    }
    ends_.push_back(ids_.size());
  }
}

std::span<const int32_t> WindowSequences::ids(size_t window) const {
  const size_t begin = window == 0 ? 0 : ends_[window - 1];
  return std::span(ids_).subspan(begin, ends_[window] - begin);
}

std::span<const int32_t> WindowSequences::type_ids(size_t window) const {
  const size_t begin = window == 0 ? 0 : ends_[window - 1];
  return std::span(type_ids_).subspan(begin, ends_[window] - begin);
}

}  // namespace bertrand
