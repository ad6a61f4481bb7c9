#pragma once

// The bodies of packed attention (contract: attention.h). Both walk over the keys of their rows'
// sequence in tiles and keep the softmax so far, so that nothing grows with the length.

#include "kernels/attention/attention_output.cuh"
#include "kernels/attention/float_tile.cuh"
#include "kernels/attention/row_tile.cuh"
#include "kernels/attention/tensor_tile.cuh"
#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T>
struct AttentionOperands {
  Global<const T> qkv;               // [tokens, 3, heads, head_size]
  Global<const int32_t> cu_seqlens;  // [sequences + 1]
  AttentionOutput<T> out;
  int sequences, heads, head_size;
  int width;    // heads * head_size
  float scale;  // times log2(e): scores are exponents of 2
};

// One block: 16 kGroups query rows a warp of one head, on tensor cores. Heads are the fastest index
// of the grid, so that neighbouring blocks read neighbouring columns.
//
//   copies    Q, K 0, V 0 | K 1, V 1      | K 2, V 2      | ...      two stages of K and V
//   products              | Q K 0^T, P V 0 | Q K 1^T, P V 1 | ...     one barrier a tile
//
// Q goes through the second stage into registers, where it stays.
template <typename T, int kHeadSize, int kWarps, int kGroups>
struct TensorAttentionKernel {
  static constexpr const char* kName = "attention";
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kWarpRows = 16 * kGroups, kRows = kWarpRows * kWarps, kKeys = 64;
  static constexpr int kTile = kKeys * kHeadSize;
  // Two groups: as many blocks as do not spill; one: 16 warps, or 8 where sums are wide.
  static constexpr int kMinBlocks = kGroups == 2       ? (kHeadSize == 32 ? 3 : 2)
                                    : kHeadSize == 128 ? 8 / kWarps
                                                       : 16 / kWarps;
  static_assert(kRows <= 2 * kKeys, "Q must fit in a stage");

  using Params = AttentionOperands<T>;
  struct Layout {
    alignas(128) T tiles[2][2][kTile];  // stages of keys and values
    int place[2];                       // of the rows in `out`, and their number: saves registers
  };
  static_assert(sizeof(Layout) <= 99 * 1024, "what every architecture has");

  // The warp's first row of the block's. Asked for wherever it is needed, as is `place`: in
  // registers they make nvcc 12.8 spill for sm_120.
  SIMT_FN static int WarpRow() { return WarpIndex() * kWarpRows; }

  // One tile of keys and values for the warp's rows.
  template <bool kPartial>
  SIMT_FN static void AddTile(OnlineSoftmax<kHeadSize> (&softmax)[kGroups],
                              const MmaA (&queries)[kGroups][kHeadSize / 16], Shared<T> tiles,
                              int stage, float scale, int valid_keys) {
    MmaC scores[kGroups][kKeys / 8] = {};
    AddScores<kKeys, kHeadSize, kPartial>(scores, queries, tiles, stage, valid_keys);
    if (kPartial) {
      SIMT_UNROLL
      for (int group = 0; group < kGroups; ++group) MaskScores<kKeys>(scores[group], valid_keys);
    }
    const float no_offsets[kGroups][2] = {};
    UpdateSoftmax<kKeys, false>(softmax, scores, scale, no_offsets);
    AddValues<kKeys, kHeadSize, kPartial>(softmax, scores, tiles, stage + kTile, valid_keys);
  }

  // Starts the copies of a stage. Values lie `width` values behind their keys.
  SIMT_FN static void CopyStage(Shared<T> stage, Global<const T> keys, int width, int valid_keys,
                                int chunks) {
    CopyTiles<2, kKeys, kHeadSize, kThreads>(stage, keys, 3 * width, width, valid_keys, chunks);
    CopyAsyncCommit();
  }

  SIMT_FN static void Run(const Params& p) {
    const int column = BlockIndex() % p.heads * p.head_size;
    const RowTile rows = FindRowTile(p.cu_seqlens, p.sequences, BlockIndex() / p.heads, kRows);
    if (rows.rows <= 0) return;
    const int width = p.width, stride = 3 * width, chunks = p.head_size / 8;
    const Shared<T> tiles = SharedArray<&Layout::tiles>();
    const Shared<int> place = SharedArray<&Layout::place>();
    if (ThreadIndex() == 0) {
      Store(place, (rows.begin + rows.first) * width + column);
      Store(place + 1, rows.rows);
    }

    const Global<const T> from =
        p.qkv + (int64_t{rows.begin} * stride + column + CopyOffset<kHeadSize>(stride));
    CopyTiles<1, kRows, kHeadSize, kThreads>(tiles + 2 * kTile, from + int64_t{rows.first} * stride,
                                             stride, 0, rows.rows, chunks);
    Global<const T> keys = from + width;
    CopyStage(tiles, keys, width, rows.length, chunks);
    CopyAsyncWait<0>();
    SyncThreads();
    MmaA queries[kGroups][kHeadSize / 16];
    SIMT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      LoadLeft<kHeadSize>(queries[group],
                          tiles + (2 * kTile + (WarpRow() + 16 * group) * kHeadSize));
    }

