#pragma once

// Relative attention in floats (contract: relative_attention.h): any type, head size and alignment.
// The relative shift is the skewed read that relative_attention.cuh describes. The warp computes
// the whole product with the positions' rows, puts it into shared memory of its own and reads it
// along the diagonals. From one tile of keys to the next the window of the table that the block's
// warps share moves by as many rows as the tile has keys: it lies in a ring of rows, of which that
// many are copied for each tile.

#include "kernels/attention/float_tile.cuh"
#include "kernels/attention/row_tile.cuh"
#include "kernels/relative_attention/key_rows.cuh"
#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// One block: 8 kLaneRows query rows of one head in floats, whatever the type, for heads up to
// kHeadSize. The biases are rows of their own: (q + bias) k = q k + bias k, where the second is the
// same for all rows. Keys and the table's rows are copied while values are summed up, and the other
// way round.
template <typename T, int kHeadSize>
struct FloatRelativeAttentionKernel {
  static constexpr const char* kName = "relative_attention_float";
  static constexpr int kThreads = kFloatThreads;
  static constexpr int kLaneRows = kHeadSize == 256 ? 2 : kHeadSize == 128 ? 4 : 8;
  static constexpr int kWarpRows = 2 * kLaneRows, kRows = 4 * kWarpRows;
  static constexpr int kKeys = kHeadSize == 256 ? 16 : 32;
  static constexpr int kColumns = kKeys / 16;  // of a lane
  static constexpr int kRingRows = kRows + kKeys;
  static constexpr int kStride = kFloatStride<kHeadSize>;
  // Lanes of two rows lie in different banks when the band is written; its reads take two passes.
  static constexpr int kBandStride = kKeys + (kLaneRows == 8 ? 18 : kLaneRows == 4 ? 20 : 24);
  static_assert(kLaneRows * kBandStride % 32 == 16 && kBandStride >= kKeys + 16);
  // The warp's own memory: the band, then the weights.
  static constexpr int kBand = kWarpRows * kBandStride;
  static constexpr int kWeights = kKeys * kWeightStride<kLaneRows>;
  static constexpr int kOwn = kBand > kWeights ? kBand : kWeights;

  struct Params {
    RelativeOperands<T> operands;
    bool chunked;  // rows of a head are aligned to four values and multiples of them
  };
  struct Layout {
    alignas(16) float queries[kRows * kStride];
    alignas(16) float biases[2 * kStride];  // of contents, of positions
    alignas(16) float keys[kKeys * kStride];
    alignas(16) float values[kKeys * kStride];
    alignas(16) float ring[kRingRows * kStride];
    alignas(16) float own[4 * kOwn];
    int32_t types[kKeys];
  };
  static_assert(sizeof(Layout) <= 99 * 1024, "what every architecture has");

  using Rows = float[kLaneRows];

  SIMT_FN static int FirstRow() { return (WarpIndex() * 2 + LaneIndex() / 16) * kLaneRows; }

