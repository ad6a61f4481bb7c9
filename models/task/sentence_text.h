#pragma once

// What sentence-transformers does to a text before the tokenizer sees it: Python's str.strip and
// str.lower, exactly. Tables are made from Python itself (make_sentence_text_tables.py).
//
// Texts must be valid UTF-8. All functions are thread-safe.

#include <string>
#include <string_view>

namespace bertrand {

// `text` without white space, as Python's str.isspace has it, at both ends.
std::string_view StripPython(std::string_view text);

// str.lower() of `text`, appended to `out`: one code point at a time, but for U+0130, which gives
// two, and a sigma at the end of a word, which gives U+03C2.
void AppendLowerPython(std::string_view text, std::string* out);

}  // namespace bertrand
