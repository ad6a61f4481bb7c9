#include "kernels/cpu/attention_kernels.h"

#include <algorithm>
#include <limits>
#include <numbers>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h: these are compiled once per target.
#include <hwy/highway.h>

#include "kernels/cpu/attention-inl.h"

// Per tile and block of keys: K is packed transposed and V as it is into panels (panel-inl.h), once
// for all the tile's query rows. Then for each block of query rows that fits the registers: scores
// by the microkernel, softmax in place, weighted sum by the microkernel. A block's scores (12 rows
// of 512) are written once and read twice, from the first-level cache.

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {
namespace {

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

// One block of query rows against one block of keys.
void AttendRows(const AttentionTile& tile, size_t query, size_t rows, size_t keys, bool first_block,
                const AttentionScratch& scratch) {
  const MultiplyRowsFn multiply = kMultiplyRows[rows - 1];
  for (size_t key = 0; key < keys; key += kPanelWidth) {
    multiply(tile.q + query * tile.stride, tile.stride, scratch.keys + key * tile.head_size,
             tile.head_size, scratch.scores + key, kScoreStride, scratch.keys);
  }
  const float scale = tile.scale * std::numbers::log2e_v<float>;
  FinishRows(
      scratch, query, rows, keys, tile.head_size, scale, first_block,
      [&](size_t r) HWY_ATTR { return MaxScaled(scratch.scores + r * kScoreStride, keys, scale); },
      tile.out + query * tile.out_stride, tile.out_stride);
}

void RunTile(const AttentionTile& tile, float* base) {
  const AttentionScratch scratch(base);
  for (size_t key = 0; key < tile.length; key += kAttentionKeyBlock) {
    const size_t keys = std::min(kAttentionKeyBlock, tile.length - key);
    PackTransposed([&](size_t row) HWY_ATTR { return tile.k + (key + row) * tile.stride; }, keys,
                   tile.head_size, scratch.keys);
    PackValues([&](size_t row) HWY_ATTR { return tile.v + (key + row) * tile.stride; }, keys,
               tile.head_size, scratch.values);
    for (size_t query = 0; query < tile.queries;) {
      const size_t rows = BlockRows(query, tile.queries);
      AttendRows(tile, query, rows, keys, key == 0, scratch);
      query += rows;
    }
  }
}

const AttentionKernels& Table() {
  static const AttentionKernels kTable = {hwy::TargetName(HWY_TARGET), AttentionScratch::kFloats,
                                          &RunTile};
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
