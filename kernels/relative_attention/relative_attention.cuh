#pragma once

// The bodies of relative attention (contract: relative_attention.h). As in packed attention a block
// has some query rows of a head and walks over the keys in tiles; keys are the memory's rows, then
// the sequence's own.
//
// The relative shift is a skewed read. For a warp's rows r = 0, 1, ... and the columns of a tile of
// keys, positions[center + j - i] are the rows of a band: with R the table from the row that
// belongs to the last query row and the first key on, product[r][c] = (q_r + position_bias) R[c] is
// needed at c = column + (rows - 1) - r. The warp computes the whole product, puts it as float into
// shared memory of its own and reads it along the diagonals:
//
//   c        0 1 2 3 4 5 6 7 ...
//   row 0          0 1 2 3 4         the numbers: columns of keys
//   row 1        0 1 2 3 4
//   row 2      0 1 2 3 4
//   row 3    0 1 2 3 4
//
// From one tile to the next the window of R that the block's warps share moves by as many rows as
// the tile has keys: it lies in a ring of rows, of which that many are copied for each tile.

#include "kernels/attention/float_tile.cuh"
#include "kernels/attention/row_tile.cuh"
#include "kernels/attention/tensor_tile.cuh"
#include "kernels/relative_attention/key_rows.cuh"
#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// One block: 16 query rows a warp of one head, on tensor cores.
//
//   copies    Q, R 0, K 0, V 0 | R 1, K 1, V 1               | ...
//   products                   | band 0, Q K 0^T + band, P V 0 | ...      one barrier a tile
//
// Tiles of 32 keys: with 64, a sixth of the band's products would be saved (5 groups of 16 instead
// of twice 3), but 78 KiB at heads of 64 leave an SM 2 blocks instead of 3, and 1 on small ones.
template <typename T, int kHeadSize>
struct TensorRelativeAttentionKernel {
  static constexpr const char* kName = "relative_attention";
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kWarps, kKeys = 32;
  static constexpr int kTile = kKeys * kHeadSize;
  static constexpr int kRingRows = kRows + 2 * kKeys;
  static constexpr int kBand = kKeys + 16;
  // Pairs of 16 lanes lie in different banks when written; reads along diagonals take two passes.
  static constexpr int kBandStride = 56;
  static constexpr int kMinBlocks = kHeadSize == 128 ? 2 : kHeadSize == 64 ? 3 : 4;
  static_assert(kRows <= 2 * kKeys, "Q must fit in a stage");
  static_assert((kRingRows & (kRingRows - 1)) == 0, "a power of two");
  static_assert(kBandStride >= kBand && kBandStride % 16 == 8);

  using Params = RelativeOperands<T>;
  struct Layout {
    alignas(128) T tiles[2][2][kTile];  // stages of keys and values
    alignas(128) T ring[kRingRows * kHeadSize];
    alignas(16) float band[kWarps][16 * kBandStride];
    alignas(16) int32_t types[2][kKeys];
    int place[2];  // of the rows in `out`, and their number: saves registers
  };
  static_assert(sizeof(Layout) <= 99 * 1024, "what every architecture has");

  using Fragments = MmaA[kHeadSize / 16];

  // What a block's copies need to know.
  struct Keys {
    int sequence, begin, column;
    int memory, total;   // keys of the memory; all keys
    int first_position;  // of the window of the first tile, in the table
  };

  // Starts the copies of tile `first` / kKeys: its keys, values and types, and the rows of the
  // table from `first_row` of its window to the end.
  SIMT_FN static void CopyStage(const Params& p, const Keys& keys, int first, int first_row) {
    const int stage = first / kKeys % 2, valid = keys.total - first;
    const Shared<T> tile = SharedArray<&Layout::tiles>() + stage * 2 * kTile;
    const int chunks = p.head_size / 8, stride = 3 * p.width;
    if (first >= keys.memory) {
      const int row = keys.begin + first - keys.memory;
      CopyTiles<2, kKeys, kHeadSize, kThreads>(
          tile,
          p.qkv + (int64_t{row} * stride + p.width + keys.column + CopyOffset<kHeadSize>(stride)),
          stride, p.width, valid, chunks);
    } else {
      CopyMemoryTiles(p, keys, tile, first);
    }
    CopyPositions(p, keys, first, first_row);
    CopyTypes(SharedArray<&Layout::types>() + stage * kKeys, p, keys.begin, first, keys.memory,
              keys.total, kKeys);
    CopyAsyncCommit();
  }

