#pragma once

// Relative attention on tensor cores (contract: relative_attention.h). As in packed attention a
// block has some query rows of a head and walks over the keys in tiles; keys are the memory's rows,
// then the sequence's own.
//
// The relative shift is a skewed read. For a group's rows r = 0 .. 15 and the columns of a tile of
// keys, positions[center + j - i] are the rows of a band: with R the table from the row that
// belongs to the last query row and the first key on, product[r][c] = (q_r + position_bias) R[c] is
// needed at c = column + 15 - r:
//
//   c        0 1 2 3 4 5 6 7 ...
//   row 0          0 1 2 3 4         the numbers: columns of keys
//   row 1        0 1 2 3 4
//   row 2      0 1 2 3 4
//   row 3    0 1 2 3 4
//
// The band never leaves registers. Of its accumulators (MmaC, 8 columns each) lane 4 g + t has rows
// g and g + 8, columns 2 t and 2 t + 1; a score wants the column 7 - g farther on, in this
// accumulator or the next one, and that of row g one more accumulator on. So the column's lane is
// among the four that share a row: two shuffles for two scores, one of even columns and one of odd.
// Through shared memory it was 40 passes written and 64 read for 16 x 64 scores; shuffles are 32.
//
// Of a tile's band the last columns are the next tile's first: they stay in registers, and as many
// columns are computed as there are keys. R's window moves by a tile's keys from tile to tile: it
// lies in a ring of rows, of which that many are copied for each.

#include "kernels/attention/row_tile.cuh"
#include "kernels/attention/tensor_tile.cuh"
#include "kernels/relative_attention/key_rows.cuh"
#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// One block: 16 kGroups query rows a warp of one head, on tensor cores. What a warp reads of keys,
// values and positions serves all of its groups.
//
//   copies    Q, R 0, K 0, V 0 | R 1, K 1, V 1               | ...
//   products                   | band 0, Q K 0^T + band, P V 0 | ...      one barrier a tile
//
// Q goes into registers by way of the second stage and the rows that follow it, which are the
// ring's: the first window begins behind them.
template <typename T, int kHeadSize, int kWarps, int kGroups>
struct TensorRelativeAttentionKernel {
  static constexpr const char* kName = "relative_attention";
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kWarpRows = 16 * kGroups, kRows = kWarpRows * kWarps, kKeys = 32;
  static constexpr int kTile = kKeys * kHeadSize;
  static constexpr int kRing = 4 * kTile;               // where the ring lies among the rows
  static constexpr int kRingStart = kRows - 2 * kKeys;  // its row of the first window's first
  static constexpr int kRingRows = kRows <= 64 ? 128 : 256;
  static constexpr int kBandTiles = 2 * kGroups + kKeys / 8;  // accumulators of a group
  static constexpr int kMinBlocks = kHeadSize == 128 ? 2
                                    : kGroups == 2   ? 2
                                                     : (kHeadSize == 32 ? 4 : 3);
  static_assert(kRingStart >= 0 && kRingStart + kRows + kKeys <= kRingRows);
  static_assert(kRows + 2 * kKeys <= kRingRows && kKeys == 32);

  using Params = RelativeOperands<T>;
  struct Layout {
    // Two stages of keys and values, then the ring of positions.
    alignas(128) T rows[kRing + kRingRows * kHeadSize];
    alignas(16) int32_t types[2][kKeys];
    int place[3];  // of the rows in `out`, their number, their sequence: saves registers
  };
  static_assert(sizeof(Layout) <= 99 * 1024, "what every architecture has");

  using Fragments = MmaA[kHeadSize / 16];

  // What a block's copies need to know.
  struct Keys {
    int own, column;     // the batch's row that would be key 0 if the memory's rows were there
    int memory, total;   // keys of the memory; all keys
    int first_position;  // of the window of the first tile, in the table
  };

  // A warp's rows. Accumulators of the bands are those of all groups: the last group's columns
  // begin at the first one, and each group's before it 16 columns farther on.
  struct WarpRows {
    Fragments content[kGroups], position[kGroups];  // queries with their biases
    MmaC band[kGroups][kBandTiles];
    int types[kGroups][2];           // of rows g and g + 8 of each group
    float segment_part[kGroups][2];  // what a key of another segment adds to their scores
    OnlineSoftmax<kHeadSize> softmax[kGroups];
  };

