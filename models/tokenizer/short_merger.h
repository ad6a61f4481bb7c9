#pragma once

// Byte-level BPE of short words, by merging as it is defined: the pair that comes first in the list
// of merges, of equal ones the leftmost, until there is none. No heap: the ranks of all pairs of a
// word are in a few vector registers, whose least element is found at once, and a rank is the
// merged token's number, too. Quadratic in the word, which is bounded; it takes a quarter of what
// matching does (bpe.h), since hardly a branch depends on the text and what it reads, 300 KB of
// pairs, stays in the cache.
//
// For lists as training makes them: all bytes are tokens, and every merge makes a token of its own,
// from such as came before. Then what is merged first is never undone by a later merge.
//
// Built once, then immutable and thread-safe.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "models/tokenizer/pair_table.h"

namespace bertrand {

class ShortMerger {
 public:
  static constexpr size_t kMaxBytes = 32;

  // A merge's parts are numbered: byte b is b, what merge i makes is 256 + i.
  struct Merge {
    uint32_t left, right;
  };
  // ids: by number. Requires ids.size() == 256 + merges.size() and left, right < the number of what
  // is made. False, and nothing may be merged, when there are too many merges.
  bool Build(const std::vector<Merge>& merges, std::vector<int32_t> ids);
  bool is_built() const { return !ids_.empty(); }

  // Writes the tokens of `word` to `ids`, which has room for word.size(). Returns the bytes that
  // begin a token, as bits. Requires is_built() and 0 < word.size() <= kMaxBytes.
  uint32_t Run(std::string_view word, int32_t* ids) const;

 private:
  template <size_t kVectors>
  uint32_t RunIn(std::string_view word, int32_t* ids) const;

  std::vector<uint16_t> byte_pairs_;  // [256][256]: few of its lines are ever read
  PairTable pairs_;                   // those that are not two bytes
  std::vector<int32_t> ids_;
};

}  // namespace bertrand
