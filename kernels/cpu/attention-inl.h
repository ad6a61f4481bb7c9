// What the attention kernels share, for every Highway target: packing into panels (panel-inl.h),
// the exponentials of a row of scores, and the merge of blocks of keys. Included by files that are
// compiled once per target, hence the guard that toggles instead of #pragma once.

#if defined(BERTRAND_KERNELS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BERTRAND_KERNELS_CPU_ATTENTION_INL_H_
#undef BERTRAND_KERNELS_CPU_ATTENTION_INL_H_
#else
#define BERTRAND_KERNELS_CPU_ATTENTION_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/panel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {

HWY_INLINE constexpr size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

inline constexpr size_t kPaddedHeadSize = RoundUp(kAttentionMaxHeadSize, kPanelWidth);
// A row of scores ends with a cache line that is never used: rows a power of two apart would all
// meet in the same few sets of the cache.
inline constexpr size_t kScoreStride = kAttentionKeyBlock + 16;

// The parts of a thread's scratch.
struct AttentionScratch {
  explicit AttentionScratch(float* base)
      : keys(base),
        values(keys + kAttentionKeyBlock * kAttentionMaxHeadSize),
        scores(values + kAttentionKeyBlock * kPaddedHeadSize),
        partial(scores + kMaxRows * kScoreStride),
        sums(partial + kMaxRows * kPaddedHeadSize),
        maxima(sums + kAttentionQueryBlock) {}
  static constexpr size_t kFloats = kAttentionKeyBlock * (kAttentionMaxHeadSize + kPaddedHeadSize) +
                                    kMaxRows * (kScoreStride + kPaddedHeadSize) +
                                    2 * kAttentionQueryBlock;
  float* keys;     // panels over keys, depth head_size
  float* values;   // panels over the head, depth keys
  float* scores;   // [kMaxRows, kScoreStride]
  float* partial;  // [kMaxRows, head_size padded to panels]: the weighted sum, not yet divided
  float* sums;     // of exponentials and
  float* maxima;   // of scaled scores, for each query row, over the blocks of keys so far
};

// Four columns of a panel from four rows: blocks of 4 x 4 in registers, where single floats would
// be bound by a store each (a quarter of the time).
HWY_INLINE void TransposeFour(const float* const from[4], size_t head_size, float* to) {
  const hn::Full128<float> d;
  size_t j = 0;
  for (; j + 4 <= head_size; j += 4) {
    const auto r0 = hn::LoadU(d, from[0] + j), r1 = hn::LoadU(d, from[1] + j);
    const auto r2 = hn::LoadU(d, from[2] + j), r3 = hn::LoadU(d, from[3] + j);
    const auto low01 = hn::InterleaveLower(d, r0, r1), low23 = hn::InterleaveLower(d, r2, r3);
    const auto high01 = hn::InterleaveUpper(d, r0, r1), high23 = hn::InterleaveUpper(d, r2, r3);
    hn::Store(hn::ConcatLowerLower(d, low23, low01), d, to + j * kPanelWidth);
    hn::Store(hn::ConcatUpperUpper(d, low23, low01), d, to + (j + 1) * kPanelWidth);
    hn::Store(hn::ConcatLowerLower(d, high23, high01), d, to + (j + 2) * kPanelWidth);
    hn::Store(hn::ConcatUpperUpper(d, high23, high01), d, to + (j + 3) * kPanelWidth);
  }
  for (; j < head_size; ++j) {
    for (size_t i = 0; i < 4; ++i) to[j * kPanelWidth + i] = from[i][j];
  }
}

// Panels over rows, depth head_size: row(i) is where row i of `rows` begins.
template <typename Row>
HWY_INLINE void PackTransposed(const Row& row, size_t rows, size_t head_size,
                               float* HWY_RESTRICT panels) {
  for (size_t first = 0; first < rows; first += kPanelWidth) {
    const size_t columns = std::min(kPanelWidth, rows - first);
    float* panel = panels + first * head_size;
    if (columns < kPanelWidth) std::fill_n(panel, head_size * kPanelWidth, 0.0f);
    size_t column = 0;
    for (; column + 4 <= columns; column += 4) {
      const size_t i = first + column;
      const float* const from[4] = {row(i), row(i + 1), row(i + 2), row(i + 3)};
      TransposeFour(from, head_size, panel + column);
    }
    for (; column < columns; ++column) {
      const float* HWY_RESTRICT from = row(first + column);
      for (size_t j = 0; j < head_size; ++j) panel[j * kPanelWidth + column] = from[j];
    }
  }
}