  // Whence a lane's scores get their columns of a band.
  struct Skew {
    int even_lane, odd_lane;  // with the even and the odd columns
    // As a source: whether the lane that asks wants this lane's columns of the next accumulator.
    bool even_from_next, odd_from_next;
    bool odd_first;  // the first of two scores has an odd column
  };
  SIMT_FN static Skew MakeSkew() {
    const int lane = LaneIndex(), t = lane % 4, shift = 7 - lane / 4;
    const int odd = shift / 2, even = odd + shift % 2;  // lanes farther on
    return {lane - t + (t + even) % 4, lane - t + (t + odd) % 4, t < even, t < odd, shift % 2 == 1};
  }

  // Starts the copies of tile `first` / kKeys: its keys, values and types, and the rows of the
  // table from `first_row` of its window to the end.
  SIMT_FN static void CopyStage(const Params& p, const Keys& keys, int first, int first_row) {
    const int stage = first / kKeys % 2, valid = keys.total - first;
    const Shared<T> tile = SharedArray<&Layout::rows>() + stage * 2 * kTile;
    const int chunks = p.head_size / 8, stride = 3 * p.width;
    if (first >= keys.memory) {
      CopyTiles<2, kKeys, kHeadSize, kThreads>(
          tile,
          p.qkv + (int64_t{keys.own + first} * stride + p.width + keys.column +
                   CopyOffset<kHeadSize>(stride)),
          stride, p.width, valid, chunks);
    } else {
      CopyMemoryTiles(p, keys, tile, first);
    }
    CopyPositions(p, keys, first, first_row);
    CopyTypes(SharedArray<&Layout::types>() + stage * kKeys, p, keys.own, first, keys.memory,
              keys.total, kKeys);
    CopyAsyncCommit();
  }

  // A tile of which some rows are the memory's, some perhaps the sequence's own.
  SIMT_FN static void CopyMemoryTiles(const Params& p, const Keys& keys, Shared<T> tile,
                                      int first) {
    constexpr int kChunks = kHeadSize / 8, kRowsAtOnce = kThreads / kChunks;
    const int sequence = Load(SharedArray<&Layout::place>() + 2);
    const MemoryRows<T> memory = LoadMemoryRows(p, sequence, keys.column);
    const int chunk = ThreadIndex() % kChunks;
    SIMT_UNROLL
    for (int i = 0; i < kKeys; i += kRowsAtOnce) {
      const int row = i + ThreadIndex() / kChunks, key = first + row;
      const int bytes = key < keys.total && chunk < p.head_size / 8 ? 16 : 0;
      const Global<const T> from =
          p.qkv + (int64_t{keys.own + key} * 3 * p.width + p.width + keys.column + chunk * 8);
      const int64_t offset = memory.Offset(key) + chunk * 8;
      const bool is_own = key >= keys.memory;
      const int at = ChunkOffset<kHeadSize>(row, chunk);
      CopyAsync<16>(tile + at, is_own ? from : memory.keys + offset, bytes);
      CopyAsync<16>(tile + (kTile + at), is_own ? from + p.width : memory.values + offset, bytes);
    }
  }

