#pragma once

// The Unigram model: of all ways to cut a word into pieces of the vocabulary the one with the
// largest sum of scores (Kudo, "Subword Regularization", ACL 2018).
//
// One pass from left to right (Viterbi): for each code point where a piece can start, the trie
// gives the pieces that start there, and each improves the best path to its end. Sums are double,
// added in the library's order, and of equal paths the first found stays, so that ties fall as
// there. A code point that is no piece itself counts as an unknown one, ten below the worst score;
// adjacent unknown ones become one token, or bytes ("<0x41>") where the model has byte_fallback.
//
// A trie is walked from every code point, at most as far as its longest piece: linear in the word
// for a given vocabulary. Sixteen bytes of memory for each of a word's bytes.
//
// Immutable after Create and thread-safe.

#include <absl/status/statusor.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/tokenizer/double_array.h"
#include "models/tokenizer/token_model.h"

namespace bertrand {

class Unigram final : public TokenModel {
 public:
  // Piece i has id i; of equal pieces the last one counts.
  class Pieces {
   public:
    void Reserve(size_t count, size_t text_bytes);
    static size_t ReservedBytes(size_t count, size_t text_bytes);
    void Add(std::string_view text, double score);
    size_t size() const { return scores_.size(); }

   private:
    friend class Unigram;
    Vocabulary vocabulary_;
    std::vector<double> scores_;
  };
  // InvalidArgument when unk_id is not one, or it takes more than `memory_max` bytes.
  static absl::StatusOr<std::unique_ptr<Unigram>> Create(Pieces pieces,
                                                         std::optional<int32_t> unk_id,
                                                         bool byte_fallback, size_t memory_max);

  bool AddWord(std::string_view word, const SourceRange* source, ModelScratch* scratch,
               TokenRun* run) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::string_view unk_token() const override { return "unk_id"; }

 private:
  Unigram() = default;
  bool FindBestPath(std::string_view word, ModelScratch* scratch) const;
  void AddUnknown(std::string_view text, SourceRange range, TokenRun* run) const;

  Vocabulary vocabulary_;
  std::vector<double> scores_;  // by id
  double unk_score_ = 0;
  std::optional<int32_t> unk_id_;
  bool byte_fallback_ = false;
  std::array<int32_t, 256> byte_ids_;
  DoubleArray trie_;  // `first`: 1 + the id of the piece that ends here, or 0
};

// From tokenizer.json's `model`, which it frees when it has read it.
absl::StatusOr<std::unique_ptr<Unigram>> ParseUnigram(Json json, size_t memory_max);

}  // namespace bertrand