// Panels over the head, depth keys: row(i) is where the values of key i begin.
template <typename Row>
HWY_INLINE void PackValues(const Row& row, size_t keys, size_t head_size, float* panels) {
  const FloatTag d;
  for (size_t first = 0; first < head_size; first += kPanelWidth) {
    const size_t columns = std::min(kPanelWidth, head_size - first);
    float* panel = panels + first * keys;
    for (size_t key = 0; key < keys; ++key) {
      const float* from = row(key) + first;
      float* to = panel + key * kPanelWidth;
      if (HWY_LIKELY(columns == kPanelWidth)) {
        hn::Store(hn::LoadU(d, from), d, to);
        hn::Store(hn::LoadU(d, from + kLanes), d, to + kLanes);
      } else {
        std::copy_n(from, columns, to);
        std::fill_n(to + columns, kPanelWidth - columns, 0.0f);
      }
    }
  }
}

// scores = 2^(scores * scale - max), in place; their sum.
HWY_INLINE float Exponentials(float* scores, size_t keys, float scale, float max) {
  const FloatTag d;
  const auto factor = hn::Set(d, scale);
  const auto shift = hn::Set(d, -max);
  auto sum = hn::Zero(d);
  size_t j = 0;
  for (; j + kLanes <= keys; j += kLanes) {
    const auto e = Exp2(d, hn::MulAdd(hn::Load(d, scores + j), factor, shift));
    hn::Store(e, d, scores + j);
    sum = hn::Add(sum, e);
  }
  if (j < keys) {
    const auto e = hn::IfThenElseZero(hn::FirstN(d, keys - j),
                                      Exp2(d, hn::MulAdd(hn::Load(d, scores + j), factor, shift)));
    hn::Store(e, d, scores + j);
    sum = hn::Add(sum, e);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// out = out * keep + partial * factor, `columns` of them; `keep` 0 ignores what is there.
HWY_INLINE void Merge(const float* HWY_RESTRICT partial, size_t columns, float keep, float factor,
                      float* HWY_RESTRICT out) {
  const FloatTag d;
  const auto new_factor = hn::Set(d, factor);
  size_t j = 0;
  if (keep == 0) {
    for (; j + kLanes <= columns; j += kLanes) {
      hn::StoreU(hn::Mul(hn::Load(d, partial + j), new_factor), d, out + j);
    }
    for (; j < columns; ++j) out[j] = partial[j] * factor;
    return;
  }
  const auto old_factor = hn::Set(d, keep);
  for (; j + kLanes <= columns; j += kLanes) {
    const auto old = hn::Mul(hn::LoadU(d, out + j), old_factor);
    hn::StoreU(hn::MulAdd(hn::Load(d, partial + j), new_factor, old), d, out + j);
  }
  for (; j < columns; ++j) out[j] = out[j] * keep + partial[j] * factor;
}

// Softmax and weighted sum of one block of query rows against one block of keys, from its scores.
// max_of(r) is the maximum of row r's scores times `scale`, which has log2(e) in it. `out`, at the
// block's first row, always holds the softmax over the keys so far, divided by its sum: with one
// block of keys, the usual case, that is the final result.
template <typename MaxOf>
HWY_INLINE void FinishRows(const AttentionScratch& scratch, size_t query, size_t rows, size_t keys,
                           size_t head_size, float scale, bool first_block, const MaxOf& max_of,
                           float* out, size_t out_stride) {
  float keep[kMaxRows], factor[kMaxRows];
  for (size_t r = 0; r < rows; ++r) {
    float& max = scratch.maxima[query + r];
    float& sum = scratch.sums[query + r];
    const float old_max = max, old_sum = sum;
    max = max_of(r);
    if (!first_block) max = std::max(max, old_max);
    sum = Exponentials(scratch.scores + r * kScoreStride, keys, scale, max);
    const float carried = first_block ? 0.0f : old_sum * std::exp2(old_max - max);
    sum += carried;
    factor[r] = 1 / sum;
    keep[r] = carried * factor[r];
  }
  const MultiplyRowsFn multiply = kMultiplyRows[rows - 1];
  const size_t padded_head = RoundUp(head_size, kPanelWidth);
  for (size_t j = 0; j < padded_head; j += kPanelWidth) {
    multiply(scratch.scores, kScoreStride, scratch.values + j * keys, keys, scratch.partial + j,
             kPaddedHeadSize, scratch.values);
  }
  for (size_t r = 0; r < rows; ++r) {
    Merge(scratch.partial + r * kPaddedHeadSize, head_size, keep[r], factor[r],
          out + r * out_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
