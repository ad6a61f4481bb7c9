#pragma once

// The WordPiece model: a word becomes the longest vocabulary entry that starts it, then the longest
// entry `prefix + rest` that continues it, and so on; a word that cannot be covered becomes one
// unknown token.
//
// The automaton. The obvious loop looks each prefix up from long to short, quadratic in the word.
// Here two tries share one double array: the entries as they are (for the start of a word), and
// those with the continuing prefix without it. Each state v also has a failure link and a list of
// tokens: when no child of v fits the next byte, the longest-match decision for the bytes read so
// far is already known. Those tokens are emitted, and matching goes on in the state that stands for
// the bytes which they leave over, without reading any byte twice (Song et al., "Fast WordPiece
// Tokenization", EMNLP 2021, LinMaxMatch):
//   v ends an entry t:   tokens(v) = [t], fail(v) = the root of continuations;
//   otherwise:           tokens(v) = tokens(parent), z = fail(parent); while z has no child by v's
//                        byte: append tokens(z), z = fail(z); fail(v) = that child, or none.
// A state without failure link ends in the unknown token. Linear time for any vocabulary and word.
//
// Before that, short words are looked up whole: most words of ordinary text are entries, and one
// access costs less than a step a letter.
//
// Immutable after Create and thread-safe.

#include <absl/status/statusor.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/tokenizer/double_array.h"
#include "models/tokenizer/token_model.h"
#include "models/tokenizer/vocabulary.h"
#include "models/tokenizer/word_table.h"

namespace bertrand {

struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  int64_t max_input_chars_per_word = 100;
};

class WordPiece final : public TokenModel {
 public:
  // InvalidArgument where it takes more than `memory_max` bytes, the vocabulary included.
  static absl::StatusOr<std::unique_ptr<WordPiece>> Create(Vocabulary vocabulary,
                                                           WordPieceOptions options,
                                                           size_t memory_max = kNoMemoryBound);

  // Tokens of `word` (not empty, at most max_input_chars_per_word code points), at most one a byte:
  // ids[i] and, if ends is not null, ends[i]: where in the word it ends, in bytes (it starts where
  // the one before ends). Returns how many; 0 when the word cannot be covered, so that it is one
  // unknown token.
  size_t Match(std::string_view word, int32_t* ids, uint32_t* ends) const;
  // The same, faster; kWholeWordBytes bytes must be readable at word.data() whatever its size.
  size_t MatchPadded(std::string_view word, int32_t* ids, uint32_t* ends) const;
  static constexpr size_t kWholeWordBytes = WordTable::kReadableBytes;

  bool AddWord(std::string_view word, const SourceRange* source, ModelScratch* scratch,
               TokenRun* run) const override;

  // The id of the unknown token; empty when the vocabulary does not have it.
  std::optional<int32_t> unk_id() const { return unk_id_; }
  uint64_t max_input_chars() const { return max_input_chars_; }
  const WordPieceOptions& options() const { return options_; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  bool has_subword_prefix() const override { return !options_.continuing_subword_prefix.empty(); }
  std::string_view unk_token() const override { return options_.unk_token; }

 private:
  struct Output {
    int32_t id;
    uint32_t length;  // bytes of the word that it covers
  };
  static constexpr uint32_t kWordRoot = 1, kContinuationRoot = 2;

  WordPiece(Vocabulary vocabulary, WordPieceOptions options);
  absl::Status BuildAutomaton(size_t memory_max);
  template <typename Visit>
  void ForEachEntry(Visit visit) const;
  absl::Status LinkStates(const std::vector<uint32_t>& ends, size_t outputs_max,
                          size_t* num_outputs);
  void FillOutputs(const std::vector<uint32_t>& ends);
  void BuildWholeWords(size_t memory_max);
  template <bool kWantEnds>
  size_t MatchImpl(std::string_view word, int32_t* ids, uint32_t* ends) const;

  Vocabulary vocabulary_;
  WordPieceOptions options_;
  std::optional<int32_t> unk_id_;
  uint64_t max_input_chars_;
  // Cells: `first` is the failure link, `second` the index in outputs_ of a header, whose `id` is
  // the number of outputs that follow it.
  DoubleArray states_;
  std::vector<Output> outputs_;
  WordTable whole_words_;
};

// From tokenizer.json's `model`, which it frees when it has read it.
absl::StatusOr<std::unique_ptr<WordPiece>> ParseWordPiece(Json json, size_t memory_max);

}  // namespace bertrand
