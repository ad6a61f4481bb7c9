#pragma once

// Text to ids and back, equal to Hugging Face `tokenizers` 0.22 on every input: ids, special-token
// masks, type ids and offsets.
//
// A Tokenizer is made once from a checkpoint's folder, is immutable after that and thread-safe;
// Encode keeps its scratch memory in the Encoding that it fills, so a reused Encoding makes a call
// that allocates nothing once it has grown.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bertrand {

enum class TruncationMode : uint8_t { kFail, kLongestFirst, kOnlyFirst, kOnlySecond };
// kAsConfigured: tokenizer_config.json's truncation_side, else the direction that tokenizer.json's
// `truncation` names, else right.
enum class TruncationSide : uint8_t { kAsConfigured, kRight, kLeft };

// Where a token's text lies in its sequence. Special tokens that the post-processor added have
// empty spans at 0.
struct TokenSpan {
  uint32_t start = 0, end = 0;            // Unicode code points, end exclusive
  uint32_t start_byte = 0, end_byte = 0;  // UTF-8 bytes, end exclusive
  bool operator==(const TokenSpan&) const = default;
};

struct EncodeOptions {
  bool add_special_tokens = true;
  bool want_spans = false;  // spans are filled only when asked for: they cost time
  bool want_words = false;  // likewise words
  TruncationMode truncation = TruncationMode::kLongestFirst;
  TruncationSide side = TruncationSide::kAsConfigured;
  // Special tokens included. The default: no truncation.
  int64_t max_tokens = std::numeric_limits<int64_t>::max();
};

struct Encoding {
  std::vector<int32_t> ids;
  std::vector<int32_t> type_ids;
  std::vector<uint8_t> special;  // 1: added by the post-processor (`special_tokens_mask`)
  // 0 or 1: which text a token is from; -1 for added special tokens.
  std::vector<int8_t> sequence;
  std::vector<TokenSpan> spans;  // empty unless wanted
  // Hugging Face's `encoding.word_ids()`: the number of the pre-tokenizer's word, counted in each
  // text from 0 (an added token found in the text is a word, too); -1 for tokens that the
  // post-processor added. Empty unless wanted.
  std::vector<int32_t> words;
  int64_t num_truncated = 0;  // tokens dropped by truncation

  // Opaque memory that the tokenizer reuses from call to call.
  struct Scratch;
  std::shared_ptr<Scratch> scratch;
};

// Special tokens by what they are for (tokenizer_config.json's unk_token, ...).
enum class NamedToken : uint8_t { kUnknown, kSeparator, kPadding, kClassification, kMask };

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Reads tokenizer.json, or where it is absent vocab.json and merges.txt, spiece.model,
  // sentencepiece.bpe.model or vocab.txt, as the class of the tokenizer converts them, with
  // tokenizer_config.json, special_tokens_map.json and added_tokens.json beside it, as
  // transformers' fast tokenizers do. The class is that of tokenizer_config.json, else of
  // config.json, else its model_type's. `truncation` (but for its direction) and `padding` of
  // tokenizer.json are ignored. What a class overrides, defaults included, is overridden here:
  // BERT's do_lower_case, strip_accents and tokenize_chinese_chars, add_prefix_space of byte-level
  // ones, RoBERTa's trim_offsets. Errors name the file, and what is not supported by its name.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& folder);
  // From the two files' texts; `config` may be empty.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view tokenizer_json,
                                                             std::string_view config);

  // `second` null: a single text. Text must be valid UTF-8 (InvalidArgument with the byte offset
  // otherwise), below 4 GiB. InvalidArgument when truncation fails: kFail and too long (message has
  // the limit and the length), only_first / only_second that cannot reach the limit, when special
  // tokens alone pass it, and when a word needs an unknown token that the vocabulary does not have.
  // An empty second text is a pair: where it should not be one, pass null.
  virtual absl::Status Encode(std::string_view first, const std::string_view* second,
                              const EncodeOptions& options, Encoding* encoding) const = 0;

  // transformers' `decode`: the decoder of tokenizer.json, then clean_up_tokenization_spaces as
  // tokenizer_config.json says (absent: false). Ids must be below vocab_size(): InvalidArgument
  // names the first that is not.
  virtual absl::StatusOr<std::string> Decode(std::span<const uint32_t> ids,
                                             bool skip_special_tokens) const = 0;

  // Added tokens included: the largest id + 1.
  virtual int64_t vocab_size() const = 0;
  // The vocabulary's entry ("##ing"); empty for ids without one.
  virtual std::string_view TokenText(int64_t id) const = 0;
  virtual std::optional<int32_t> TokenId(std::string_view token) const = 0;
  // True for added tokens marked special (`all_special_ids`).
  virtual bool IsSpecial(int64_t id) const = 0;
  // Special tokens that the post-processor adds to a single text, or to a pair.
  virtual int64_t num_special_tokens(bool pair) const = 0;
  // The token with a part to play; empty where the checkpoint names none.
  virtual std::optional<int32_t> NamedTokenId(NamedToken name) const = 0;
  // transformers' `convert_tokens_to_string`: the decoder over texts that need not be in the
  // vocabulary, without the clean-up after it.
  virtual std::string JoinTokens(std::span<const std::string_view> tokens) const = 0;
  // Whether the model marks tokens that go on with a word (WordPiece's ##).
  virtual bool has_subword_prefix() const = 0;
  // Whether the first token of a text keeps, in its span, a space that it begins with: to Hugging
  // Face each window of a long text has a first token.
  virtual bool keeps_first_space(bool /*is_second*/) const { return false; }
  // What kAsConfigured stands for: kRight or kLeft.
  virtual TruncationSide truncation_side() const = 0;
  // tokenizer_config.json's model_max_length, if it is there and below 2^31.
  virtual std::optional<int64_t> model_max_length() const = 0;
};

// The byte offset of the first byte that is not valid UTF-8; empty when all are.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

}  // namespace bertrand
