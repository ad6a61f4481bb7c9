#pragma once

// Words to tokens: the `model` of tokenizer.json. WordPiece, Bpe and Unigram are such models.
//
// Immutable once made and thread-safe; a ModelScratch belongs to one call and is reused.

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/short_merger.h"
#include "models/tokenizer/token_run.h"
#include "models/tokenizer/vocabulary.h"
#include "models/tokenizer/window_cache.h"

namespace bertrand {

// Memory of the models.
struct ModelScratch {
  static constexpr uint32_t kNone = ~uint32_t{0};

  std::vector<uint32_t> ends;
  // Of Bpe.
  struct Symbol {
    int32_t id;
    uint32_t previous, next;  // kNone at the ends
    uint32_t length;          // as `tokenizers` counts it; 0: merged into the one before
  };
  struct Merge {
    uint32_t rank, position;
    int32_t id;
  };
  std::vector<Symbol> symbols;
  std::vector<Merge> merges;
  std::vector<int32_t> path, piece;
  std::vector<size_t> path_ends;  // of several words
  std::vector<uint64_t> dead_ends;
  uint64_t work = 0;  // bytes merged and tokens tried in long words: for a test that it is linear
  std::vector<MergeJob> jobs;     // of several words
  std::vector<MergeJob> windows;  // of long words
  WindowCache window_cache;
  // Part of a long word, and its tokens as far as they are known.
  struct PieceOfWord {
    std::string_view word;  // up to a sure cut
    size_t whole_size;      // of the word
    size_t chain;           // the sure cut before: pieces from there on are joined
    size_t begin, stop;     // goes on until `at` is no more before `stop`
    size_t at;              // where the tokens end
    // The length of the token there, which is compatible with the last one; 0: any may follow.
    size_t first;
    // How often it has gone back since it was there, and no further.
    size_t retreated_at, num_retreats;
    bool is_joined;  // another piece of the same word follows
    bool has_failed;
    std::vector<int32_t> tokens;
    const MergeJob* only;  // null, or all of it
  };
  std::vector<PieceOfWord> pieces_of_words;
  // Of Unigram.
  struct Node {
    double score;
    uint32_t start;
    int32_t id;
  };
  std::vector<Node> nodes;
  std::vector<Node> pieces;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;

  // Adds the tokens of `word`, which is not empty, to *run. `source` has the source of each of its
  // bytes; null where run->want_sources() is false. Returns false when that takes an unknown token
  // which the vocabulary does not have.
  virtual bool AddWord(std::string_view word, const SourceRange* source, ModelScratch* scratch,
                       TokenRun* run) const = 0;

  virtual const Vocabulary& vocabulary() const = 0;
  // What an unknown token is called, for messages.
  virtual std::string_view unk_token() const = 0;
  // Whether pieces inside a word are marked by a prefix, as WordPiece's are by "##".
  virtual bool has_subword_prefix() const { return false; }
};

}  // namespace bertrand
