#pragma once

// BertNormalizer, BertPreTokenizer and WordPiece in one pass over the source text: what nearly all
// WordPiece checkpoints have. Equal to the three run one after the other (a test compares them on
// every code point), without their intermediate texts.
//
// For each code point the normaliser's effect does not depend on its neighbours, so it is looked up
// as an Action made while loading; ASCII goes through a table of 128. The one exception are
// combining marks that stay after strip_accents (a few dozen, such as U+302E): canonical reordering
// moves them within their run, so there the run is decomposed again, from its start, by the
// normaliser's own code. Each run is read twice at most.
//
// Immutable and thread-safe; a Word belongs to one call and is reused.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/token_run.h"
#include "models/tokenizer/wordpiece.h"

namespace bertrand {

class BertSplitter {
 public:
  // The word being collected, and memory for runs of marks.
  struct Word {
    std::vector<char> bytes;           // normalised; a little more room than `size`
    std::vector<SourceRange> sources;  // of each byte, where `uneven`
    std::vector<uint32_t> ends;
    size_t size = 0;
    uint64_t num_code_points = 0;
    uint32_t start = 0, end = 0;  // in the source text
    // False: byte i of the word is byte start + i of the source text.
    bool uneven = false;
    bool missing_unk =
        false;  // a word needed the unknown token, which the vocabulary does not have
    NormalizedText marks;
    CanonicalDecomposer decomposer;
  };

  // `model` must outlive this.
  BertSplitter(const BertNormalizerOptions& options, const WordPiece& model);

  // Adds the tokens of text[begin, end) to *run. Requires valid UTF-8. *word keeps its memory; its
  // missing_unk is set, never cleared.
  void Tokenize(std::string_view text, size_t begin, size_t end, Word* word, TokenRun* run) const;

 private:
  enum class Kind : uint8_t {
    kLetter,   // stays as it is, in a word
    kReplace,  // letters, with other bytes
    kBreak,    // ends a word, nothing else
    kAlone,    // as it is, a word by itself
    kDrop,     // nothing
    kMixed,    // several code points, letters or not
    kMarks,    // a mark that stays: its run must be put in canonical order
    kHangul,   // decomposes by arithmetic
    kWide,     // in the ASCII table only: not ASCII
  };
  struct Action {
    Kind kind = Kind::kLetter;
    uint8_t num_bytes = 0, num_code_points = 0;  // of kReplace; code points of kMixed
    uint32_t offset = 0;                         // of kReplace in bytes_, of kMixed in mixed_
  };
  template <bool kSources>
  class Pass;

  Action MakeAction(char32_t c);

  BertNormalizerOptions options_;
  const WordPiece& model_;
  std::array<Kind, 256> ascii_kind_;
  std::array<char, 128> ascii_lower_;
  std::array<int32_t, 128> ascii_alone_id_;  // of punctuation; -1: not in the vocabulary
  std::vector<Action> actions_;              // by record
  std::string bytes_;
  std::vector<char32_t> mixed_;
};

}  // namespace bertrand
