#pragma once

// Byte-level BPE of short words, by merging as it is defined: the pair that comes first in the list
// of merges, of equal ones the leftmost, until there is none. No heap: the ranks of all pairs of a
// word are in vector registers, whose least element is found at once, and a rank is the merged
// token's number, too. Quadratic in the word, which is bounded; yet faster than matching (bpe.h),
// since hardly a branch depends on the text, and the pairs are in 300 KB.
//
// For lists as training makes them: all bytes are tokens, and every merge makes a token of its own,
// from such as came before.
//
// Built once, then immutable and thread-safe.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "models/tokenizer/pair_table.h"

namespace bertrand {

// What merging reads. A symbol has a number: byte b is b, what merge i makes is 256 + i.
struct MergeTables {
  std::vector<uint16_t> byte_pairs;  // [256][256]: few of its lines are ever read
  PairTable pairs;                   // those that are not two bytes
  std::vector<int32_t> ids;          // of tokens, by number
};

// Compiled for each instruction set.
struct MergeKernel {
  const char* target;  // the name of the instruction set
  uint32_t (*run)(const MergeTables& tables, std::string_view word, int32_t* ids);
};
// The best one this machine can run (hwy::SetSupportedTargetsForTest narrows the choice).
const MergeKernel& ChooseMergeKernel();

class ShortMerger {
 public:
  static constexpr size_t kMaxBytes = 32;

  struct Merge {
    uint32_t left, right;  // numbers
  };
  // ids: by number. Requires ids.size() == 256 + merges.size(), and left and right below the number
  // of what they make. False when there are too many merges; then it stays as it is.
  bool Build(const std::vector<Merge>& merges, std::vector<int32_t> ids);
  bool is_built() const { return !tables_.ids.empty(); }

  // Writes the tokens of `word` to `ids`, which has room for word.size(). Returns the bytes that
  // begin a token, as bits. Requires is_built() and 0 < word.size() <= kMaxBytes.
  uint32_t Run(std::string_view word, int32_t* ids) const { return run_(tables_, word, ids); }

 private:
  MergeTables tables_;
  decltype(MergeKernel::run) run_ = nullptr;
};

}  // namespace bertrand
