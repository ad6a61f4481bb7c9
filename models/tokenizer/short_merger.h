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
// Words of more than 16 bytes begin with what is sure: two bytes b c between a and d are merged
// whatever else the word is if no token that ends with a makes one with b, and none that begins
// with d makes one with c, whose merge comes before theirs. For the first merge that took b or c
// away would be one of those, and the least one comes first: the two would have been merged
// before. And tokens that they are part of come later than they do, so that nothing is lost by
// merging them early. Two tables by pairs of bytes say so; half of the merges are sure, and none of
// them waits for another.
//
// Built once, then immutable and thread-safe.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "models/tokenizer/pair_table.h"

namespace bertrand {

// What merging reads. A symbol has a number: byte b is b, what merge i makes is 256 + i.
struct MergeTables {
  // Two bytes side by side. In the order of the four bytes a b c d, b and c are merged whatever is
  // around those if number(b, c) < least_before(a, b) and number(b, c) < least_behind(c, d).
  struct BytePair {
    uint16_t number;  // of the token that they make, or kNone
    // The least number of what a token that ends with the left byte makes with the right one; and
    // of what the left byte makes with a token that begins with the right one.
    uint16_t least_before, least_behind;
    uint16_t left;  // the left byte
  };
  static_assert(sizeof(BytePair) == 8);
  // [256][256], the left byte the lower one of the index; the numbers once more by themselves, on
  // a quarter of the cache lines.
  std::vector<BytePair> byte_pairs;
  std::vector<uint16_t> byte_pair_numbers;
  PairTable pairs;           // those that are not two bytes
  std::vector<int32_t> ids;  // of tokens, by number
};

// A word, and what becomes of it.
struct MergeJob {
  static constexpr size_t kMaxBytes = 62;

  std::string_view word;  // 1 to kMaxBytes bytes
  uint64_t starts = 0;    // the bytes that begin a token, as bits
  // Of the token that begins at byte i, symbols[i + 1] is the number.
  std::array<uint16_t, kMaxBytes + 4> symbols;  // 64 can be read from 1 on
};

// Compiled for each instruction set.
struct MergeKernel {
  const char* target;  // the name of the instruction set
  void (*run)(const MergeTables& tables, MergeJob* jobs, size_t count);
};
// The best one this machine can run (hwy::SetSupportedTargetsForTest narrows the choice).
const MergeKernel& ChooseMergeKernel();

class ShortMerger {
 public:
  struct Merge {
    uint32_t left, right;  // numbers
  };
  // ids: by number. Requires ids.size() == 256 + merges.size(), and left and right below the number
  // of what they make. False when there are too many merges; then it stays as it is.
  bool Build(const std::vector<Merge>& merges, std::vector<int32_t> ids);
  bool is_built() const { return !tables_.ids.empty(); }
  // The most that Build takes, what it is given included.
  static size_t TableBytes(size_t num_merges);

  // Several at a time, since each of one word's merges waits for the one before. Requires
  // is_built().
  void Run(std::span<MergeJob> jobs) const { run_(tables_, jobs.data(), jobs.size()); }
  // The token of a byte, and that of two; -1: they are one each.
  int32_t ByteToken(char byte) const { return tables_.ids[static_cast<unsigned char>(byte)]; }
  int32_t PairToken(const char* bytes) const {
    uint16_t pair;
    std::memcpy(&pair, bytes, sizeof(pair));
    const uint16_t number = tables_.byte_pair_numbers[pair];
    return number == PairTable::kNone ? -1 : tables_.ids[number];
  }
  // The token that begins at a byte of a job's word.
  int32_t TokenAt(const MergeJob& job, size_t byte) const {
    return tables_.ids[job.symbols[byte + 1]];
  }

 private:
  MergeTables tables_;
  decltype(MergeKernel::run) run_ = nullptr;
};

}  // namespace bertrand