  // A tile of which some rows are the memory's, some perhaps the sequence's own.
  SIMT_FN static void CopyMemoryTiles(const Params& p, const Keys& keys, Shared<T> tile,
                                      int first) {
    constexpr int kChunks = kHeadSize / 8, kRowsAtOnce = kThreads / kChunks;
    const MemoryRows<T> memory = LoadMemoryRows(p, keys.sequence, keys.column);
    const int chunk = ThreadIndex() % kChunks;
    SIMT_UNROLL
    for (int i = 0; i < kKeys; i += kRowsAtOnce) {
      const int row = i + ThreadIndex() / kChunks, key = first + row;
      const int bytes = key < keys.total && chunk < p.head_size / 8 ? 16 : 0;
      const int own = keys.begin + key - keys.memory;
      const Global<const T> from =
          p.qkv + (int64_t{own} * 3 * p.width + p.width + keys.column + chunk * 8);
      const int64_t offset = memory.Offset(key) + chunk * 8;
      const bool is_own = key >= keys.memory;
      const int at = ChunkOffset<kHeadSize>(row, chunk);
      CopyAsync<16>(tile + at, is_own ? from : memory.keys + offset, bytes);
      CopyAsync<16>(tile + (kTile + at), is_own ? from + p.width : memory.values + offset, bytes);
    }
  }

  // Tile `first` / kKeys's window is rows `first`, `first` + 1, ... of the table, counted from the
  // first tile's, in the ring at that modulo kRingRows.
  SIMT_FN static void CopyPositions(const Params& p, const Keys& keys, int first, int first_row) {
    constexpr int kChunks = kHeadSize / 8, kRowsAtOnce = kThreads / kChunks;
    const Shared<T> ring = SharedArray<&Layout::ring>();
    const PositionRows<T> rows = {p.positions + keys.column, keys.first_position,
                                  p.num_positions - 1, p.width};
    const int chunk = ThreadIndex() % kChunks;
    const int bytes = chunk < p.head_size / 8 ? 16 : 0;
    SIMT_UNROLL_BY(2)
    for (int i = first_row; i < kRows + kKeys; i += kRowsAtOnce) {
      const int row = first + i + ThreadIndex() / kChunks;
      CopyAsync<16>(ring + ChunkOffset<kHeadSize>(row % kRingRows, chunk),
                    rows(row) + (bytes == 0 ? 0 : chunk * 8), bytes);
    }
  }

