#include "kernels/cpu/relative_attention_kernels.h"

#include <algorithm>
#include <limits>
#include <numbers>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/relative_attention_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h: these are compiled once per target.
#include <hwy/highway.h>

#include "kernels/cpu/attention-inl.h"

// As attention_kernels.cc, with a second product: the query rows (plus another bias) against a band
// of the position table, whose rows are packed like keys, once for the tile. Key j of query row i
// wants row center + j - i, so each query row reads the band's product one column further left than
// the row before it: the relative shift is an address. One pass over the scores adds the band and
// the segment term, and finds the maximum.

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {
namespace {

// Position rows that a tile and a block of keys meet.
inline constexpr size_t kBandRows =
    RoundUp(kAttentionKeyBlock + kAttentionQueryBlock - 1, kPanelWidth);
// Columns of the band for one block of query rows: whole panels at both ends. Another line keeps
// rows from meeting in the same sets of the cache.
inline constexpr size_t kBandStride =
    RoundUp(kAttentionKeyBlock + kMaxRows - 1 + 2 * (kPanelWidth - 1), kPanelWidth) + 16;
inline constexpr size_t kPaddedKeys = RoundUp(kAttentionKeyBlock, kPanelWidth);

struct Scratch : AttentionScratch {
  explicit Scratch(float* base)
      : AttentionScratch(base),
        positions(base + AttentionScratch::kFloats),
        band(positions + kBandRows * kAttentionMaxHeadSize),
        content_queries(band + kMaxRows * kBandStride),
        position_queries(content_queries + kMaxRows * kAttentionMaxHeadSize),
        segment_difference(position_queries + kMaxRows * kAttentionMaxHeadSize),
        types(segment_difference + kAttentionMaxHeadSize) {}
  static constexpr size_t kFloats = AttentionScratch::kFloats + kBandRows * kAttentionMaxHeadSize +
                                    kMaxRows * (kBandStride + 2 * kAttentionMaxHeadSize) +
                                    kAttentionMaxHeadSize + kPaddedKeys;
  float* positions;           // panels over position rows, depth head_size
  float* band;                // [kMaxRows, kBandStride]
  float* content_queries;     // [rows, head_size]: plus the content bias
  float* position_queries;    // [rows, head_size]: plus the position bias
  float* segment_difference;  // [head_size]: the other segment's embedding less the same's
  float* types;               // of the block's keys; small integers, exact as floats
};

// A query row plus its biases, and the segment term of keys of another type. (Of those of the same
// type it is 0: what all keys have in common falls out of the softmax.)
HWY_INLINE float PrepareQuery(const RelativeAttentionTile& tile, const float* HWY_RESTRICT q,
                              const float* HWY_RESTRICT difference, float* HWY_RESTRICT content,
                              float* HWY_RESTRICT position) {
  const FloatTag d;
  auto sums = hn::Zero(d);
  size_t j = 0;
  for (; j + kLanes <= tile.head_size; j += kLanes) {
    const auto x = hn::LoadU(d, q + j);
    hn::StoreU(hn::Add(x, hn::LoadU(d, tile.content_bias + j)), d, content + j);
    hn::StoreU(hn::Add(x, hn::LoadU(d, tile.position_bias + j)), d, position + j);
    sums = hn::MulAdd(hn::Add(x, hn::LoadU(d, tile.segment_bias + j)), hn::LoadU(d, difference + j),
                      sums);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; j < tile.head_size; ++j) {
    content[j] = q[j] + tile.content_bias[j];
    position[j] = q[j] + tile.position_bias[j];
    sum += (q[j] + tile.segment_bias[j]) * difference[j];
  }
  return sum;
}

// scores += band, + `other` where the key's type is not `type`; the maximum, times scale. Beyond
// `keys` what is written does not matter.
HWY_INLINE float AddTerms(float* HWY_RESTRICT scores, const float* HWY_RESTRICT band,
                          const float* HWY_RESTRICT types, float type, float other, size_t keys,
                          float scale) {
  const FloatTag d;
  const auto own_type = hn::Set(d, type);
  const auto other_term = hn::Set(d, other);
  const auto factor = hn::Set(d, scale);
  auto max = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (size_t j = 0; j < keys; j += kLanes) {
    const auto segment = hn::IfThenElseZero(hn::Ne(hn::Load(d, types + j), own_type), other_term);
    const auto score = hn::Add(hn::Add(hn::Load(d, scores + j), hn::LoadU(d, band + j)), segment);
    hn::Store(score, d, scores + j);
    const auto scaled = hn::Mul(score, factor);
    if (HWY_LIKELY(j + kLanes <= keys)) {
      max = hn::Max(max, scaled);
    } else {
      max = hn::IfThenElse(hn::FirstN(d, keys - j), hn::Max(max, scaled), max);
    }
  }
  return hn::GetLane(hn::MaxOfLanes(d, max));
}

// One block of query rows against one block of keys.
void AttendRows(const RelativeAttentionTile& tile, size_t query, size_t rows, size_t keys,
                bool first_block, const Scratch& scratch) {
  const MultiplyRowsFn multiply = kMultiplyRows[rows - 1];
  const size_t head_size = tile.head_size;
  float other[kMaxRows];
  for (size_t r = 0; r < rows; ++r) {
    other[r] = PrepareQuery(tile, tile.q + (query + r) * tile.q_stride, scratch.segment_difference,
                            scratch.content_queries + r * head_size,
                            scratch.position_queries + r * head_size);
  }
  for (size_t key = 0; key < keys; key += kPanelWidth) {
    multiply(scratch.content_queries, head_size, scratch.keys + key * head_size, head_size,
             scratch.scores + key, kScoreStride, scratch.keys);
  }
  // The tile's last row has key 0 at the packed positions' first row, the others further right.
  const size_t last_row = tile.queries - (query + rows);
  const size_t first_panel = last_row / kPanelWidth * kPanelWidth;
  const size_t end = last_row + rows - 1 + keys;
  for (size_t column = first_panel; column < end; column += kPanelWidth) {
    multiply(scratch.position_queries, head_size, scratch.positions + column * head_size, head_size,
             scratch.band + (column - first_panel), kBandStride, scratch.positions);
  }
  const float scale = tile.scale * std::numbers::log2e_v<float>;
  const auto finish = [&](size_t r) HWY_ATTR {
    const float* band = scratch.band + r * kBandStride + last_row - first_panel + rows - 1 - r;
    const int32_t type = tile.type_ids[tile.first_query + query + r];
    return AddTerms(scratch.scores + r * kScoreStride, band, scratch.types,
                    static_cast<float>(type), other[r], keys, scale);
  };
  FinishRows(scratch, query, rows, keys, head_size, scale, first_block, finish,
             tile.out + query * tile.out_stride, tile.out_stride);
}

// Keys [key, key + keys), their values, types and positions.
void PackBlock(const RelativeAttentionTile& tile, size_t key, size_t keys, const Scratch& scratch) {
  const auto row_of = [&](const RelativeRows& rows, size_t index) HWY_ATTR {
    return index < tile.memory_size ? rows.memory + (tile.memory_first + index) %
                                                        tile.memory_capacity * rows.memory_stride
                                    : rows.own + (index - tile.memory_size) * rows.own_stride;
  };
  PackTransposed([&](size_t row) HWY_ATTR { return row_of(tile.k, key + row); }, keys,
                 tile.head_size, scratch.keys);
  PackValues([&](size_t row) HWY_ATTR { return row_of(tile.v, key + row); }, keys, tile.head_size,
             scratch.values);
  for (size_t j = 0; j < keys; ++j) {
    const size_t index = key + j;
    scratch.types[j] = index < tile.memory_size
                           ? 0.0f
                           : static_cast<float>(tile.type_ids[index - tile.memory_size]);
  }
  std::fill(scratch.types + keys, scratch.types + RoundUp(keys, kPanelWidth), 0.0f);
  // That of the tile's last query row and the block's first key.
  const int64_t first =
      tile.center + static_cast<int64_t>(key) -
      static_cast<int64_t>(tile.memory_size + tile.first_query + tile.queries - 1);
  const int64_t last = static_cast<int64_t>(tile.num_positions) - 1;
  PackTransposed(
      [&](size_t row) HWY_ATTR {
        const int64_t position = std::clamp<int64_t>(first + static_cast<int64_t>(row), 0, last);
        return tile.positions + static_cast<size_t>(position) * tile.position_stride;
      },
      keys + tile.queries - 1, tile.head_size, scratch.positions);
}

void RunTile(const RelativeAttentionTile& tile, float* base) {
  const Scratch scratch(base);
  for (size_t j = 0; j < tile.head_size; ++j) {
    scratch.segment_difference[j] = tile.other_segment[j] - tile.same_segment[j];
  }
  const size_t length = tile.memory_size + tile.length;
  for (size_t key = 0; key < length; key += kAttentionKeyBlock) {
    const size_t keys = std::min(kAttentionKeyBlock, length - key);
    PackBlock(tile, key, keys, scratch);
    for (size_t query = 0; query < tile.queries;) {
      const size_t rows = BlockRows(query, tile.queries);
      AttendRows(tile, query, rows, keys, key == 0, scratch);
      query += rows;
    }
  }
}

const RelativeAttentionKernels& Table() {
  static const RelativeAttentionKernels kTable = {hwy::TargetName(HWY_TARGET), Scratch::kFloats,
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

const RelativeAttentionKernels& ChooseRelativeAttentionKernels() {
  return HWY_DYNAMIC_DISPATCH(Table)();
}

}  // namespace bertrand
#endif
