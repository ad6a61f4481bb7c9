#pragma once

// What sentence-transformers does to a text before the tokenizer sees it: Python's str.strip and
// str.lower, exactly. Tables are made from Python itself (make_sentence_text_tables.py).
//
// Texts must be valid UTF-8. All functions are thread-safe.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "models/tokenizer/tokenizer.h"

namespace bertrand {

// `text` without white space, as Python's str.isspace has it, at both ends.
std::string_view StripPython(std::string_view text);

// str.lower() of `text`, appended to `out`: one code point at a time, but for U+0130, which gives
// two, and a sigma at the end of a word, which gives U+03C2.
void AppendLowerPython(std::string_view text, std::string* out);

// What was done to a text before it was tokenised, in this order.
struct TextCleaning {
  std::string_view prompt;  // put before the text
  bool strip = false;
  bool lower = false;
};

// The result; in `memory` when it is no part of `text`.
std::string_view CleanText(std::string_view text, const TextCleaning& cleaning,
                           std::string* memory);

// The way back: spans of tokens of the cleaned text become spans of `text`. What lies in the prompt
// becomes empty, at 0. Only tokens with sequence[i] == `which` are touched.
void MapSpansBack(std::string_view text, const TextCleaning& cleaning,
                  std::span<const int8_t> sequence, int8_t which, std::span<TokenSpan> spans);

}  // namespace bertrand
