#include "models/tokenizer/pair_table.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace bertrand {
namespace {

constexpr int kMinBits = 4, kMaxBits = 17;  // of a slot's index
constexpr size_t kNumDisplacements = 1 << 16;
// Placing takes a few dozen tries an entry; a list that was made to take more is refused.
constexpr size_t kTriesPerEntry = 1024;

}  // namespace

bool PairTable::Build(const std::vector<Entry>& entries) {
  const int least = std::max(kMinBits, static_cast<int>(std::bit_width(entries.size())));
  for (int bits = least; bits <= std::min(least + 1, kMaxBits); ++bits) {
    size_t tries = kTriesPerEntry * (entries.size() + kTriesPerEntry);
    if (Place(entries, bits, &tries)) return true;
  }
  *this = {};
  return false;
}

// One attempt with 2^bits slots. Buckets with many pairs go first, while there is room.
bool PairTable::Place(const std::vector<Entry>& entries, int bits, size_t* tries) {
  const size_t num_slots = size_t{1} << bits, num_buckets = num_slots / 4;
  slot_shift_ = 32 - bits;
  bucket_shift_ = 64 - std::countr_zero(num_buckets);
  slots_.assign(num_slots, {});
  displacements_.assign(num_buckets, 0);
  std::vector<std::vector<uint32_t>> buckets(num_buckets);
  const auto hash_of = [&](uint32_t i) {
    return HashOf(static_cast<uint32_t>(entries[i].left) << 16 | entries[i].right);
  };
  for (uint32_t i = 0; i < entries.size(); ++i) buckets[hash_of(i) >> bucket_shift_].push_back(i);
  std::vector<uint32_t> order(num_buckets);
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return buckets[a].size() > buckets[b].size(); });
  for (const uint32_t bucket : order) {
    const std::vector<uint32_t>& members = buckets[bucket];
    if (members.empty()) break;
    uint32_t displacement = 0;
    for (;; ++displacement) {
      if (displacement == kNumDisplacements || *tries == 0) return false;
      --*tries;
      size_t placed = 0;
      for (; placed < members.size(); ++placed) {
        const Entry& entry = entries[members[placed]];
        Slot& slot = slots_[SlotOf(hash_of(members[placed]), displacement)];
        if (slot.value != kNone) break;
        slot = {static_cast<uint32_t>(entry.left) << 16 | entry.right, entry.value};
      }
      if (placed == members.size()) break;
      while (placed > 0) slots_[SlotOf(hash_of(members[--placed]), displacement)] = {};
    }
    displacements_[bucket] = static_cast<uint16_t>(displacement);
  }
  return true;
}

}  // namespace bertrand
