#pragma once

// Pairs of numbers below 2^16 to a number, in two loads and no branch: whether a pair is there
// cannot be predicted.
//
// A perfect hash by displacement (Fox, Heath, Chen and Daoud, "Practical minimal perfect hash
// functions for large databases", CACM 1992): the upper bits of a pair's hash choose a
// displacement, and that, with other bits of the hash, the one slot where the pair can be.
// Displacements are 16 bits for every four slots and slots eight bytes, so 30,000 pairs take 280
// KB.
//
// Built once, then immutable and thread-safe.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bertrand {

class PairTable {
 public:
  static constexpr uint32_t kNone = 0xFFFF;

  struct Entry {
    uint16_t left, right, value;
  };
  // False, and nothing is found then, when no displacements are found within a bound on the work,
  // or two entries have the same pair. Requires left != kNone, right != kNone, value != kNone.
  bool Build(const std::vector<Entry>& entries);

  // kNone: not there. left and right below 2^16.
  uint32_t Find(uint32_t left, uint32_t right) const {
    const uint32_t pair = left << 16 | right;
    const uint64_t hash = HashOf(pair);
    const Slot& slot = slots_[SlotOf(hash, displacements_[hash >> bucket_shift_])];
    return (slot.value | -static_cast<uint32_t>(slot.pair != pair)) & kNone;
  }

 private:
  struct Slot {
    uint32_t pair = ~uint32_t{0}, value = kNone;
  };

  bool Place(const std::vector<Entry>& entries, int bits, size_t* tries);
  static uint64_t HashOf(uint32_t pair) {
    const uint64_t hash = pair * uint64_t{0x9E3779B97F4A7C15};
    return hash ^ hash >> 32;
  }
  // Multiplied after the displacement, or pairs of a bucket that fall together once always would.
  size_t SlotOf(uint64_t hash, uint32_t displacement) const {
    return ((static_cast<uint32_t>(hash) ^ displacement) * 0x85EBCA6Bu) >> slot_shift_;
  }

  std::vector<uint16_t> displacements_ = std::vector<uint16_t>(2);
  std::vector<Slot> slots_ = std::vector<Slot>(2);
  int slot_shift_ = 31, bucket_shift_ = 63;
};

}  // namespace bertrand
