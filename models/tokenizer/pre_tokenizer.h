#pragma once

// Normalised text into words: the `pre_tokenizer` of tokenizer.json.
//
// Immutable and thread-safe.

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "models/checkpoint/json.h"

namespace bertrand {

// Bytes [begin, end) of the normalised text, not empty.
struct WordRange {
  size_t begin, end;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Puts the words of text[part.begin, part.end) behind *words. Linear.
  virtual void Split(std::string_view text, WordRange part,
                     std::vector<WordRange>* words) const = 0;
};

// Null for `"pre_tokenizer": null`. *is_bert: it is exactly BertPreTokenizer. Errors name types
// that are not supported.
absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePreTokenizer(const Json* json, bool* is_bert);

}  // namespace bertrand
