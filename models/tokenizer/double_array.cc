#include "models/tokenizer/double_array.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "kernels/status.h"

namespace bertrand {
namespace {

constexpr uint32_t kBlock = 256;
// How many free cells are tried before a fresh block is taken: 30,000 words pack into 1.3 cells a
// state, and hostile vocabularies cannot make the search quadratic.
constexpr int kMaxTries = 256;
// For the limit on states: what a key counts for beside its text, and how much a state may cost.
constexpr size_t kKeyBytes = 8, kBytesPerState = 3;

// The states of a trie, without the roots, and how many of them are at most at one depth.
struct TrieSize {
  size_t num_states = 0, width = 0;
};

TrieSize SizeOf(const std::vector<DoubleArray::Key>& keys, const std::vector<uint32_t>& order) {
  // States below kDepths are few for each key, and counted together.
  constexpr size_t kDepths = 256;
  std::vector<size_t> widths(kDepths);
  TrieSize size;
  for (size_t i = 0; i < order.size(); ++i) {
    const DoubleArray::Key& key = keys[order[i]];
    const std::string_view text = key.text();
    size_t shared = 0;
    if (i > 0 && keys[order[i - 1]].root() == key.root()) {
      const std::string_view before = keys[order[i - 1]].text();
      const size_t most = std::min(before.size(), text.size());
      while (shared < most && before[shared] == text[shared]) ++shared;
    }
    size.num_states += text.size() - shared;
    for (; shared < std::min(text.size(), kDepths); ++shared) ++widths[shared];
  }
  for (const size_t width : widths) size.width = std::max(size.width, width);
  return size;
}

}  // namespace

// Keys [begin, end) of the sorted order share their first bytes, which lead to `state`.
struct DoubleArray::Group {
  uint32_t state, begin, end;
};

void DoubleArray::AddBlock() {
  const auto begin = static_cast<uint32_t>(cells_.size());
  if (cells_.size() + kBlock > cells_.capacity()) {
    cells_.reserve(cells_.size() + cells_.size() / 8 + kBlock);
  }
  cells_.resize(begin + kBlock);
  used_.resize(begin + kBlock, false);
  for (uint32_t cell = std::max(begin, 1u); cell < begin + kBlock; ++cell) {
    cells_[cell].second = cells_[0].second;
    cells_[cell].base = 0;
    cells_[cells_[0].second].base = cell;
    cells_[0].second = cell;
  }
}

// A cell that is out of the ring already points to itself.
void DoubleArray::Unlink(uint32_t cell) {
  cells_[cells_[cell].second].base = cells_[cell].base;
  cells_[cells_[cell].base].second = cells_[cell].second;
  cells_[cell].base = cells_[cell].second = cell;
}

void DoubleArray::Take(uint32_t cell, uint32_t parent) {
  used_[cell] = true;
  Unlink(cell);
  cells_[cell] = {0, parent, 0, 0};
}

uint32_t DoubleArray::FindBase(const std::vector<unsigned char>& bytes) {
  int tries = 0;
  for (uint32_t at = cells_[0].base; at != 0 && tries < kMaxTries; at = cells_[at].base, ++tries) {
    const uint32_t base = at ^ bytes[0];
    if (std::none_of(bytes.begin(), bytes.end(),
                     [&](unsigned char c) { return used_[base ^ c]; })) {
      return base;
    }
  }
  // Half of the cells that were tried in vain are given up, or they would be tried again each time.
  if (tries == kMaxTries) {
    for (int i = 0; i < kMaxTries / 2; ++i) Unlink(cells_[0].base);
  }
  AddBlock();
  return static_cast<uint32_t>(cells_.size()) - kBlock;
}

absl::Status DoubleArray::Build(const std::vector<Key>& keys, uint32_t num_roots,
                                std::vector<uint32_t>* end_states, size_t memory_max) {
  std::vector<uint32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return keys[a].root() != keys[b].root() ? keys[a].root() < keys[b].root()
                                            : keys[a].text() < keys[b].text();
  });
  const TrieSize size = SizeOf(keys, order);
  const size_t num_states = num_roots + size.num_states, width = num_roots + size.width;
  size_t key_bytes = 0;
  for (const Key& key : keys) key_bytes += key.text().size() + kKeyBytes;
  if (num_states > kFreeStates + key_bytes / kBytesPerState) {
    return InvalidArgument("its " + std::to_string(keys.size()) +
                           " strings share too little with each other: a trie of " +
                           std::to_string(num_states) + " states for " + std::to_string(key_bytes) +
                           " bytes");
  }
  // More than are needed, mostly: growing would take twice the memory for a while.
  const size_t num_cells = num_states + num_states / 4 + kBlock;
  const size_t other_bytes = keys.size() * (sizeof(Key) + 2 * sizeof(uint32_t)) +
                             2 * width * sizeof(Group) + num_states * sizeof(uint32_t);
  BERTRAND_RETURN_IF_ERROR(CheckMemory(num_cells * sizeof(Cell) + other_bytes, memory_max));
  end_states->assign(keys.size(), kNone);
  cells_.reserve(num_cells);
  by_depth_.reserve(num_states);
  while (cells_.size() <= num_roots) AddBlock();
  used_[kNone] = true;  // and stays the ring's anchor

  std::vector<Group> groups, next;  // those of two depths
  groups.reserve(width);
  next.reserve(width);
  uint32_t at = 0;
  for (uint32_t root = 0; root < num_roots; ++root) {
    const uint32_t begin = at;
    while (at < order.size() && keys[order[at]].root() == root) ++at;
    Take(root + 1, kNone);
    groups.push_back({root + 1, begin, at});
  }
  std::vector<unsigned char> bytes;
  for (size_t depth = 0; !groups.empty(); ++depth) {
    next.clear();
    for (Group group : groups) {
      by_depth_.push_back(group.state);
      while (group.begin < group.end && keys[order[group.begin]].text().size() == depth) {
        (*end_states)[order[group.begin++]] = group.state;
      }
      if (group.begin == group.end) continue;
      bytes.clear();
      const size_t first_child = next.size();
      for (uint32_t i = group.begin; i < group.end; ++i) {
        const auto byte = static_cast<unsigned char>(keys[order[i]].text()[depth]);
        if (bytes.empty() || bytes.back() != byte) {
          bytes.push_back(byte);
          next.push_back({kNone, i, i});
        }
        next.back().end = i + 1;
      }
      // Sets of children can be made to fit nowhere. Growing moves all cells.
      if (cells_.size() + kBlock > cells_.capacity()) {
        const size_t cells = 2 * cells_.size() + cells_.size() / 8 + 2 * kBlock;
        BERTRAND_RETURN_IF_ERROR(CheckMemory(cells * sizeof(Cell) + other_bytes, memory_max));
      }
      const uint32_t base = FindBase(bytes);
      cells_[group.state].base = base;
      for (size_t i = 0; i < bytes.size(); ++i) {
        next[first_child + i].state = base ^ bytes[i];
        Take(base ^ bytes[i], group.state);
      }
    }
    std::swap(groups, next);
  }
  for (size_t cell = 0; cell < cells_.size(); ++cell) {
    if (!used_[cell] || cell == kNone) cells_[cell] = {};
  }
  used_ = std::vector<bool>();
  return absl::OkStatus();
}

}  // namespace bertrand
