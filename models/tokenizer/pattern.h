#pragma once

// What the normaliser Replace and the pre-tokenizer Split look for in a text: a string, or one of
// the regular expressions that tokenizers of these families use:
//
//   a       \s       \p{L}       \p{N}       .. or a negation of the last three: \S \P{L} \P{N}
//   each alone, with `+`, or with `{n,}`; or several literal characters
//
// and GPT-2's, which has a reader of its own (byte_level.h). Others are refused by name.
//
// Immutable and thread-safe.

#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "models/checkpoint/json.h"

namespace bertrand {

// Bytes [begin, end) of a text, not empty.
struct WordRange {
  size_t begin, end;
};

class Pattern {
 public:
  // From {"String": "..."} or {"Regex": "..."}; `where` is for messages.
  static absl::StatusOr<Pattern> Parse(const Json* json, std::string_view where);
  static Pattern Literal(std::string text);

  // The first match in text[from, end). Linear.
  bool Find(std::string_view text, size_t from, size_t end, WordRange* match) const;

  // How many bytes may come of one at most where each match becomes `content`.
  uint64_t MaxGrowth(std::string_view content) const;

 private:
  bool Matches(char32_t c) const;
  bool ParseRegex(std::string_view regex);

  enum class Kind : uint8_t { kLiteral, kRun, kOne, kByteLevel };
  Kind kind_ = Kind::kLiteral;
  std::string literal_;
  // Of kRun and kOne: the code point, or the class.
  char32_t code_point_ = 0;
  int flag_ = 0;
  bool negated_ = false;
  size_t min_count_ = 1;
};

}  // namespace bertrand
