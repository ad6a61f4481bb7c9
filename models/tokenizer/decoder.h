#pragma once

// Tokens back to text: the `decoder` of tokenizer.json, and transformers' clean-up of the result.
//
// Pure functions of their arguments, thread-safe.

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <string_view>

#include "models/checkpoint/json.h"

namespace bertrand {

class Decoder {
 public:
  virtual ~Decoder() = default;
  // Adds a token to *text; `is_first`: nothing has been added yet.
  virtual void Append(std::string_view token, bool is_first, std::string* text) const = 0;
};

// `"decoder": null` joins tokens with spaces. Errors name types that are not supported.
absl::StatusOr<std::unique_ptr<Decoder>> ParseDecoder(const Json* json);

// WordPiece: the prefix is removed, except from the first token; other tokens get a space before
// them. `cleanup` then takes spaces before punctuation and contractions out of each token.
std::unique_ptr<Decoder> MakeWordPieceDecoder(std::string prefix, bool cleanup);

// `clean_up_tokenization` of transformers' tokenization_utils_base.py.
std::string CleanUpTokenization(std::string text);

}  // namespace bertrand
