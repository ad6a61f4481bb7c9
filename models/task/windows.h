#pragma once

// A long encoding cut into overlapping windows, each with the special tokens of the whole, as
// `tokenizers` makes them with return_overflowing_tokens and a stride (Encoding::truncate).
//
// The plan is arithmetic and is made at once; the windows' ids, which overlap and so may be many
// times the text's, are made by WindowSequences.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace bertrand {

// Windows over the tokens of one of the encoding's texts; the other text, if there is one, is in
// every window, as are the special tokens.
class WindowPlan {
 public:
  WindowPlan() = default;
  // `which`: the text that is cut, 0 or 1. `window_tokens` with special tokens and the other text.
  // InvalidArgument when they leave no room, or when the overlap does.
  static absl::StatusOr<WindowPlan> Make(const Encoding& whole, int8_t which, int64_t window_tokens,
                                         int64_t overlap_tokens, bool from_left_end);

  bool empty() const { return num_windows_ == 0; }
  size_t size() const { return num_windows_; }
  int8_t which() const { return which_; }
  // Tokens of a window, everything included; and of all of them.
  int64_t num_tokens(size_t window) const { return fixed_ + end(window) - begin(window); }
  int64_t num_tokens() const;
  // The window's range among the tokens of the text that is cut.
  int64_t begin(size_t window) const;
  int64_t end(size_t window) const;
  // Where that text's tokens begin in the whole encoding.
  int64_t text_begin() const { return text_begin_; }
  // The place in the whole encoding of a window's token.
  size_t SourceToken(size_t window, size_t token) const;

 private:
  size_t num_windows_ = 0;
  int8_t which_ = 0;
  bool from_left_end_ = true;
  int64_t fixed_ = 0;                       // tokens that every window has
  int64_t text_begin_ = 0, text_size_ = 0;  // of the text that is cut, in the whole
  int64_t room_ = 0, step_ = 0;
};

// The span of the whole encoding's token `at` in a window of it: the first of a window keeps a
// space that it would lose further in (Tokenizer::keeps_first_space). `source`: the text that is
// cut.
TokenSpan SpanInWindow(const Tokenizer& tokenizer, const Encoding& whole, const WindowPlan& plan,
                       size_t window, size_t at, std::string_view source);

// The windows' ids, one after the other.
class WindowSequences {
 public:
  static int64_t Bytes(const WindowPlan& plan) { return 8 * plan.num_tokens(); }
  void Build(const Encoding& whole, const WindowPlan& plan);
  std::span<const int32_t> ids(size_t window) const;
  std::span<const int32_t> type_ids(size_t window) const;

 private:
  std::vector<int32_t> ids_, type_ids_;
  std::vector<size_t> ends_;
};

}  // namespace bertrand