  // products[i][j] = (query row i + bias) * right row j, for the lane's rows.
  template <int kCount>
  SIMT_FN static void Multiply(float (&products)[kLaneRows][kCount], int bias, Shared<float> right,
                               const int (&right_rows)[kCount], int head_size) {
    float of_bias[1][kCount] = {};
    AddProducts<1, kCount, kHeadSize>(of_bias, SharedArray<&Layout::biases>() + bias * kStride,
                                      right, right_rows, head_size);
    SIMT_UNROLL
    for (int i = 0; i < kLaneRows; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < kCount; ++j) products[i][j] = of_bias[0][j];
    }
    AddProducts<kLaneRows, kCount, kHeadSize>(
        products, SharedArray<&Layout::queries>() + FirstRow() * kStride, right, right_rows,
        head_size);
  }

  // The warp's band of the tile whose window begins at row `start` of the ring: [row][c].
  SIMT_FN static void ComputeBand(Shared<float> band, int start, int head_size) {
    constexpr int kCount = kColumns + 1;
    const int x = LaneIndex() % 16, y = LaneIndex() / 16;
    int rows[kCount];
    SIMT_UNROLL
    for (int j = 0; j < kCount; ++j) {
      // Beyond the band's last column there is no row of the window.
      const int c = Min(x + j * 16, kKeys + kWarpRows - 2);
      const int row = start + kRows - kWarpRows - WarpIndex() * kWarpRows + c;
      rows[j] = row < kRingRows ? row : row - kRingRows;
    }
    float products[kLaneRows][kCount];
    Multiply<kCount>(products, 1, SharedArray<&Layout::ring>(), rows, head_size);
    SIMT_UNROLL
    for (int i = 0; i < kLaneRows; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < kCount; ++j) {
        Store(band + ((y * kLaneRows + i) * kBandStride + x + j * 16), products[i][j]);
      }
    }
    SyncWarp();
  }

  // The scores of a tile, all three parts.
  SIMT_FN static void ComputeScores(float (&scores)[kLaneRows][kColumns], Shared<float> band,
                                    const int (&row_types)[kLaneRows], const Rows& segment_part,
                                    int start, int head_size) {
    const int x = LaneIndex() % 16, y = LaneIndex() / 16;
    ComputeBand(band, start, head_size);
    int rows[kColumns];
    SIMT_UNROLL
    for (int j = 0; j < kColumns; ++j) rows[j] = x + j * 16;
    Multiply<kColumns>(scores, 0, SharedArray<&Layout::keys>(), rows, head_size);
    const Shared<int32_t> types = SharedArray<&Layout::types>();
    SIMT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const int column = x + j * 16, type = Load(types + column);
      SIMT_UNROLL
      for (int i = 0; i < kLaneRows; ++i) {
        const int row = y * kLaneRows + i;
        scores[i][j] += Load(band + (row * kBandStride + kWarpRows - 1 - row + column));
        if (type != row_types[i]) scores[i][j] += segment_part[i];
      }
    }
    SyncWarp();  // the band has been read: weights take its place
  }

  // What a key of another segment adds to the scores of the lane's rows.
  SIMT_FN static void SegmentPart(Rows& part, const RelativeOperands<T>& p, int column) {
    SIMT_UNROLL
    for (int i = 0; i < kLaneRows; ++i) part[i] = 0;
    const Shared<float> queries = SharedArray<&Layout::queries>() + FirstRow() * kStride;
    for (int c = LaneIndex() % 16; c < p.head_size; c += 16) {
      const float bias = ToFloat(Load(p.segment_bias + (column + c)));
      const float difference = ToFloat(Load(p.segments + (p.width + column + c))) -
                               ToFloat(Load(p.segments + (column + c)));
      SIMT_UNROLL
      for (int i = 0; i < kLaneRows; ++i) {
        part[i] = Fma(Load(queries + (i * kStride + c)) + bias, difference, part[i]);
      }
    }
    SIMT_UNROLL
    for (int i = 0; i < kLaneRows; ++i) part[i] = WarpSum<16>(part[i]);
  }

  // Copies `kCount` rows of the table from row `first` of the first tile's window on into the ring.
  template <int kCount>
  SIMT_FN static void CopyPositions(const Params& params, PositionRows<T> rows, int first,
                                    int start) {
    rows.first += first;
    CopyFloatRows<kCount, kHeadSize, T>(SharedArray<&Layout::ring>() + start * kStride, rows,
                                        kCount, params.operands.head_size, params.chunked);
  }

  SIMT_FN static void CopyBias(int bias, Global<const T> from, int head_size) {
    const Shared<float> to = SharedArray<&Layout::biases>() + bias * kStride;
    for (int c = ThreadIndex(); c < kHeadSize; c += kThreads) {
      Store(to + c, c < head_size ? ToFloat(Load(from + c)) : 0.0f);
    }
  }

  SIMT_FN static KeyRows<T> RowsOf(const RelativeOperands<T>& p, const RowTile& rows, int memory,
                                   int column, int part) {
    const int stride = 3 * p.width;
    KeyRows<T> keys = {{}, {},     p.qkv + (int64_t{rows.begin} * stride + part * p.width + column),
                       0,  memory, stride};
    if (memory > 0) {
      keys.memory = LoadMemoryRows(p, rows.sequence, column);
      keys.memory_rows = part == 1 ? keys.memory.keys : keys.memory.values;
    }
    return keys;
  }

  SIMT_FN static void CopyTile(const Params& params, Shared<float> tile, KeyRows<T> rows, int first,
                               int total) {
    rows.first = first;
    CopyFloatRows<kKeys, kHeadSize, T>(tile, rows, total - first, params.operands.head_size,
                                       params.chunked);
  }

  SIMT_FN static void Run(const Params& params) {
    const RelativeOperands<T>& p = params.operands;
    const int column = BlockIndex() % p.heads * p.head_size;
    const RowTile rows = FindRowTile(p.cu_seqlens, p.sequences, BlockIndex() / p.heads, kRows);
    if (rows.rows <= 0) return;
    const int memory = MemorySize(p, rows.sequence), total = memory + rows.length;
    const KeyRows<T> key_rows = RowsOf(p, rows, memory, column, 1);
    const KeyRows<T> value_rows = RowsOf(p, rows, memory, column, 2);
    const PositionRows<T> positions = {p.positions + column,
                                       p.center - memory - rows.first - (kRows - 1),
                                       p.num_positions - 1, p.width};
    const Shared<float> keys = SharedArray<&Layout::keys>();
    const Shared<float> own = SharedArray<&Layout::own>() + WarpIndex() * kOwn;
    const Shared<int32_t> types = SharedArray<&Layout::types>();

    CopyFloatRows<kRows, kHeadSize, T>(
        SharedArray<&Layout::queries>(),
        PlainRows<T>{p.qkv + (int64_t{rows.begin + rows.first} * 3 * p.width + column),
                     3 * p.width},
        rows.rows, p.head_size, params.chunked);
    CopyBias(0, p.content_bias + column, p.head_size);
    CopyBias(1, p.position_bias + column, p.head_size);
    CopyPositions<kRingRows>(params, positions, 0, 0);
    CopyTile(params, keys, key_rows, 0, total);
    CopyTypes(types, p, rows.begin - memory, 0, memory, total, kKeys);
    CopyAsyncCommit();
    CopyAsyncWait<0>();
    SyncThreads();

    const bool active = WarpIndex() * kWarpRows < rows.rows;
    Rows segment_part;
    SegmentPart(segment_part, p, column);
    int row_types[kLaneRows];
    SIMT_UNROLL
    for (int i = 0; i < kLaneRows; ++i) {
      const int row = Min(FirstRow() + i, rows.rows - 1);
      row_types[i] = Load(p.type_ids + (rows.begin + rows.first + row));
    }
    FloatSoftmax<kLaneRows, kHeadSize> softmax;
    Clear(softmax);
    for (int first = 0, start = 0; first < total; first += kKeys) {
      CopyAsyncWait<0>();
      SyncThreads();  // keys, types and positions are there, and nobody reads values any more
      CopyTile(params, SharedArray<&Layout::values>(), value_rows, first, total);
      CopyAsyncCommit();
      if (active) {
        float scores[kLaneRows][kColumns];
        ComputeScores(scores, own, row_types, segment_part, start, p.head_size);
        UpdateFloatSoftmax(softmax, scores, own, p.scale, total - first);
      }
      CopyAsyncWait<0>();
      SyncThreads();  // the values are there, and nobody reads the others any more
      if (first + kKeys < total) {
        CopyTile(params, keys, key_rows, first + kKeys, total);
        CopyTypes(types, p, rows.begin - memory, first + kKeys, memory, total, kKeys);
        CopyPositions<kKeys>(params, positions, first + kRingRows, start);
        CopyAsyncCommit();
      }
      start = start + kKeys < kRingRows ? start + kKeys : 0;
      if (active) {
        AddFloatValues(softmax, own, SharedArray<&Layout::values>(), Min(kKeys, total - first));
      }
    }
    if (!active) return;
    const int64_t row = rows.begin + rows.first + FirstRow();
    StoreFloatRows(softmax, p.out, row * p.width + column, p.width, rows.rows - FirstRow(),
                   p.head_size, params.chunked);
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