  // queries + bias, rounded to T.
  SIMT_FN static void AddBias(Fragments& sum, const Fragments& queries, Global<const T> bias,
                              int head_size) {
    SIMT_UNROLL
    for (int k = 0; k < kHeadSize / 16; ++k) {
      SIMT_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int column = k * 16 + i / 2 * 8 + LaneIndex() % 4 * 2;
        Vector<float, 2> b = {};
        if (column < head_size) b = ToFloat(LoadVector<2, Cache::kReadOnly>(bias + column));
        float low, high;
        Unpack<T>(queries[k].r[i], low, high);
        sum[k].r[i] = Pack<T>(low + b[0], high + b[1]);
      }
    }
  }

  // What a key of another segment adds to the scores of rows g and g + 8, compared with one of the
  // same: (q + segment_bias) (segments[1] - segments[0]).
  SIMT_FN static void SegmentPart(float (&part)[2], const Fragments& queries, const Params& p,
                                  int column) {
    part[0] = part[1] = 0;
    SIMT_UNROLL
    for (int k = 0; k < kHeadSize / 8; ++k) {
      const int at = k * 8 + LaneIndex() % 4 * 2;
      if (at >= p.head_size) continue;
      const auto bias = ToFloat(LoadVector<2, Cache::kReadOnly>(p.segment_bias + (column + at)));
      const auto same = ToFloat(LoadVector<2, Cache::kReadOnly>(p.segments + (column + at)));
      const auto other =
          ToFloat(LoadVector<2, Cache::kReadOnly>(p.segments + (p.width + column + at)));
      SIMT_UNROLL
      for (int half = 0; half < 2; ++half) {
        float low, high;
        Unpack<T>(queries[k / 2].r[k % 2 * 2 + half], low, high);
        part[half] = Fma(low + bias[0], other[0] - same[0], part[half]);
        part[half] = Fma(high + bias[1], other[1] - same[1], part[half]);
      }
    }
    part[0] = WarpSum<4>(part[0]);
    part[1] = WarpSum<4>(part[1]);
  }

  // The warp's band of a tile: [row][c], c up to that of the last key.
  template <bool kPartial>
  SIMT_FN static void ComputeBand(Shared<float> band, const Fragments& queries, int first,
                                  int valid_keys) {
    const Shared<T> ring = SharedArray<&Layout::ring>();
    const int lane = LaneIndex();
    SIMT_UNROLL
    for (int group = 0; group < kBand / 16; ++group) {
      if (kPartial && group * 16 >= valid_keys + 16) continue;
      const int row = (first + kRows - 16 - WarpIndex() * 16 + group * 16) % kRingRows;
      const int offset = row * kHeadSize + TransposedOffset<kHeadSize>();
      MmaC low = {}, high = {};
      SIMT_UNROLL
      for (int k = 0; k < kHeadSize / 16; ++k) {
        uint32_t r[4];
        LoadMatrix(r, ring + (offset ^ (k * 16)));
        Mma<T>(low, queries[k], {{r[0], r[1]}});
        Mma<T>(high, queries[k], {{r[2], r[3]}});
      }
      SIMT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const Shared<float> to =
            band + ((lane / 4 + 8 * half) * kBandStride + group * 16 + lane % 4 * 2);
        StoreVector(to, Vector<float, 2>{low.v[2 * half], low.v[2 * half + 1]});
        StoreVector(to + 8, Vector<float, 2>{high.v[2 * half], high.v[2 * half + 1]});
      }
    }
    SyncWarp();
  }

  // What scores begin with: the part of the distance, read along the diagonals, and the segment's.
  template <bool kPartial>
  SIMT_FN static void BeginScores(MmaC (&scores)[kKeys / 8], Shared<float> band,
                                  Shared<int32_t> types, const int (&row_types)[2],
                                  const float (&segment_part)[2], int valid_keys) {
    const int lane = LaneIndex();
    SIMT_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {
      if (kPartial && n / 2 * 16 >= valid_keys) continue;
      const int column = n * 8 + lane % 4 * 2;
      const auto key_types = LoadVector<2>(types + column);
      SIMT_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int half = i / 2, row = lane / 4 + 8 * half;
        const float part = Load(band + (row * (kBandStride - 1) + 15 + column + i % 2));
        scores[n].v[i] = key_types[i % 2] == row_types[half] ? part : part + segment_part[half];
      }
    }
  }

  // Tile `first` / kKeys for the warp's rows.
  template <bool kPartial>
  SIMT_FN static void AddTile(OnlineSoftmax<kHeadSize> (&softmax)[1], const Fragments (&content)[1],
                              const Fragments& position, const int (&row_types)[2],
                              const float (&segment_part)[2], float scale, int first,
                              int valid_keys) {
    const Shared<T> tiles = SharedArray<&Layout::tiles>();
    const Shared<float> band = SharedArray<&Layout::band>() + WarpIndex() * (16 * kBandStride);
    const int stage = first / kKeys % 2;
    ComputeBand<kPartial>(band, position, first, valid_keys);
    MmaC scores[1][kKeys / 8] = {};
    BeginScores<kPartial>(scores[0], band, SharedArray<&Layout::types>() + stage * kKeys, row_types,
                          segment_part, valid_keys);
    AddScores<kKeys, kHeadSize, kPartial>(scores, content, tiles, stage * 2 * kTile, valid_keys);
    if (kPartial) MaskScores<kKeys>(scores[0], valid_keys);
    UpdateSoftmax<kKeys>(softmax[0], scores[0], scale);
    AddValues<kKeys, kHeadSize, kPartial>(softmax, scores, tiles, stage * 2 * kTile + kTile,
                                          valid_keys);
  }

  SIMT_FN static void Run(const Params& p) {
    const int column = BlockIndex() % p.heads * p.head_size;
    const RowTile rows = FindRowTile(p.cu_seqlens, p.sequences, BlockIndex() / p.heads, kRows);
    if (rows.rows <= 0) return;
    const int memory = MemorySize(p, rows.sequence), stride = 3 * p.width;
    const Keys keys = {
        rows.sequence, rows.begin,           column,
        memory,        memory + rows.length, p.center - memory - rows.first - (kRows - 1)};
    const Shared<T> tiles = SharedArray<&Layout::tiles>();
    const Shared<int> place = SharedArray<&Layout::place>();
    if (ThreadIndex() == 0) {
      Store(place, (rows.begin + rows.first) * p.width + column);
      Store(place + 1, rows.rows);
    }
    CopyTiles<1, kRows, kHeadSize, kThreads>(tiles + 2 * kTile,
                                             p.qkv + (int64_t{rows.begin + rows.first} * stride +
                                                      column + CopyOffset<kHeadSize>(stride)),
                                             stride, 0, rows.rows, p.head_size / 8);
    CopyStage(p, keys, 0, 0);
    CopyAsyncWait<0>();
    SyncThreads();

    const int warp_row = WarpIndex() * 16;
    const bool active = warp_row < rows.rows;
    Fragments content[1], position;
    LoadLeft<kHeadSize>(content[0], tiles + (2 * kTile + warp_row * kHeadSize));
    float segment_part[2];
    SegmentPart(segment_part, content[0], p, column);
    AddBias(position, content[0], p.position_bias + column, p.head_size);
    AddBias(content[0], content[0], p.content_bias + column, p.head_size);
    int row_types[2];
    SIMT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = Min(warp_row + LaneIndex() / 4 + 8 * half, rows.rows - 1);
      row_types[half] = Load(p.type_ids + (rows.begin + rows.first + row));
    }

    OnlineSoftmax<kHeadSize> softmax[1];
    for (int first = 0; first < keys.total; first += kKeys) {
      CopyAsyncWait<0>();
      SyncThreads();  // the stage is there, and nobody reads the other one any more
      const int valid_keys = keys.total - first;
      if (valid_keys > kKeys) CopyStage(p, keys, first + kKeys, kRows);
      if (!active) continue;  // only copies
      if (valid_keys >= kKeys) {
        AddTile<false>(softmax, content, position, row_types, segment_part, p.scale, first, kKeys);
      } else {
        AddTile<true>(softmax, content, position, row_types, segment_part, p.scale, first,
                      valid_keys);
      }
    }

    SyncThreads();  // nobody reads tiles any more
    if (!active) return;
    StoreRows<kHeadSize>(softmax[0], tiles + warp_row * kHeadSize, p.out,
                         Load(place) + warp_row * p.width, p.width, Load(place + 1) - warp_row,
                         p.head_size / 8);
  }
};

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
    CopyTypes(types, p, rows.begin, 0, memory, total, kKeys);
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
        CopyTypes(types, p, rows.begin, first + kKeys, memory, total, kKeys);
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
