#pragma once

// The BPE model: a word's symbols (bytes, or code points) are merged pair by pair, always the pair
// whose merge comes first in the list, of equal ones the leftmost.
//
// Three ways lead to the same tokens:
//
// Merging as it is defined, with a heap of candidates: n log n. It follows `tokenizers` (word.rs)
// through every oddity: unknown symbols, byte fallback, merges that are listed twice, and stale
// candidates that still count when the same token would come of them.
//
// Backtracking over longest matches, without merging: linear. Call a token proper if merging its
// own bytes gives that token alone, and two proper tokens compatible if merging the bytes of both
// gives those two. A sequence of proper tokens is what merging gives for their bytes if and only if
// each adjacent pair is compatible: merges across a boundary depend on nothing beyond the two
// tokens that meet there, since what would have crossed it first was there while only they were
// being built (van Antwerpen and Neubeck, "So many tokens, so little time", GitHub 2024). So: take
// the longest proper token that fits and is compatible with the one before; if none does, mark the
// position as a dead end, give up the token before, and take the next shorter one there. A position
// becomes a dead end once, so the whole is linear in the word.
//
// Whether two tokens are compatible is seen by undoing their merges, later ones first, along the
// boundary: were one of the pairs that meet there in the list before the merge that is undone next,
// it would have been merged instead.
//
// This holds for lists as training makes them: every merge makes a token of its own, after those
// that it is made of. The list is checked for that while loading; for any other, and for words with
// symbols that are not in the vocabulary, words are merged.
//
// Merging short words in vector registers (short_merger.h), for byte-level lists as training makes
// them: bounded, and the fastest. Long words (bpe_long_words.cc) are merged so, too, many pieces in
// turn, so that none waits for another:
// - They are cut where no token can lie across (sure_cuts.h). Mostly one window then has all that
// is
//   between two cuts.
// - Elsewhere a piece goes from window to window. What a window shows is right up to a token that
// it
//   shows whole if the next window, which begins there, shows that token, too, since tokens need
//   only be compatible with those beside them. If it shows another one, the token before is given
//   up as well.
// - Pieces that begin anywhere overlap; a token that two of them show alike joins them.
// - Windows that come again are merged once (window_cache.h).
// - Where windows are too short for the tokens, that piece is matched.
//
// Before all that a word is looked up whole: most words are one proper token.
//
// Immutable after Create and thread-safe.

#include <absl/status/statusor.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/tokenizer/double_array.h"
#include "models/tokenizer/short_merger.h"
#include "models/tokenizer/sure_cuts.h"
#include "models/tokenizer/token_model.h"
#include "models/tokenizer/word_table.h"

namespace bertrand {

struct BpeOptions {
  bool byte_level = false;  // words are bytes, and the vocabulary is written in byte_level.h's way
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix, end_of_word_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

class Bpe final : public TokenModel {
 public:
  using MergeList = std::vector<std::pair<std::string, std::string>>;
  static absl::StatusOr<std::unique_ptr<Bpe>> Create(Vocabulary vocabulary, const MergeList& merges,
                                                     BpeOptions options);
  // The most that Create takes beside the vocabulary and the list, for a vocabulary of this many
  // tokens with so many bytes of text, and a list of this many merges.
  static size_t TableBytes(size_t num_tokens, size_t text_bytes, size_t num_merges);

  bool AddWord(std::string_view word, const SourceRange* source, ModelScratch* scratch,
               TokenRun* run) const override;
  // AddWord in two halves: a look-up in words(), and what follows when it does not find the word.
  const WordTable& words() const { return words_; }
  bool AddParts(std::string_view word, const SourceRange* source, ModelScratch* scratch,
                TokenRun* run) const;
  // What AddParts does to short words, for several: those that CanMerge are merged by
  // short_merger(), and AddJob adds what became of them. (Words of two bytes it merges without a
  // job.)
  bool CanMerge(std::string_view word) const {
    return short_merger_.is_built() && word.size() <= MergeJob::kMaxBytes;
  }
  const ShortMerger& short_merger() const { return short_merger_; }
  void AddJob(const MergeJob& job, const SourceRange* source, TokenRun* run) const;
  // The same for words of any length, where merges_short_words(): scratch->path has their tokens,
  // scratch->path_ends where those of each word end. AddPath adds those of one.
  void MergeLong(std::span<const std::string_view> words, ModelScratch* scratch) const;
  void AddPath(std::string_view word, const SourceRange* source, std::span<const int32_t> path,
               TokenRun* run) const;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  bool has_subword_prefix() const override { return !options_.continuing_subword_prefix.empty(); }
  std::string_view unk_token() const override {
    return options_.unk_token.has_value() ? std::string_view(*options_.unk_token) : "";
  }