    OnlineSoftmax<kHeadSize> softmax[kGroups];
    for (int stage = 0, valid_keys = rows.length; valid_keys > 0; valid_keys -= kKeys) {
      CopyAsyncWait<0>();
      SyncThreads();  // the stage is there, and nobody reads the other one any more
      if (valid_keys > kKeys) {
        keys = keys + kKeys * stride;
        CopyStage(tiles + (stage ^ (2 * kTile)), keys, width, valid_keys - kKeys, chunks);
      }
      if (WarpRow() < Load(place + 1)) {  // the others only copy
        if (valid_keys >= kKeys) {
          AddTile<false>(softmax, queries, tiles, stage, p.scale, kKeys);
        } else {
          AddTile<true>(softmax, queries, tiles, stage, p.scale, valid_keys);
        }
      }
      stage ^= 2 * kTile;
    }

    SyncThreads();  // nobody reads tiles any more
    if (WarpRow() >= Load(place + 1)) return;
    SIMT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      const int row = WarpRow() + 16 * group;
      StoreRows<kHeadSize>(softmax[group], tiles + row * kHeadSize, p.out,
                           Load(place) + row * width, width, Load(place + 1) - row, chunks);
    }
  }
};

// One block: 8 kRows query rows of one head in floats, whatever the type, for heads up to
// kHeadSize. Keys and values have one tile each: keys are copied while values are summed up, and
// the other way round.
template <typename T, int kHeadSize>
struct FloatAttentionKernel {
  static constexpr const char* kName = "attention_float";
  static constexpr int kThreads = kFloatThreads;
  static constexpr int kLaneRows = kHeadSize == 256 ? 4 : 8;
  static constexpr int kRows = 8 * kLaneRows;
  static constexpr int kKeys = kHeadSize <= 64 ? 64 : 4096 / kHeadSize;
  static constexpr int kStride = kFloatStride<kHeadSize>;
  static constexpr int kWeights = kKeys * kWeightStride<kLaneRows>;  // of a warp
  static constexpr int kMinBlocks = kHeadSize >= 128 ? 2 : 3;

  struct Params {
    AttentionOperands<T> operands;
    bool chunked;  // rows of a head are aligned to four values and multiples of them
  };
  struct Layout {
    alignas(16) float queries[kRows * kStride];
    alignas(16) float keys[kKeys * kStride];
    alignas(16) float values[kKeys * kStride];
    alignas(16) float weights[4 * kWeights];
  };
  static_assert(sizeof(Layout) <= 99 * 1024, "what every architecture has");

  SIMT_FN static void Run(const Params& params) {
    const AttentionOperands<T>& p = params.operands;
    const int column = BlockIndex() % p.heads * p.head_size;
    const RowTile rows = FindRowTile(p.cu_seqlens, p.sequences, BlockIndex() / p.heads, kRows);
    if (rows.rows <= 0) return;
    const int width = p.width, stride = 3 * width;
    const Global<const T> sequence = p.qkv + (int64_t{rows.begin} * stride + column);
    const Shared<float> queries = SharedArray<&Layout::queries>();
    const Shared<float> keys = SharedArray<&Layout::keys>();
    const Shared<float> values = SharedArray<&Layout::values>();
    const Shared<float> weights = SharedArray<&Layout::weights>() + WarpIndex() * kWeights;
    const int first_row = (WarpIndex() * 2 + LaneIndex() / 16) * kLaneRows;
    const bool active = WarpIndex() * 2 * kLaneRows < rows.rows;

    CopyFloatRows<kRows, kHeadSize, T>(
        queries, PlainRows<T>{sequence + int64_t{rows.first} * stride, stride}, rows.rows,
        p.head_size, params.chunked);
    CopyFloatRows<kKeys, kHeadSize, T>(keys, PlainRows<T>{sequence + width, stride}, rows.length,
                                       p.head_size, params.chunked);
    CopyAsyncCommit();
    FloatSoftmax<kLaneRows, kHeadSize> softmax;
    Clear(softmax);
    for (int first = 0; first < rows.length; first += kKeys) {
      const int valid_keys = rows.length - first;
      const Global<const T> tile = sequence + (int64_t{first} * stride + width);
      CopyAsyncWait<0>();
      SyncThreads();  // the keys are there, and nobody reads values any more
      CopyFloatRows<kKeys, kHeadSize, T>(values, PlainRows<T>{tile + width, stride}, valid_keys,
                                         p.head_size, params.chunked);
      CopyAsyncCommit();
      if (active) {
        float scores[kLaneRows][kKeys / 16] = {};
        int key_rows[kKeys / 16];
        SIMT_UNROLL
        for (int j = 0; j < kKeys / 16; ++j) key_rows[j] = LaneIndex() % 16 + j * 16;
        AddProducts<kLaneRows, kKeys / 16, kHeadSize>(scores, queries + first_row * kStride, keys,
                                                      key_rows, p.head_size);
        UpdateFloatSoftmax(softmax, scores, weights, p.scale, valid_keys);
      }
      CopyAsyncWait<0>();
      SyncThreads();  // the values are there, and nobody reads keys any more
      if (valid_keys > kKeys) {
        CopyFloatRows<kKeys, kHeadSize, T>(keys,
                                           PlainRows<T>{tile + int64_t{kKeys} * stride, stride},
                                           valid_keys - kKeys, p.head_size, params.chunked);
        CopyAsyncCommit();
      }
      if (active) AddFloatValues(softmax, weights, values, Min(kKeys, valid_keys));
    }
    if (!active) return;
    const int64_t row = rows.begin + rows.first + first_row;
    StoreFloatRows(softmax, p.out, row * width + column, width, rows.rows - first_row, p.head_size,
                   params.chunked);
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
