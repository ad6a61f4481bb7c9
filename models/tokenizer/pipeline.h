#pragma once

// The Tokenizer made of its parts: added tokens, normaliser, pre-tokenizer, model, post-processor,
// decoder. Loading fills a PipelineParts; Pipeline runs them.
//
// Immutable once made and thread-safe.

#include <absl/status/statusor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/bert_splitter.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/byte_level_splitter.h"
#include "models/tokenizer/decoder.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/post_processor.h"
#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/token_model.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/wordpiece.h"

namespace bertrand {

struct PipelineParts {
  std::unique_ptr<Normalizer> normalizer;  // may be null
  // Set when the normaliser is a BertNormalizer, and when the pre-tokenizer is BertPreTokenizer:
  // together they take the short way through BertSplitter.
  std::optional<BertNormalizerOptions> bert_normalizer;
  PreTokenizerTraits pre_tokenizer_traits;
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<TokenModel> model;
  const WordPiece* word_piece = nullptr;  // the model, where it is one
  const Bpe* bpe = nullptr;               // likewise
  AddedTokens added_tokens;               // its Build is called by Pipeline::Create
  PostProcessor post_processor;
  std::unique_ptr<Decoder> decoder;
  bool clean_up_tokenization_spaces = false;
  TruncationSide truncation_side = TruncationSide::kRight;
  std::optional<int64_t> model_max_length;
  std::map<NamedToken, std::string> named_tokens;
};

// What Tokenizer::FromJson makes its Pipeline of.
absl::StatusOr<PipelineParts> PartsFromJson(std::string_view tokenizer_json,
                                            std::string_view config);

class Pipeline final : public Tokenizer {
 public:
  // `allow_short_way` false: each part runs by itself, as tests of BertSplitter and of byte-level
  // words that are read from the source text need it.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(PipelineParts parts,
                                                           bool allow_short_way = true);

  absl::Status Encode(std::string_view first, const std::string_view* second,
                      const EncodeOptions& options, Encoding* encoding) const override;
  absl::StatusOr<std::string> Decode(std::span<const uint32_t> ids,
                                     bool skip_special_tokens) const override;
  int64_t vocab_size() const override;
  std::string_view TokenText(int64_t id) const override;
  std::optional<int32_t> TokenId(std::string_view token) const override;
  bool IsSpecial(int64_t id) const override;
  int64_t num_special_tokens(bool pair) const override {
    return parts_.post_processor.NumSpecialTokens(pair);
  }
  std::optional<int32_t> NamedTokenId(NamedToken name) const override;
  std::string JoinTokens(std::span<const std::string_view> tokens) const override;
  bool keeps_first_space(bool is_second) const override {
    const PostProcessor& made = parts_.post_processor;
    return made.trim_offsets && made.add_prefix_space && !made.is_behind_special[is_second ? 1 : 0];
  }
  bool has_subword_prefix() const override { return parts_.model->has_subword_prefix(); }
  TruncationSide truncation_side() const override { return parts_.truncation_side; }
  std::optional<int64_t> model_max_length() const override { return parts_.model_max_length; }

 private:
  explicit Pipeline(PipelineParts parts) : parts_(std::move(parts)) {}

  absl::Status Tokenize(std::string_view text, Encoding::Scratch* scratch, TokenRun* run) const;
  void TokenizePart(std::string_view text, size_t begin, size_t end, Encoding::Scratch* scratch,
                    TokenRun* run) const;
  void TokenizeStepByStep(std::string_view text, size_t begin, size_t end,
                          Encoding::Scratch* scratch, TokenRun* run) const;
  void TokenizeWords(WordRange part, Encoding::Scratch* scratch, TokenRun* run) const;
  void TokenizeBytes(std::string_view text, size_t begin, size_t end, Encoding::Scratch* scratch,
                     TokenRun* run) const;
  // The last match that was white space alone, in code points.
  struct WhiteMatch {
    size_t begin = 0, end = 0;
    uint32_t count = 0;
  };
  static SpacesAround SpacesAroundMatch(const AddedMatch& match, std::string_view text,
                                        WhiteMatch* white);
  void AddToken(const AddedMatch& match, std::string_view text, SourceRange range,
                WhiteMatch* white, TokenRun* run) const;
  void TrimSpans(const TokenRun& run, size_t skip, std::string_view text, bool is_behind_special,
                 std::span<TokenSpan> spans) const;
  void Assemble(const KeptTokens& kept, const std::string_view* texts, bool is_pair,
                const EncodeOptions& options, Encoding* encoding) const;

  PipelineParts parts_;
  std::optional<BertSplitter> short_way_;
  std::optional<ByteLevelSplitter> bytes_way_;
  std::vector<SpacesAround> spaces_;  // of the model's tokens, by id; for trim_offsets
};

}  // namespace bertrand
