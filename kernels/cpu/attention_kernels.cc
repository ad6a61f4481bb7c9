#include "kernels/cpu/attention_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h: these are compiled once per target.
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/panel-inl.h"

// Per tile and block of keys: K is packed transposed and V as it is into panels (panel-inl.h), once
// for all the tile's query rows. Then for each block of query rows that fits the registers: scores
// by the microkernel, softmax in place, weighted sum by the microkernel. A block's scores (12 rows
// of 512) are written once and read twice, from the first-level cache.

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

inline constexpr size_t kPaddedHeadSize = RoundUp(kAttentionMaxHeadSize, kPanelWidth);
// A row of scores ends with a cache line that is never used: rows a power of two apart would all
// meet in the same few sets of the cache.
inline constexpr size_t kScoreStride = kAttentionKeyBlock + 16;

// The parts of a thread's scratch.
struct Scratch {
  explicit Scratch(float* base)
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

void PackKeys(const float* k, size_t keys, size_t head_size, size_t stride, float* panels) {
  for (size_t first = 0; first < keys; first += kPanelWidth) {
    const size_t columns = std::min(kPanelWidth, keys - first);
    float* panel = panels + first * head_size;
    if (columns < kPanelWidth) std::fill_n(panel, head_size * kPanelWidth, 0.0f);
    for (size_t column = 0; column < columns; ++column) {
      const float* from = k + (first + column) * stride;
      for (size_t j = 0; j < head_size; ++j) panel[j * kPanelWidth + column] = from[j];
    }
  }
}

void PackValues(const float* v, size_t keys, size_t head_size, size_t stride, float* panels) {
  const FloatTag d;
  for (size_t first = 0; first < head_size; first += kPanelWidth) {
    const size_t columns = std::min(kPanelWidth, head_size - first);
    float* panel = panels + first * keys;
    for (size_t row = 0; row < keys; ++row) {
      const float* from = v + row * stride + first;
      float* to = panel + row * kPanelWidth;
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

// The maximum of scores[0 : keys] * scale.
HWY_INLINE float MaxScaled(const float* scores, size_t keys, float scale) {
  const FloatTag d;
  const auto factor = hn::Set(d, scale);
  auto max = hn::Set(d, -std::numeric_limits<float>::infinity());
  size_t j = 0;
  for (; j + kLanes <= keys; j += kLanes) {
    max = hn::Max(max, hn::Mul(hn::Load(d, scores + j), factor));
  }
  if (j < keys) {
    const auto last = hn::Mul(hn::Load(d, scores + j), factor);
    max = hn::IfThenElse(hn::FirstN(d, keys - j), hn::Max(max, last), max);
  }
  return hn::GetLane(hn::MaxOfLanes(d, max));
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

// One block of query rows against one block of keys. `out` always holds the softmax over the keys
// so far, divided by its sum: with one block of keys, the usual case, that is the final result.
void AttendRows(const AttentionTile& tile, size_t query, size_t rows, size_t keys, bool first_block,
                const Scratch& scratch) {
  const MultiplyRowsFn multiply = kMultiplyRows[rows - 1];
  const size_t padded_head = RoundUp(tile.head_size, kPanelWidth);
  for (size_t key = 0; key < keys; key += kPanelWidth) {
    multiply(tile.q + query * tile.stride, tile.stride, scratch.keys + key * tile.head_size,
             tile.head_size, scratch.scores + key, kScoreStride, scratch.keys);
  }
  const float scale = tile.scale * std::numbers::log2e_v<float>;
  float keep[kMaxRows], factor[kMaxRows];
  for (size_t r = 0; r < rows; ++r) {
    float* scores = scratch.scores + r * kScoreStride;
    float& max = scratch.maxima[query + r];
    float& sum = scratch.sums[query + r];
    const float old_max = max, old_sum = sum;
    max = MaxScaled(scores, keys, scale);
    if (!first_block) max = std::max(max, old_max);
    sum = Exponentials(scores, keys, scale, max);
    const float carried = first_block ? 0.0f : old_sum * std::exp2(old_max - max);
    sum += carried;
    factor[r] = 1 / sum;
    keep[r] = carried * factor[r];
  }
  for (size_t j = 0; j < padded_head; j += kPanelWidth) {
    multiply(scratch.scores, kScoreStride, scratch.values + j * keys, keys, scratch.partial + j,
             kPaddedHeadSize, scratch.values);
  }
  for (size_t r = 0; r < rows; ++r) {
    Merge(scratch.partial + r * kPaddedHeadSize, tile.head_size, keep[r], factor[r],
          tile.out + (query + r) * tile.out_stride);
  }
}

void RunTile(const AttentionTile& tile, float* base) {
  const Scratch scratch(base);
  for (size_t key = 0; key < tile.length; key += kAttentionKeyBlock) {
    const size_t keys = std::min(kAttentionKeyBlock, tile.length - key);
    PackKeys(tile.k + key * tile.stride, keys, tile.head_size, tile.stride, scratch.keys);
    PackValues(tile.v + key * tile.stride, keys, tile.head_size, tile.stride, scratch.values);
    for (size_t query = 0; query < tile.queries;) {
      const size_t rows = BlockRows(query, tile.queries);
      AttendRows(tile, query, rows, keys, key == 0, scratch);
      query += rows;
    }
  }
}

const AttentionKernels& Table() {
  static const AttentionKernels kTable = {hwy::TargetName(HWY_TARGET), Scratch::kFloats, &RunTile};
  return kTable;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bertrand {

HWY_EXPORT(Table);

const AttentionKernels& ChooseAttentionKernels() { return HWY_DYNAMIC_DISPATCH(Table)(); }

}  // namespace bertrand
#endif