  // Tile `first` / kKeys's window is rows `first`, `first` + 1, ... of the table, counted from the
  // first tile's.
  SIMT_FN static int RingRow(int window_row) { return (kRingStart + window_row) % kRingRows; }
  SIMT_FN static void CopyPositions(const Params& p, const Keys& keys, int first, int first_row) {
    constexpr int kChunks = kHeadSize / 8, kRowsAtOnce = kThreads / kChunks;
    const Shared<T> ring = SharedArray<&Layout::rows>() + kRing;
    const PositionRows<T> rows = {p.positions + keys.column, keys.first_position,
                                  p.num_positions - 1, p.width};
    const int chunk = ThreadIndex() % kChunks;
    const int bytes = chunk < p.head_size / 8 ? 16 : 0;
    SIMT_UNROLL_BY(2)
    for (int i = first_row; i < kRows + kKeys; i += kRowsAtOnce) {
      const int row = first + i + ThreadIndex() / kChunks;
      CopyAsync<16>(ring + ChunkOffset<kHeadSize>(RingRow(row), chunk),
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

  // 16 rows of the window that begins at row `window` of the ring's: the groups' products with them
  // are accumulators 2 kChunk and 2 kChunk + 1 of their bands.
  template <int kChunk>
  SIMT_FN static void ComputeBand(WarpRows& rows, int window) {
    const int row = RingRow(window + kRows - (WarpIndex() + 1) * kWarpRows + kChunk * 16);
    const Shared<T> ring = SharedArray<&Layout::rows>() + kRing;
    const int offset = row * kHeadSize + TransposedOffset<kHeadSize>();
    SIMT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      rows.band[group][2 * kChunk] = rows.band[group][2 * kChunk + 1] = {};
    }
    SIMT_UNROLL
    for (int k = 0; k < kHeadSize / 16; ++k) {
      uint32_t r[4];
      LoadMatrix(r, ring + (offset ^ (k * 16)));
      SIMT_UNROLL
      for (int group = 0; group < kGroups; ++group) {
        // Nobody wants the first groups' first columns.
        if (kChunk + group + 1 < kGroups) continue;
        Mma<T>(rows.band[group][2 * kChunk], rows.position[group][k], {{r[0], r[1]}});
        Mma<T>(rows.band[group][2 * kChunk + 1], rows.position[group][k], {{r[2], r[3]}});
      }
    }
  }

  // By value: a choice between places in memory would keep the accumulators out of registers.
  SIMT_FN static float Either(bool condition, float yes, float no) { return condition ? yes : no; }

  // What scores begin with: the part of the distance, from the bands' diagonals.
  SIMT_FN static void BeginScores(MmaC (&scores)[kGroups][kKeys / 8], const WarpRows& rows,
                                  const Skew& skew) {
    SIMT_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {
      SIMT_UNROLL
      for (int group = 0; group < kGroups; ++group) {
        SIMT_UNROLL
        for (int i = 0; i < 4; i += 2) {  // of rows g, then g + 8
          const int at = 2 * (kGroups - 1 - group) + n + 1 - i / 2;
          const float even =
              Either(skew.even_from_next, rows.band[group][at + 1].v[i], rows.band[group][at].v[i]);
          const float odd = Either(skew.odd_from_next, rows.band[group][at + 1].v[i + 1],
                                   rows.band[group][at].v[i + 1]);
          const float of_even = Shuffle(even, skew.even_lane);
          const float of_odd = Shuffle(odd, skew.odd_lane);
          scores[group][n].v[i] = Either(skew.odd_first, of_odd, of_even);
          scores[group][n].v[i + 1] = Either(skew.odd_first, of_even, of_odd);
        }
      }
    }
  }

  // Adds the segments' part. Where a tile's keys are of one segment, as nearly all are, it is the
  // same for all scores of a row: `offsets` then, which the softmax adds for nothing.
  SIMT_FN static void AddSegments(MmaC (&scores)[kGroups][kKeys / 8], float (&offsets)[kGroups][2],
                                  const WarpRows& rows, Shared<int32_t> types, int valid_keys) {
    const int lane = LaneIndex(), first_type = Load(types);
    const int type = lane < valid_keys ? Load(types + lane) : first_type;
    const bool alike = WarpAll(type == first_type);
    SIMT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      SIMT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const bool other = alike && first_type != rows.types[group][half];
        offsets[group][half] = other ? rows.segment_part[group][half] : 0;
      }
    }
    if (alike) return;
    SIMT_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {
      const auto key_types = LoadVector<2>(types + (n * 8 + lane % 4 * 2));
      SIMT_UNROLL
      for (int group = 0; group < kGroups; ++group) {
        SIMT_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (key_types[i % 2] == rows.types[group][i / 2]) continue;
          scores[group][n].v[i] += rows.segment_part[group][i / 2];
        }
      }
    }
  }

  // Tile `first` / kKeys.
  template <bool kPartial>
  SIMT_FN static void AddTile(WarpRows& rows, const Skew& skew, float scale, int first,
                              int valid_keys) {
    const Shared<T> tiles = SharedArray<&Layout::rows>();
    const int stage = first / kKeys % 2;
    ComputeBand<kGroups>(rows, first);
    if (!kPartial || valid_keys > 17) ComputeBand<kGroups + 1>(rows, first);
    MmaC scores[kGroups][kKeys / 8];
    BeginScores(scores, rows, skew);
    float offsets[kGroups][2];
    AddSegments(scores, offsets, rows, SharedArray<&Layout::types>() + stage * kKeys, valid_keys);
    AddScores<kKeys, kHeadSize, kPartial>(scores, rows.content, tiles, stage * 2 * kTile,
                                          valid_keys);
    SIMT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      if (kPartial) MaskScores<kKeys>(scores[group], valid_keys);
      SIMT_UNROLL
      for (int i = 0; i < 2 * kGroups; ++i) {  // the next tile's first columns
        rows.band[group][i] = rows.band[group][i + kKeys / 8];
      }
    }
    UpdateSoftmax<kKeys, true>(rows.softmax, scores, scale, offsets);
    AddValues<kKeys, kHeadSize, kPartial>(rows.softmax, scores, tiles, stage * 2 * kTile + kTile,
                                          valid_keys);
  }

  // Makes a warp's rows ready for the first tile. The tile's index of the batch is `first_row`.
  SIMT_FN static void LoadRows(WarpRows& rows, const Params& p, int column, int first_row,
                               int num_rows) {
    const int warp_row = WarpIndex() * kWarpRows;
    SIMT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      Fragments& content = rows.content[group];
      const int row = warp_row + 16 * group;
      LoadLeft<kHeadSize>(content, SharedArray<&Layout::rows>() + (2 * kTile + row * kHeadSize));
      SegmentPart(rows.segment_part[group], content, p, column);
      AddBias(rows.position[group], content, p.position_bias + column, p.head_size);
      AddBias(content, content, p.content_bias + column, p.head_size);
      SIMT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int own = Min(row + LaneIndex() / 4 + 8 * half, num_rows - 1);
        rows.types[group][half] = Load(p.type_ids + (first_row + own));
      }
      SIMT_UNROLL
      for (int i = 0; i < kBandTiles; ++i) rows.band[group][i] = {};
    }
    ComputeBand<0>(rows, 0);
    if constexpr (kGroups == 2) ComputeBand<1>(rows, 0);
  }

  SIMT_FN static void Run(const Params& p) {
    const int column = BlockIndex() % p.heads * p.head_size;
    const RowTile tile = FindRowTile(p.cu_seqlens, p.sequences, BlockIndex() / p.heads, kRows);
    if (tile.rows <= 0) return;
    const int memory = MemorySize(p, tile.sequence), stride = 3 * p.width;
    const int first_row = tile.begin + tile.first;
    const Keys keys = {tile.begin - memory, column, memory, memory + tile.length,
                       p.center - memory - tile.first - (kRows - 1)};
    const Shared<T> tiles = SharedArray<&Layout::rows>();
    const Shared<int> place = SharedArray<&Layout::place>();
    if (ThreadIndex() == 0) {
      Store(place, first_row * p.width + column);
      Store(place + 1, tile.rows);
      Store(place + 2, tile.sequence);
    }
    if (memory > 0) SyncThreads();  // the first tile's copies want the sequence
    CopyTiles<1, kRows, kHeadSize, kThreads>(
        tiles + 2 * kTile,
        p.qkv + (int64_t{first_row} * stride + column + CopyOffset<kHeadSize>(stride)), stride, 0,
        tile.rows, p.head_size / 8);
    CopyStage(p, keys, 0, 0);
    CopyAsyncWait<0>();
    SyncThreads();

    const int warp_row = WarpIndex() * kWarpRows;
    const bool active = warp_row < tile.rows;
    const Skew skew = MakeSkew();
    WarpRows rows;
    if (active) LoadRows(rows, p, column, first_row, tile.rows);
    for (int first = 0; first < keys.total; first += kKeys) {
      CopyAsyncWait<0>();
      SyncThreads();  // the stage is there, and nobody reads the other one any more
      const int valid_keys = keys.total - first;
      if (valid_keys > kKeys) CopyStage(p, keys, first + kKeys, kRows);
      if (!active) continue;  // only copies
      if (valid_keys >= kKeys) {
        AddTile<false>(rows, skew, p.scale, first, kKeys);
      } else {
        AddTile<true>(rows, skew, p.scale, first, valid_keys);
      }
    }

    SyncThreads();  // nobody reads tiles any more
    if (!active) return;
    SIMT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      const int row = warp_row + 16 * group;
      StoreRows<kHeadSize>(rows.softmax[group], tiles + row * kHeadSize, p.out,
                           Load(place) + row * p.width, p.width, Load(place + 1) - row,
                           p.head_size / 8);
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
