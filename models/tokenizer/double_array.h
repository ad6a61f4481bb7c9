#pragma once

// A set of byte strings as a trie in one array: the child of `state` by byte c is cell
// `base ^ c`, if that cell's `check` is `state`. One load and one comparison a step.
//
// Built once, immutable and thread-safe after that. Each cell has two more numbers for its user, in
// the same sixteen bytes, so that whatever a step leads to is on the cache line it has just read.

#include <absl/status/status.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "models/tokenizer/memory_bound.h"

namespace bertrand {

class DoubleArray {
 public:
  static constexpr uint32_t kNone = 0;  // no state

  struct Cell {
    uint32_t base = 0;
    uint32_t check = kNone;
    uint32_t first = 0, second = 0;  // the user's
  };

  // Sixteen bytes, since there are many.
  class Key {
   public:
    // `root`: which of two tries in the same array. Requires value < 2^31, text.size() < 2^32.
    Key(std::string_view text, uint32_t root, uint32_t value)
        : data_(text.data()),
          size_(static_cast<uint32_t>(text.size())),
          root_and_value_(root << 31 | value) {}
    std::string_view text() const { return {data_, size_}; }
    uint32_t root() const { return root_and_value_ >> 31; }
    uint32_t value() const { return root_and_value_ & 0x7FFFFFFF; }

   private:
    const char* data_;
    uint32_t size_, root_and_value_;
  };

  // States of the roots: 1 to num_roots (root r is state r + 1). Keys in any order; equal ones and
  // empty ones are allowed. end_states[i] is the state that keys[i] ends in. InvalidArgument for
  // keys that share too little: a state takes twenty-odd bytes, and a vocabulary of words has one
  // for three of their bytes, so that files made of long random strings would take more memory than
  // is their due. Allowed are kFreeStates, and one for three bytes, counting eight for each key
  // itself; and `memory_max` bytes for everything that is allocated here, the keys included.
  static constexpr size_t kFreeStates = 1 << 16;
  absl::Status Build(const std::vector<Key>& keys, uint32_t num_roots,
                     std::vector<uint32_t>* end_states, size_t memory_max = kNoMemoryBound);

  uint32_t Step(uint32_t state, unsigned char byte) const {
    const uint32_t next = cells_[state].base ^ byte;
    return cells_[next].check == state ? next : kNone;
  }
  const Cell& cell(uint32_t state) const { return cells_[state]; }
  Cell& cell(uint32_t state) { return cells_[state]; }
  // All states, parents before children, the roots first.
  const std::vector<uint32_t>& by_depth() const { return by_depth_; }
  // Frees what only building needs.
  void Seal() { by_depth_ = std::vector<uint32_t>(); }
  size_t memory_bytes() const {
    return cells_.capacity() * sizeof(Cell) + by_depth_.capacity() * sizeof(uint32_t);
  }

 private:
  struct Group;  // the keys below one state

  void AddBlock();
  void Unlink(uint32_t cell);
  void Take(uint32_t cell, uint32_t parent);
  uint32_t FindBase(const std::vector<unsigned char>& bytes);

  std::vector<Cell> cells_;
  std::vector<uint32_t> by_depth_;
  // While building: which cells are states. Those that are not and still worth a try are a ring
  // through cell 0, by `base` (the next) and `second` (the one before).
  std::vector<bool> used_;
};

}  // namespace bertrand
