#pragma once

// Tokens back to text: the `decoder` of tokenizer.json, and transformers' clean-up of the result.
//
// Pure functions of their arguments, thread-safe.

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint/json.h"

namespace bertrand {

// Rewrites a list of pieces of text, at first one a token; in the end they are the text, one behind
// the other.
class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void Decode(std::vector<std::string>* pieces) const = 0;
  // As Normalizer's.
  virtual uint64_t MaxGrowth() const { return 1; }
};

// `"decoder": null` joins tokens with spaces. Errors name types that are not supported.
absl::StatusOr<std::unique_ptr<Decoder>> ParseDecoder(const Json* json);

// WordPiece: the prefix is removed, except from the first token; other tokens get a space before
// them. `cleanup` then takes spaces before punctuation and contractions out of each token.
std::unique_ptr<Decoder> MakeWordPieceDecoder(std::string prefix, bool cleanup);
// The characters of byte_level.h become bytes again; what is then no UTF-8 becomes U+FFFD.
std::unique_ptr<Decoder> MakeByteLevelDecoder();
// The replacement becomes a space, but vanishes from the first token where words were given one.
std::unique_ptr<Decoder> MakeMetaspaceDecoder(char32_t replacement, bool drop_first);

// `clean_up_tokenization` of transformers' tokenization_utils_base.py.
std::string CleanUpTokenization(std::string text);

// Rust's String::from_utf8_lossy: each maximal part of a code point that is not complete, and each
// byte that begins none, becomes U+FFFD.
std::string FromUtf8Lossy(std::string_view bytes);

}  // namespace bertrand
