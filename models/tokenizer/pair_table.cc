#include "models/tokenizer/pair_table.h"

#include <random>

namespace bertrand {
namespace {

// Placing takes some ten looks at a slot for each entry; a list that was made to take more is
// refused.
constexpr size_t kLooksPerEntry = 512;

}  // namespace

bool PairTable::Build(std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.left != b.left ? a.left < b.left : a.right < b.right;
  });
  const auto same = [](const Entry& a, const Entry& b) {
    return a.left == b.left && a.right == b.right;
  };
  const bool is_unique = std::adjacent_find(entries.begin(), entries.end(), same) == entries.end();
  std::vector<std::span<const Entry>> rows;
  for (size_t begin = 0, end; begin < entries.size(); begin = end) {
    for (end = begin + 1; end < entries.size() && entries[end].left == entries[begin].left;) ++end;
    rows.emplace_back(entries.data() + begin, end - begin);
  }
  // Long rows go first, while there is room.
  std::stable_sort(rows.begin(), rows.end(), [](auto a, auto b) { return a.size() > b.size(); });
  int bits = kMinBits;
  while (entries.size() > size_t{3} << bits >> 2) ++bits;
  for (; is_unique && bits <= kMaxBits; ++bits) {
    if (Place(rows, bits)) return true;
  }
  *this = {};
  return false;
}

// One attempt with 2^bits slots.
bool PairTable::Place(const std::vector<std::span<const Entry>>& rows, int bits) {
  rows_.assign(kNumRows, 0);
  slots_.assign(size_t{1} << bits, kFree);
  size_t looks = size_t{1} << 20;
  for (const std::span<const Entry> row : rows) looks += kLooksPerEntry * row.size();
  std::mt19937 random(1);
  for (const std::span<const Entry> row : rows) {
    uint32_t place = 0;
    for (size_t free = 0; free < row.size();) {
      if (looks == 0) return false;
      place = static_cast<uint32_t>(random()) >> (32 - bits);
      for (free = 0; free < row.size() && looks > 0; ++free, --looks) {
        if (slots_[place ^ row[free].right] != kFree) break;
      }
    }
    rows_[row[0].left] = place;
    for (const Entry& entry : row) {
      slots_[place ^ entry.right] = static_cast<uint32_t>(entry.left) << 16 | entry.value;
    }
  }
  return true;
}

}  // namespace bertrand
