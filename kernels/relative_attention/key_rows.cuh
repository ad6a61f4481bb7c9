#pragma once

// Where the kernels of relative attention find rows: the operands of a launch, the memory's and a
// sequence's own keys and values as one run of rows, and the table of positions beyond its ends.
// For kernel bodies; nothing here owns memory.

#include "kernels/attention/attention_output.cuh"
#include "kernels/attention/row_tile.cuh"
#include "kernels/relative_attention/memory_ring.cuh"
#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T>
struct RelativeOperands {
  Global<const T> qkv;                                        // [tokens, 3, heads, head_size]
  Global<const T> content_bias, position_bias, segment_bias;  // [heads, head_size]
  Global<const T> positions;                                  // [num_positions, heads, head_size]
  Global<const T> segments;                                   // [2, heads, head_size]
  Global<const int32_t> type_ids;                             // [tokens]
  Global<const int32_t> cu_seqlens;                           // [sequences + 1]
  Global<const T> memory_rows;
  Global<const MemoryRing> rings;  // [sequences], or absent
  AttentionOutput<T> out;
  int sequences, heads, head_size;
  int width;  // heads * head_size
  int num_positions, center;
  float scale;  // times log2(e): scores are exponents of 2
};

// The keys and values of a sequence that lie in its memory.
template <typename T>
struct MemoryRows {
  Global<const T> keys, values;  // of the ring's first row, in the head's columns
  int first, capacity, width;
  SIMT_FN int64_t Offset(int row) const {
    const int at = first + row;
    return int64_t{at < capacity ? at : at - capacity} * width;
  }
};

template <typename T>
SIMT_FN int MemorySize(const RelativeOperands<T>& p, int sequence) {
  if (!p.rings) return 0;
  return Load(Cast<const int32_t>(p.rings + sequence) + 5);
}

template <typename T>
SIMT_FN MemoryRows<T> LoadMemoryRows(const RelativeOperands<T>& p, int sequence, int column) {
  const Global<const MemoryRing> ring = p.rings + sequence;
  const auto offsets = LoadVector<2>(Cast<const int64_t>(ring));
  const auto sizes = LoadVector<4>(Cast<const int32_t>(ring) + 4);
  return {p.memory_rows + (offsets[0] + column), p.memory_rows + (offsets[1] + column), sizes[0],
          sizes[2], p.width};
}

// The table's rows from `first` on, which may lie outside of it on either side.
template <typename T>
struct PositionRows {
  Global<const T> positions;  // the table's first row, in the head's columns
  int first, last, width;     // last: of the table
  SIMT_FN Global<const T> operator()(int row) const {
    return positions + int64_t{Max(0, Min(first + row, last))} * width;
  }
};

// Types of `count` keys from `first` on, counted from the memory's oldest; 0 in the memory. `own`:
// the batch's row that would be key 0 if the memory's rows were there.
template <typename T>
SIMT_FN void CopyTypes(Shared<int32_t> types, const RelativeOperands<T>& p, int own, int first,
                       int memory, int total, int count) {
  const int key = first + ThreadIndex();
  if (ThreadIndex() >= count) return;
  const bool typed = key >= memory && key < total;
  CopyAsync<4>(types + ThreadIndex(), p.type_ids + (typed ? own + key : 0), typed ? 4 : 0);
}

// A sequence's keys, or its values, for copies in floats: row 0 is the memory's oldest.
template <typename T>
struct KeyRows {
  MemoryRows<T> memory;
  Global<const T> memory_rows, own;  // the ring's first row; the sequence's first own row
  int first, size, stride;           // the tile's first row; the memory's; of own rows
  SIMT_FN Global<const T> operator()(int row) const {
    const int key = first + row;
    if (key < size) return memory_rows + memory.Offset(key);
    return own + int64_t{key - size} * stride;
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
