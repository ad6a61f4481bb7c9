#pragma once

// Special tokens around one text or two: the `post_processor` of tokenizer.json, and the truncation
// that makes room for them.
//
// Immutable and thread-safe.

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {

// What stands where in the result.
struct TemplatePiece {
  int sequence = -1;         // 0 or 1: that text's tokens; -1: `ids`
  std::vector<int32_t> ids;  // special tokens
  int32_t type_id = 0;
};

struct PostProcessor {
  // Without post-processor: the texts one behind the other, types 0 and 1.
  std::vector<TemplatePiece> single{{0, {}, 0}};
  std::vector<TemplatePiece> pair{{0, {}, 0}, {1, {}, 1}};
  // Spans leave out the white space that their tokens begin and end with (byte-level models).
  bool trim_offsets = false;
  // With trim_offsets: the text was given a space, so one at its beginning is no part of it.
  bool add_prefix_space = true;
  // With both, where a Sequence trims after it has added special tokens: whether the first and the
  // second text have one before them then, so that none of their tokens is the first.
  bool is_behind_special[2] = {false, false};
  // The two are options of its type, which a tokenizer's class may override.
  bool has_options = false;

  const std::vector<TemplatePiece>& Pieces(bool is_pair) const { return is_pair ? pair : single; }
  int64_t NumSpecialTokens(bool is_pair) const;
};

// `"post_processor": null` is the default PostProcessor. Errors name types that are not supported.
absl::StatusOr<PostProcessor> ParsePostProcessor(const Json* json);

// [CLS] A [SEP], [CLS] A [SEP] B [SEP].
PostProcessor BertPostProcessor(int32_t cls_id, int32_t sep_id);
// <s> A </s>, <s> A </s> </s> B </s>, all of type 0.
PostProcessor RobertaPostProcessor(int32_t cls_id, int32_t sep_id);

// How many tokens of each text are kept.
struct KeptTokens {
  size_t first = 0, second = 0;
};

// `num_special`: what the post-processor will add (0 without special tokens). The rules are those
// of `tokenizers` (utils/truncation.rs); errors are those of Tokenizer::Encode.
absl::StatusOr<KeptTokens> Truncate(size_t num_first, size_t num_second, bool is_pair,
                                    int64_t num_special, const EncodeOptions& options);

}  // namespace bertrand
