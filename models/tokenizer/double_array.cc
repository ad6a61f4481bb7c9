#include "models/tokenizer/double_array.h"

#include <algorithm>
#include <deque>
#include <numeric>

namespace bertrand {
namespace {

constexpr uint32_t kBlock = 256;
// How many free cells are tried before a fresh block is taken: 30,000 words pack into 1.3 cells a
// state, and hostile vocabularies cannot make the search quadratic.
constexpr int kMaxTries = 256;

}  // namespace

// Keys [begin, end) of the sorted order share their first `depth` bytes and lead to `state`.
struct DoubleArray::Group {
  uint32_t state, depth;
  size_t begin, end;
};

void DoubleArray::AddBlock() {
  const auto begin = static_cast<uint32_t>(cells_.size());
  cells_.resize(begin + kBlock);
  used_.resize(begin + kBlock, false);
  next_free_.resize(begin + kBlock);
  previous_free_.resize(begin + kBlock);
  for (uint32_t cell = std::max(begin, 1u); cell < begin + kBlock; ++cell) {
    previous_free_[cell] = previous_free_[0];
    next_free_[cell] = 0;
    next_free_[previous_free_[0]] = cell;
    previous_free_[0] = cell;
  }
}

// A cell that is out of the ring already points to itself.
void DoubleArray::Unlink(uint32_t cell) {
  next_free_[previous_free_[cell]] = next_free_[cell];
  previous_free_[next_free_[cell]] = previous_free_[cell];
  next_free_[cell] = previous_free_[cell] = cell;
}

void DoubleArray::Take(uint32_t cell, uint32_t parent) {
  used_[cell] = true;
  cells_[cell].check = parent;
  Unlink(cell);
}

uint32_t DoubleArray::FindBase(const std::vector<unsigned char>& bytes) {
  int tries = 0;
  for (uint32_t at = next_free_[0]; at != 0 && tries < kMaxTries; at = next_free_[at], ++tries) {
    const uint32_t base = at ^ bytes[0];
    if (std::none_of(bytes.begin(), bytes.end(),
                     [&](unsigned char c) { return used_[base ^ c]; })) {
      return base;
    }
  }
  // Half of the cells that were tried in vain are given up, or they would be tried again each time.
  if (tries == kMaxTries) {
    for (int i = 0; i < kMaxTries / 2; ++i) Unlink(next_free_[0]);
  }
  AddBlock();
  return static_cast<uint32_t>(cells_.size()) - kBlock;
}

void DoubleArray::Build(const std::vector<Key>& keys, uint32_t num_roots,
                        std::vector<uint32_t>* end_states) {
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return keys[a].root != keys[b].root ? keys[a].root < keys[b].root : keys[a].text < keys[b].text;
  });
  end_states->assign(keys.size(), kNone);
  while (cells_.size() <= num_roots) AddBlock();
  used_[kNone] = true;  // and stays the ring's anchor

  std::deque<Group> groups;  // those of two depths at a time
  size_t at = 0;
  for (uint32_t root = 0; root < num_roots; ++root) {
    const size_t begin = at;
    while (at < order.size() && keys[order[at]].root == root) ++at;
    Take(root + 1, kNone);
    groups.push_back({root + 1, 0, begin, at});
  }
  std::vector<unsigned char> bytes;
  while (!groups.empty()) {
    Group group = groups.front();
    groups.pop_front();
    by_depth_.push_back(group.state);
    while (group.begin < group.end && keys[order[group.begin]].text.size() == group.depth) {
      (*end_states)[order[group.begin++]] = group.state;
    }
    if (group.begin == group.end) continue;
    bytes.clear();
    const size_t first_child = groups.size();
    for (size_t i = group.begin; i < group.end; ++i) {
      const auto byte = static_cast<unsigned char>(keys[order[i]].text[group.depth]);
      if (bytes.empty() || bytes.back() != byte) {
        bytes.push_back(byte);
        groups.push_back({kNone, group.depth + 1, i, i});
      }
      groups.back().end = i + 1;
    }
    const uint32_t base = FindBase(bytes);
    cells_[group.state].base = base;
    for (size_t i = 0; i < bytes.size(); ++i) {
      groups[first_child + i].state = base ^ bytes[i];
      Take(base ^ bytes[i], group.state);
    }
  }
  used_ = {};
  next_free_ = previous_free_ = {};
}

}  // namespace bertrand
