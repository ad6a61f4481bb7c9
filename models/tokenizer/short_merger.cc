#include "models/tokenizer/short_merger.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

// Vectors of no compile-time size cannot be kept in arrays; arm64 runs NEON.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/tokenizer/short_merger.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h: compiled once per target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kNumBytes = 256;
constexpr uint16_t kNone = PairTable::kNone;

// The least lane in the upper half, the first position that has it in the lower one.
template <class Tag>
HWY_INLINE uint32_t Least(Tag tag, hn::Vec<Tag> v) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
  // One instruction; Highway's MinOfLanes is that, without the position.
  static_assert(hn::MaxLanes(Tag()) == 8);
  (void)tag;
  return std::rotl(static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(v.raw))), 16);
#else
  const auto least = hn::MinOfLanes(tag, v);
  const intptr_t position = hn::FindFirstTrue(tag, hn::Eq(v, least));
  return static_cast<uint32_t>(hn::GetLane(least)) << 16 | static_cast<uint32_t>(position);
#endif
}

// The least lane.
template <class Tag>
HWY_INLINE uint32_t LeastValue(Tag tag, hn::Vec<Tag> v) {
  if constexpr (hn::MaxLanes(Tag()) > 8) {
    const hn::Half<Tag> half;
    return LeastValue(half, hn::Min(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    return hn::GetLane(hn::MinOfLanes(tag, v));
  }
}

// kSize numbers in vectors of at most kLanes.
template <size_t kSize, size_t kLanes>
struct Numbers {
  using Tag = hn::CappedTag<uint16_t, kLanes>;
  static constexpr size_t kWidth = hn::MaxLanes(Tag()), kVectors = kSize / kWidth;
  hn::Vec<Tag> vectors[kVectors];

  HWY_INLINE void Load(const uint16_t* from) {
    for (size_t i = 0; i < kVectors; ++i) vectors[i] = hn::LoadU(Tag(), from + i * kWidth);
  }
  // The least in the upper half, the first position that has it in the lower one.
  HWY_INLINE uint32_t First() const {
    const Tag tag;
    if constexpr (kSize <= 16) {
      uint32_t least = Least(tag, vectors[0]);
      for (size_t i = 1; i < kVectors; ++i) {
        least = std::min(least, Least(tag, vectors[i]) + static_cast<uint32_t>(i * kWidth));
      }
      return least;
    } else {
      auto all = vectors[0];
      for (size_t i = 1; i < kVectors; ++i) all = hn::Min(all, vectors[i]);
      const uint32_t least = LeastValue(tag, all);
      const auto wanted = hn::Set(tag, static_cast<uint16_t>(least));
      uint64_t places = 0;
      for (size_t i = 0; i < kVectors; ++i) {
        uint64_t bits = 0;
        hn::StoreMaskBits(tag, hn::Eq(vectors[i], wanted), reinterpret_cast<uint8_t*>(&bits));
        places |= bits << (i * kWidth);
      }
      return least << 16 | static_cast<uint32_t>(std::countr_zero(places));
    }
  }
  // Nothing, for an index beyond.
  HWY_INLINE void Set(uint32_t index, uint32_t value) {
    const Tag tag;
    const auto wanted = hn::Set(tag, static_cast<uint16_t>(index));
    const auto fresh = hn::Set(tag, static_cast<uint16_t>(value));
    for (size_t i = 0; i < kVectors; ++i) {
      const auto indices = hn::Iota(tag, static_cast<uint16_t>(i * kWidth));
      vectors[i] = hn::IfThenElse(hn::Eq(indices, wanted), fresh, vectors[i]);
    }
  }
};

// A word that is being merged. Its symbols have one at either end that is in no pair: byte i's is
// at i + 1, as is its bit in `live`, which has those that are not part of the one before.
template <size_t kSize, size_t kLanes>
struct Lane {
  Numbers<kSize, kLanes> ranks;
  uint64_t live;
  MergeJob* job;

  HWY_INLINE void Start(const MergeTables& tables, MergeJob* next) {
    job = next;
    uint16_t* const symbols = job->symbols.data();
    std::array<uint16_t, kSize> first;
    first.fill(kNone);
    const size_t size = job->word.size();
    const auto* bytes = reinterpret_cast<const unsigned char*>(job->word.data());
    symbols[0] = symbols[size + 1] = kNone;
    symbols[1] = bytes[0];
    for (size_t i = 1; i < size; ++i) {
      symbols[i + 1] = bytes[i];
      first[i - 1] = tables.byte_pairs[bytes[i - 1] * kNumBytes + bytes[i]];
    }
    ranks.Load(first.data());
    live = (uint64_t{4} << size) - 1;
  }

  // One merge. False when there is none.
  HWY_INLINE bool Step(const MergeTables& tables) {
    const uint32_t found = ranks.First();
    const uint32_t merged = found >> 16, at = found & 0xFFFF;
    if (merged == kNone) return false;
    uint16_t* const symbols = job->symbols.data();
    const uint64_t behind = live & ~uint64_t{3} << at;
    const auto right = static_cast<uint32_t>(std::countr_zero(behind));
    live ^= uint64_t{1} << right;
    const auto after = static_cast<uint32_t>(std::countr_zero(behind & (behind - 1)));
    const uint64_t ahead = live & ((uint64_t{2} << at) - 1);
    const auto before = static_cast<uint32_t>(63 - std::countl_zero(ahead));
    symbols[at + 1] = static_cast<uint16_t>(merged);
    const uint32_t with_after = tables.pairs.Find(merged, symbols[after]);
    const uint32_t with_before = tables.pairs.Find(symbols[before], merged);
    ranks.Set(right - 1, kNone);
    ranks.Set(at, with_after);
    ranks.Set(before - 1, with_before);
    return true;
  }

  HWY_INLINE void Finish() {
    const uint64_t bytes = (uint64_t{1} << job->word.size()) - 1;
    job->starts = live >> 1 & bytes;
  }
};

template <size_t kSize, size_t kLanes>
void RunIn(const MergeTables& tables, MergeJob* jobs, size_t count) {
  constexpr size_t kMaxActive = 4;
  Lane<kSize, kLanes> lanes[kMaxActive];
  size_t next = 0, active = 0;
  while (active < kMaxActive && next < count) lanes[active++].Start(tables, jobs + next++);
  while (active > 0) {
    for (size_t i = 0; i < active; ++i) {
      Lane<kSize, kLanes>& lane = lanes[i];
      if (lane.Step(tables)) continue;
      lane.Finish();
      if (next < count) {
        lane.Start(tables, jobs + next++);
      } else {
        lane = lanes[--active];
      }
    }
  }
}

void Run(const MergeTables& tables, MergeJob* jobs, size_t count) {
  size_t longest = 0;
  for (size_t i = 0; i < count; ++i) longest = std::max(longest, jobs[i].word.size());
  if (longest <= 8) return RunIn<8, 8>(tables, jobs, count);
  if (longest <= 16) return RunIn<16, 8>(tables, jobs, count);
  RunIn<64, 32>(tables, jobs, count);
}

const MergeKernel& Kernel() {
  static const MergeKernel kKernel = {hwy::TargetName(HWY_TARGET), &Run};
  return kKernel;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bertrand {

HWY_EXPORT(Kernel);

const MergeKernel& ChooseMergeKernel() { return HWY_DYNAMIC_DISPATCH(Kernel)(); }

bool ShortMerger::Build(const std::vector<Merge>& merges, std::vector<int32_t> ids) {
  constexpr size_t kNumBytes = 256;
  if (ids.size() >= PairTable::kNone) return false;
  MergeTables tables;
  tables.byte_pairs.assign(kNumBytes * kNumBytes, PairTable::kNone);
  std::vector<PairTable::Entry> entries;
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto left = static_cast<uint16_t>(merges[i].left);
    const auto right = static_cast<uint16_t>(merges[i].right);
    const auto number = static_cast<uint16_t>(kNumBytes + i);
    if (left < kNumBytes && right < kNumBytes) {
      tables.byte_pairs[left * kNumBytes + right] = number;
    } else {
      entries.push_back({left, right, number});
    }
  }
  if (!tables.pairs.Build(entries)) return false;
  tables.ids = std::move(ids);
  tables_ = std::move(tables);
  run_ = ChooseMergeKernel().run;
  return true;
}

}  // namespace bertrand
#endif
