#include "models/tokenizer/short_merger.h"

#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace bertrand {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kNumBytes = 256;
constexpr uint16_t kNone = PairTable::kNone;

using Tag = hn::FixedTag<uint16_t, 8>;
constexpr size_t kLanes = 8;
using Vector = hn::Vec<Tag>;

// The least lane in the upper half, the first position that has it in the lower one.
HWY_INLINE uint32_t Least(Vector v) {
  const Tag tag;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
  // One instruction, whose result Highway's MinOfLanes gives without the position.
  const auto both = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(v.raw)));
  return std::rotl(both, 16);
#else
  const Vector least = hn::MinOfLanes(tag, v);
  const auto position = hn::FindKnownFirstTrue(tag, hn::Eq(v, least));
  return static_cast<uint32_t>(hn::GetLane(least)) << 16 | static_cast<uint32_t>(position);
#endif
}

// kVectors * kLanes numbers.
template <size_t kVectors>
struct Numbers {
  Vector vectors[kVectors];
  
  HWY_INLINE void Load(const uint16_t* from) {
    for (size_t i = 0; i < kVectors; ++i) vectors[i] = hn::LoadU(Tag(), from + i * kLanes);
  }
  HWY_INLINE uint32_t First() const {
    uint32_t least = Least(vectors[0]);
    for (size_t i = 1; i < kVectors; ++i) {
      least = std::min(least, Least(vectors[i]) + static_cast<uint32_t>(i * kLanes));
    }
    return least;
  }
  // Nothing, for an index beyond.
  HWY_INLINE void Set(uint32_t index, uint32_t value) {
    const Tag tag;
    const Vector wanted = hn::Set(tag, static_cast<uint16_t>(index));
    const Vector fresh = hn::Set(tag, static_cast<uint16_t>(value));
    for (size_t i = 0; i < kVectors; ++i) {
      const Vector indices = hn::Iota(tag, static_cast<uint16_t>(i * kLanes));
      vectors[i] = hn::IfThenElse(hn::Eq(indices, wanted), fresh, vectors[i]);
    }
  }
};

}  // namespace

bool ShortMerger::Build(const std::vector<Merge>& merges, std::vector<int32_t> ids) {
  if (ids.size() >= kNone) return false;
  byte_pairs_.assign(kNumBytes * kNumBytes, kNone);
  std::vector<PairTable::Entry> entries;
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto number = static_cast<uint16_t>(kNumBytes + i);
    const Merge& merge = merges[i];
    if (merge.left < kNumBytes && merge.right < kNumBytes) {
      byte_pairs_[merge.left * kNumBytes + merge.right] = number;
    } else {
      entries.push_back(
          {static_cast<uint16_t>(merge.left), static_cast<uint16_t>(merge.right), number});
    }
  }
  if (!pairs_.Build(entries)) return false;
  ids_ = std::move(ids);
  return true;
}

template <size_t kVectors>
uint32_t ShortMerger::RunIn(std::string_view word, int32_t* ids) const {
  // Symbols have one at either end that is in no pair: byte i's is at i + 1, as is its bit in
  // `live`, which has those that have not become part of the one before.
  constexpr size_t kMost = kVectors * kLanes;
  std::array<uint16_t, kMost + 2> symbols;
  std::array<uint16_t, kMost> first;
  const size_t size = word.size();
  symbols[0] = symbols[size + 1] = kNone;
  first.fill(kNone);
  const auto* bytes = reinterpret_cast<const unsigned char*>(word.data());
  symbols[1] = bytes[0];
  for (size_t i = 1; i < size; ++i) {
    symbols[i + 1] = bytes[i];
    first[i - 1] = byte_pairs_[bytes[i - 1] * kNumBytes + bytes[i]];
  }
  Numbers<kVectors> ranks;
  ranks.Load(first.data());
  uint64_t live = (uint64_t{4} << size) - 1;
  for (;;) {
    const uint32_t found = ranks.First();
    const uint32_t merged = found >> 16, at = found & 0xFFFF;
    if (merged == kNone) break;
    const uint64_t behind = live & ~uint64_t{3} << at;
    const auto right = static_cast<uint32_t>(std::countr_zero(behind));
    live ^= uint64_t{1} << right;
    const auto after = static_cast<uint32_t>(std::countr_zero(behind & (behind - 1)));
    const auto before =
        static_cast<uint32_t>(std::bit_width(live & ((uint64_t{2} << at) - 1))) - 1;
    symbols[at + 1] = static_cast<uint16_t>(merged);
    const uint32_t with_after = pairs_.Find(merged, symbols[after]);
    const uint32_t with_before = pairs_.Find(symbols[before], merged);
    ranks.Set(right - 1, kNone);
    ranks.Set(at, with_after);
    ranks.Set(before - 1, with_before);
  }
  const uint64_t starts = live >> 1 & ((uint64_t{1} << size) - 1);
  for (uint64_t rest = starts; rest != 0; rest &= rest - 1) {
    *ids++ = ids_[symbols[static_cast<size_t>(std::countr_zero(rest)) + 1]];
  }
  return static_cast<uint32_t>(starts);
}

uint32_t ShortMerger::Run(std::string_view word, int32_t* ids) const {
  if (word.size() <= kLanes) return RunIn<1>(word, ids);
  if (word.size() <= 2 * kLanes) return RunIn<2>(word, ids);
  return RunIn<kMaxBytes / kLanes>(word, ids);
}

}  // namespace bertrand
