#pragma once

// Pairs of numbers below 2^16 to a number, in two loads, few instructions and no branch: whether a
// pair is there cannot be predicted.
//
// Row displacement (Tarjan and Yao, "Storing a sparse table", CACM 1979): the pairs with the same
// left number are a row, and all rows lie in one table, the right number's place in it being that
// of its row with the right number's bits flipped in. An entry has its left number beside the
// value. 30,000 pairs take 380 KB. A hash with displacements took 280 KB, twice the instructions
// and a fifth more time for a merge (short_merger.h).
//
// Built once, then immutable and thread-safe.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bertrand {

class PairTable {
 public:
  static constexpr uint32_t kNone = 0xFFFF;

  struct Entry {
    uint16_t left, right, value;
  };
  // False, and nothing is found then, when no places are found within a bound on the work, or two
  // entries have the same pair. Requires left != kNone, right != kNone, value != kNone.
  bool Build(std::vector<Entry> entries);

  // kNone: not there. left and right below 2^16.
  uint32_t Find(uint32_t left, uint32_t right) const { return Find(rows(), slots(), left, right); }
  // The same, for loops that keep in registers where the table is.
  const uint32_t* rows() const { return rows_.data(); }
  const uint32_t* slots() const { return slots_.data(); }
  static uint32_t Find(const uint32_t* rows, const uint32_t* slots, uint32_t left, uint32_t right) {
    return std::min(slots[rows[left] ^ right] ^ left << 16, kNone);
  }

 private:
  static constexpr size_t kNumRows = 1 << 16;
  static constexpr int kMinBits = 16, kMaxBits = 18;  // of a slot's index

 public:
  static constexpr size_t kMaxBytes = (kNumRows + (size_t{1} << kMaxBits)) * sizeof(uint32_t);

 private:
  static constexpr uint32_t kFree = ~uint32_t{0};

  bool Place(const std::vector<std::span<const Entry>>& rows, int bits);

  std::vector<uint32_t> rows_ = std::vector<uint32_t>(kNumRows);
  std::vector<uint32_t> slots_ = std::vector<uint32_t>(kNumRows, kFree);  // left << 16 | value
};

}  // namespace bertrand