  // Whether words are matched rather than merged; for tests, which can also turn it off.
  bool backtracks() const { return backtracks_; }
  bool merges_short_words() const { return short_merger_.is_built(); }
  void DisableShortWords() { short_merger_ = {}; }
  void DisableBacktracking() {
    DisableShortWords();
    backtracks_ = false;
  }

 private:
  struct Merge {
    uint64_t pair = kNoPair;
    uint32_t rank = 0;
    int32_t id = 0;
  };
  // How a token comes about, by id.
  struct Origin {
    uint32_t rank = 0;  // 0: a symbol; else that of its merge, plus one
    int32_t left = -1, right = -1;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};

  Bpe(Vocabulary vocabulary, BpeOptions options);
  absl::Status BuildMerges(const MergeList& merges);
  void BuildSymbols();
  void BuildOrigins(const MergeList& merges);
  absl::Status BuildMatcher();
  void BuildShortMerger(const MergeList& merges);
  std::optional<std::string> BytesOf(int64_t id) const;
  const Merge* FindMerge(int32_t left, int32_t right) const {
    const uint64_t pair = PairOf(left, right), mixed = Mixed(pair);
    const uint64_t bit = mixed >> bits_shift_;
    if ((merge_bits_[bit / 64] >> (bit % 64) & 1) == 0) return nullptr;
    for (uint64_t at = mixed & merges_mask_;; at = (at + 1) & merges_mask_) {
      if (merges_[at].pair == pair) return &merges_[at];
      if (merges_[at].pair == kNoPair) return nullptr;
    }
  }
  static uint64_t PairOf(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  static uint64_t Mixed(uint64_t pair) {
    pair *= 0x9E3779B97F4A7C15u;
    return pair ^ pair >> 29;
  }
  bool IsCompatible(int32_t left, int32_t right) const;
  int32_t LongestMatch(std::string_view text) const;

  bool AddSymbols(std::string_view word, ModelScratch* scratch) const;
  bool AddFallback(std::string_view symbol, ModelScratch* scratch) const;
  void MergeAll(ModelScratch* scratch) const;
  void AddMerged(std::string_view word, const SourceRange* source, const ModelScratch& scratch,
                 TokenRun* run) const;
  bool Backtrack(std::string_view word, ModelScratch* scratch, std::vector<int32_t>* tokens) const;
  class LongWords;

  Vocabulary vocabulary_;
  BpeOptions options_;
  std::optional<int32_t> unk_id_;
  std::vector<Merge> merges_;  // open addressing, a power of two
  uint64_t merges_mask_ = 0;
  // One bit for the upper bits of each merge's hash. Most pairs are no merge, and this says so from
  // a few tens of kilobytes, which stay in the cache.
  std::vector<uint64_t> merge_bits_;
  int bits_shift_ = 63;
  std::array<int32_t, 256> byte_ids_;      // of byte-level symbols; -1: not in the vocabulary
  std::array<int32_t, 256> fallback_ids_;  // of "<0x00>"
  std::vector<Origin> origins_;
  std::vector<uint32_t> lengths_;  // by id: bytes
  std::vector<int32_t> shorter_;   // by id: the longest proper token that is a proper prefix of it
  DoubleArray proper_;             // `first`: 1 + the id of the proper token that ends here, or 0
  WordTable words_;
  ShortMerger short_merger_;
  SureCuts sure_cuts_;
  bool backtracks_ = false;
};

// From tokenizer.json's `model`, which it frees when it has read it.
absl::StatusOr<std::unique_ptr<Bpe>> ParseBpe(Json json, bool byte_level);

}  // namespace bertrand
