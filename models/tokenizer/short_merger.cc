#include "models/tokenizer/short_merger.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
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

constexpr uint16_t kNone = PairTable::kNone;
// From so many words on, each can wait while the others go on.
constexpr size_t kMany = 6;

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

// The numbers of a word's pairs, in vectors of at most kLanes: the least in the upper half, the
// first position that has it in the lower one.
template <size_t kSize, size_t kLanes>
HWY_INLINE uint32_t First(const uint16_t* numbers) {
  using Tag = hn::CappedTag<uint16_t, kLanes>;
  constexpr size_t kWidth = hn::MaxLanes(Tag()), kVectors = kSize / kWidth;
  const Tag tag;
  hn::Vec<Tag> vectors[kVectors];
  for (size_t i = 0; i < kVectors; ++i) vectors[i] = hn::Load(tag, numbers + i * kWidth);
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

// A set of a word's bytes as vectors' masks.
template <size_t kLanes>
HWY_INLINE auto MaskOf(uint64_t bits) {
  const hn::CappedTag<uint16_t, kLanes> tag;
  return hn::LoadMaskBits(tag, reinterpret_cast<const uint8_t*>(&bits));
}

template <size_t kLanes, class Mask>
HWY_INLINE uint64_t BitsOf(Mask mask) {
  uint64_t bits = 0;
  hn::StoreMaskBits(hn::CappedTag<uint16_t, kLanes>(), mask, reinterpret_cast<uint8_t*>(&bits));
  return bits;
}

// A word that is being merged. Its symbols have one at either end that is in no pair: byte i's is
// at i + 1, as is its bit in `live`, which has those that are not part of the one before.
template <size_t kSize, size_t kLanes>
struct Lane {
  using Tag = hn::CappedTag<uint16_t, kLanes>;
  using BytePair = MergeTables::BytePair;
  static constexpr size_t kWidth = hn::MaxLanes(Tag()), kVectors = kSize / kWidth;

  // ranks()[i] is that of the pair that begins at byte i; ranks()[-1] is written, too.
  static constexpr size_t kPad = 32;
  alignas(64) std::array<uint16_t, kPad + kSize> padded_ranks;
  uint64_t live, sure, new_pairs;
  MergeJob* job;

  HWY_INLINE uint16_t* ranks() { return padded_ranks.data() + kPad; }

  // Makes a lane of a short word ready.
  HWY_INLINE void Start(const MergeTables& tables, MergeJob* started) {
    job = started;
    uint16_t* const symbols = job->symbols.data();
    const size_t size = job->word.size();
    const auto* bytes = reinterpret_cast<const unsigned char*>(job->word.data());
    padded_ranks.fill(kNone);
    symbols[0] = symbols[size + 1] = kNone;
    for (size_t i = 0; i < size; ++i) symbols[i + 1] = bytes[i];
    for (size_t i = 0; i + 1 < size; ++i) {
      uint16_t pair;
      std::memcpy(&pair, bytes + i, sizeof(pair));
      ranks()[i] = tables.byte_pair_numbers[pair];
    }
    live = (uint64_t{4} << size) - 1;
  }

  // Three steps make one of a longer word ready, which takes short ones longer; `pairs` has room
  // for those that begin at each byte.
  HWY_INLINE void Gather(const MergeTables& tables, MergeJob* started, BytePair* pairs) {
    job = started;
    const size_t size = job->word.size();
    const char* const bytes = job->word.data();
    for (size_t i = 0; i + 1 < size; ++i) {
      uint16_t pair;
      std::memcpy(&pair, bytes + i, sizeof(pair));
      pairs[i] = tables.byte_pairs[pair];
    }
    pairs[size - 1] = {kNone, kNone, kNone, static_cast<unsigned char>(bytes[size - 1])};
  }

  // Many pairs of bytes are merged whatever is beside them: all those at once. `sure` becomes the
  // bytes that they begin at.
  HWY_INLINE void MergeSure(const BytePair* pairs) {
    const Tag tag;
    const auto none = hn::Set(tag, kNone);
    const size_t size = job->word.size();
    std::array<uint16_t, kSize + 1> before, behind;
    before[0] = kNone;
    hn::Vec<Tag> numbers[kVectors], symbols[kVectors];
    // Pairs that some token makes another one with, whose left byte it ends with, or whose right
    // byte it begins with.
    uint64_t any_before = 0, any_behind = 0;
    for (size_t i = 0; i < kVectors; ++i) {
      hn::Vec<Tag> least_before, least_behind;
      hn::LoadInterleaved4(tag, reinterpret_cast<const uint16_t*>(pairs + i * kWidth), numbers[i],
                           least_before, least_behind, symbols[i]);
      hn::StoreU(least_before, tag, before.data() + 1 + i * kWidth);
      hn::StoreU(least_behind, tag, behind.data() + i * kWidth);
      any_before |= BitsOf<kLanes>(hn::Ne(least_before, none)) << (i * kWidth);
      any_behind |= BitsOf<kLanes>(hn::Ne(least_behind, none)) << (i * kWidth);
    }
    behind[kSize] = kNone;
    const uint64_t all = (uint64_t{1} << size) - 1;
    sure = 0;
    for (size_t i = 0; i < kVectors; ++i) {
      const auto least = hn::Min(hn::LoadU(tag, before.data() + i * kWidth),
                                 hn::LoadU(tag, behind.data() + 1 + i * kWidth));
      sure |= BitsOf<kLanes>(hn::Lt(numbers[i], least)) << (i * kWidth);
    }
    sure &= all >> 1;
    const uint64_t alive = all & ~(sure << 1);
    live = alive << 1 | uint64_t{2} << size | 1;
    const uint64_t before_sure = sure >> 1 & alive & ~sure;
    new_pairs = (sure & (sure >> 2 | any_before >> 1)) | (before_sure & any_behind);
    const uint64_t old_pairs = alive & ~(sure | before_sure);
    uint16_t* const to = job->symbols.data() + 1;
    for (size_t i = 0; i < kVectors; ++i) {
      const size_t at = i * kWidth;
      hn::StoreU(hn::IfThenElse(MaskOf<kLanes>(sure >> at), numbers[i], symbols[i]), tag, to + at);
      hn::Store(hn::IfThenElse(MaskOf<kLanes>(old_pairs >> at), numbers[i], none), tag,
                ranks() + at);
    }
    job->symbols[0] = to[size] = kNone;
  }

  // The pairs of what has been merged so.
  HWY_INLINE void PairSure(const uint32_t* HWY_RESTRICT rows, const uint32_t* HWY_RESTRICT slots) {
    const uint16_t* const symbols = job->symbols.data() + 1;
    for (uint64_t rest = new_pairs; rest != 0; rest &= rest - 1) {
      const auto at = static_cast<size_t>(std::countr_zero(rest));
      const size_t next = at + 1 + (sure >> at & 1);
      ranks()[at] = static_cast<uint16_t>(PairTable::Find(rows, slots, symbols[at], symbols[next]));
    }
  }

  HWY_INLINE uint32_t Find() { return First<kSize, kLanes>(ranks()); }

  // The pair at byte `place` becomes `merged`.
  HWY_INLINE void Merge(const uint32_t* HWY_RESTRICT rows, const uint32_t* HWY_RESTRICT slots,
                        uint32_t merged, uint32_t place) {
    uint16_t* const symbols = job->symbols.data();
    const uint64_t behind = live & ~uint64_t{3} << place, rest = behind & (behind - 1);
    const uint64_t ahead = live & ((uint64_t{2} << place) - 1);
    const auto right = static_cast<uint32_t>(std::countr_zero(behind));
    const auto after = static_cast<uint32_t>(std::countr_zero(rest));
    // Bit 0 is set; said once more, that saves a branch.
    const auto before = static_cast<uint32_t>(63 - std::countl_zero(ahead | 1));
    live ^= behind ^ rest;
    symbols[place + 1] = static_cast<uint16_t>(merged);
    const uint32_t left = symbols[before];
    const uint32_t with_after = PairTable::Find(rows, slots, merged, symbols[after]);
    const uint32_t with_before = PairTable::Find(rows, slots, left, merged);
    uint16_t* const behind_first = ranks() - 1;
    behind_first[right] = kNone;
    behind_first[place + 1] = static_cast<uint16_t>(with_after);
    behind_first[before] = static_cast<uint16_t>(with_before);
  }

  HWY_INLINE void Finish() { job->starts = live >> 1 & ((uint64_t{1} << job->word.size()) - 1); }
};

// Of some jobs those whose words have `least` to `most` bytes, one after the other.
struct Jobs {
  MergeJob *next, *end;
  size_t least, most;

  HWY_INLINE MergeJob* Take() {
    while (next != end && (next->word.size() < least || next->word.size() > most)) ++next;
    return next != end ? next++ : nullptr;
  }
};

constexpr size_t kMaxActive = 12;

// The next of the jobs. Each step waits for the one before, so it is taken for all of them at once.
template <size_t kSize, size_t kLanes>
struct ReadyLanes {
  std::array<Lane<kSize, kLanes>, kMaxActive> lanes;
  size_t count = 0;

  HWY_NOINLINE void Fill(const MergeTables& tables, Jobs* jobs) {
    alignas(64) MergeTables::BytePair pairs[kMaxActive][kSize];
    for (MergeJob* job; count < kMaxActive && (job = jobs->Take()) != nullptr; ++count) {
      lanes[count].Gather(tables, job, pairs[count]);
    }
    for (size_t i = 0; i < count; ++i) lanes[i].MergeSure(pairs[i]);
    for (size_t i = 0; i < count; ++i) {
      lanes[i].PairSure(tables.pairs.rows(), tables.pairs.slots());
    }
  }
};

// A merge waits for the one before in its word, and a vector cannot be loaded at once when part of
// it has just been stored; so there are many words in turn, and each step is taken for all of them
// before the next one.
template <size_t kSize, size_t kLanes>
void RunIn(const MergeTables& tables, Jobs jobs) {
  using OneLane = Lane<kSize, kLanes>;
  OneLane lanes[kMaxActive];
  ReadyLanes<kSize, kLanes> ready;
  uint32_t founds[kMaxActive];
  const uint32_t *const rows = tables.pairs.rows(), *const slots = tables.pairs.slots();
  const auto start = [&](OneLane* lane) HWY_ATTR {
    if constexpr (kSize <= 16) {
      MergeJob* const job = jobs.Take();
      if (job != nullptr) lane->Start(tables, job);
      return job != nullptr;
    } else {
      if (ready.count == 0) ready.Fill(tables, &jobs);
      if (ready.count == 0) return false;
      *lane = ready.lanes[--ready.count];
      return true;
    }
  };
  OneLane* end = lanes;
  while (end != lanes + kMaxActive && start(end)) ++end;
  while (end != lanes) {
    uint32_t* found = founds;
    for (OneLane* lane = lanes; lane != end; ++lane) *found++ = lane->Find();
    found = founds;
    for (OneLane* lane = lanes; lane != end; ++lane, ++found) {
      const uint32_t merged = *found >> 16;
      if (merged != kNone) [[likely]] {
        lane->Merge(rows, slots, merged, *found & 0xFFFF);
        continue;
      }
      lane->Finish();
      if (start(lane)) continue;
      if (lane == --end) break;
      *lane-- = *end;
      *found-- = founds[end - lanes];
    }
  }
}

// kSize numbers in vectors of at most kLanes, kept in registers.
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
    uint32_t least = Least(tag, vectors[0]);
    for (size_t i = 1; i < kVectors; ++i) {
      least = std::min(least, Least(tag, vectors[i]) + static_cast<uint32_t>(i * kWidth));
    }
    return least;
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

// One of few short words that are being merged: with nothing else to do meanwhile, it would wait
// for stores. Its symbols have one at either end that is in no pair: byte i's is at i + 1, as is
// its bit in `live`, which has those that are not part of the one before.
template <size_t kSize, size_t kLanes>
struct FewLane {
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
      first[i - 1] = tables.byte_pair_numbers[bytes[i - 1] | bytes[i] << 8];
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
void RunFewIn(const MergeTables& tables, MergeJob* jobs, size_t count) {
  constexpr size_t kFew = 4;
  FewLane<kSize, kLanes> lanes[kFew];
  size_t next = 0, active = 0;
  while (active < kFew && next < count) lanes[active++].Start(tables, jobs + next++);
  while (active > 0) {
    for (size_t i = 0; i < active; ++i) {
      FewLane<kSize, kLanes>& lane = lanes[i];
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
  size_t longest = 0, shortest = MergeJob::kMaxBytes;
  for (size_t i = 0; i < count; ++i) {
    longest = std::max(longest, jobs[i].word.size());
    shortest = std::min(shortest, jobs[i].word.size());
  }
  if (count < kMany && longest <= 16) {
    return longest <= 8 ? RunFewIn<8, 8>(tables, jobs, count)
                        : RunFewIn<16, 8>(tables, jobs, count);
  }
  const auto of = [&](size_t least, size_t most) HWY_ATTR {
    return Jobs{jobs, jobs + count, least, most};
  };
  if (longest <= 8) return RunIn<8, 8>(tables, of(1, 8));
  if (shortest <= 16) RunIn<16, 8>(tables, of(1, 16));
  if (longest > 32) {
    RunIn<64, 32>(tables, of(17, MergeJob::kMaxBytes));
  } else if (longest > 16) {
    RunIn<32, 32>(tables, of(17, 32));
  }
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

size_t ShortMerger::TableBytes(size_t num_merges) {
  if (num_merges >= PairTable::kNone) return 0;
  constexpr size_t kPairs = 256 * 256 * (sizeof(MergeTables::BytePair) + sizeof(uint16_t));
  constexpr size_t kEachMerge = 160;  // strings, numbers and entries, while the tables are built
  return kPairs + PairTable::kMaxBytes + kEachMerge * num_merges;
}

bool ShortMerger::Build(const std::vector<Merge>& merges, std::vector<int32_t> ids) {
  constexpr size_t kNumBytes = 256;
  constexpr uint16_t kNone = PairTable::kNone;
  if (ids.size() >= PairTable::kNone) return false;
  MergeTables tables;
  tables.byte_pairs.resize(kNumBytes * kNumBytes);
  for (size_t i = 0; i < tables.byte_pairs.size(); ++i) {
    tables.byte_pairs[i] = {kNone, kNone, kNone, static_cast<uint16_t>(i % kNumBytes)};
  }
  // The first and the last byte of each token.
  std::vector<unsigned char> first(ids.size()), last(ids.size());
  for (size_t i = 0; i < kNumBytes; ++i) first[i] = last[i] = static_cast<unsigned char>(i);
  std::vector<PairTable::Entry> entries;
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto left = static_cast<uint16_t>(merges[i].left);
    const auto right = static_cast<uint16_t>(merges[i].right);
    const auto number = static_cast<uint16_t>(kNumBytes + i);
    first[number] = first[left];
    last[number] = last[right];
    if (left < kNumBytes && right < kNumBytes) {
      tables.byte_pairs[left | right << 8].number = number;
    } else {
      entries.push_back({left, right, number});
    }
    if (right < kNumBytes) {
      uint16_t& least = tables.byte_pairs[last[left] | right << 8].least_before;
      least = std::min(least, number);
    }
    if (left < kNumBytes) {
      uint16_t& least = tables.byte_pairs[left | first[right] << 8].least_behind;
      least = std::min(least, number);
    }
  }
  for (const MergeTables::BytePair& pair : tables.byte_pairs) {
    tables.byte_pair_numbers.push_back(pair.number);
  }
  if (!tables.pairs.Build(entries)) return false;
  tables.ids = std::move(ids);
  tables_ = std::move(tables);
  run_ = ChooseMergeKernel().run;
  return true;
}

}  // namespace bertrand
#endif
