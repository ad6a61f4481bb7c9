#pragma once

// The body of hopper_attention.h. A block per multiprocessor; its warpgroups have parts of their
// own:
//
//   0     warp 0 shares the batch out and loads: queries into stages, keys and values into a ring
//   of
//         slots; warp 1 clears the rows of values beyond a sequence's end, which are its
//         neighbour's
//   1, 2  attend: 64 rows of a tile of 128 queries each, all in registers
//
// Work. A tile is 128 queries of one sequence and head. Tiles follow one another by sequence, head
// and rows; a tile costs a unit for every 64 keys, and two; and block b of B takes those that begin
// in the b-th part of all units. So blocks have equal work whatever the
// lengths, by cu_seqlens alone, and one head's tiles are neighbours: while keys and values of a
// sequence fit in the ring they stay there for all of its tiles.
//
// Slots are filled, and read, in the order K0 K1 V0 K2 V1 .. V(n-1). A warpgroup's products and
// softmax overlap in the order
//
//   tensor cores   | Q K1   P0 V0 | Q K2   P1 V1 | ..
//   softmax          S0 -> P0     | S1 -> P1     | ..      S1 is there when P0 V0 has begun
//
// and those of the two warpgroups as they happen to fall. A last tile of up to 64 keys takes half
// of the work, and a warpgroup without rows none.

#include "kernels/attention/attention_output.cuh"
#include "kernels/attention/hopper_tile.cuh"
#include "kernels/attention/tensor_tile.cuh"
#include "kernels/gemm/transpose_quad.cuh"
#include "kernels/simt/hopper.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// Heads of up to kColumns (64 or 128) values; tile loads make the others zero.
template <typename T, int kColumns>
struct HopperAttentionKernel {
  static constexpr const char* kName = "hopper_attention";
  static constexpr int kThreads = 384;
  static constexpr bool kWaitsItself = true;
  static constexpr int kRows = kHopperAttentionRows, kKeys = kRows;
  static constexpr int kPlane = kRows * kTileColumns, kTile = kRows * kColumns;
  static constexpr int kTileBytes = kTile * 2;
  // 32 KiB and 128, or 32 and 192. Half of the slots are keys: 512, or 384.
  static constexpr int kStages = kColumns == 64 ? 2 : 1, kSlots = kColumns == 64 ? 8 : 6;
  static constexpr int kAttendingWarps = 8;
  // The slot that a mail names was filled last after the one of kSlots / 2 mails before, at the
  // earliest; so when it's empty that mail has been read. The last mail names none: one more.
  static constexpr int kMails = kSlots / 2 + 1;
  // Of 65536: 128 x 40 + 256 x 232 = 64512.
  static constexpr int kLoaderRegisters = 40, kAttendingRegisters = 232;

  struct Params {
    TileMap qkv;                       // [tokens, 3 * heads, head_size] in boxes of kRows rows
    Global<const int32_t> cu_seqlens;  // [sequences + 1]
    AttentionOutput<T> out;
    int sequences, heads, head_size;
    int width;    // heads * head_size
    float scale;  // times log2(e)
  };
  struct Layout {
    alignas(1024) T queries[kStages][kTile];
    alignas(1024) T slots[kSlots][kTile];
    // A QueryTile for each warp that attends: each reads its own.
    alignas(16) int tiles[kStages][kAttendingWarps][4];
    alignas(8) int mails[kMails][2];
    PhaseBarrier query_full[kStages], query_empty[kStages], full[kSlots], empty[kSlots];
    PhaseBarrier loaded[kMails];  // of values whose last rows are to be cleared
  };
  static_assert(sizeof(Layout) <= 227 * 1024, "what a block may have");

  // What a tile's queries bring with them.
  struct QueryTile {
    int offset;  // of its first row in `out`
    int rows;    // valid ones; 0: there are no more tiles
    int keys;    // of the sequence
    bool again;  // keys and values stay for the next tile
  };
  // A place in a ring of `kCount`; what lies there has been there `parity` (modulo 2) times before.
  template <int kCount>
  struct Place {
    int index = 0, parity = 0;
    SIMT_FN void Next() {
      if (++index == kCount) index = 0, parity ^= 1;
    }
  };
  using Slot = Place<kSlots>;
  using Stage = Place<kStages>;
  using Mail = Place<kMails>;

  template <auto kMember>
  SIMT_FN static Shared<PhaseBarrier> Barrier(int index) {
    return SharedArray<kMember>() + index;
  }
  SIMT_FN static Shared<T> SlotTile(int index) {
    return SharedArray<&Layout::slots>() + index * kTile;
  }

  // ---- Sharing out ----

  struct Sequence {
    int index, begin, length;
    int tiles;  // of rows, and of keys
    // Of a tile of rows, in units of 64 keys: its queries' way and the results' take about two.
    SIMT_FN int TileCost() const { return DivideUp(length, 64) + 2; }
  };
  SIMT_FN static Sequence SequenceAt(const Params& p, int index) {
    const int begin = Load(p.cu_seqlens + index);
    const int length = Load(p.cu_seqlens + (index + 1)) - begin;
    return {index, begin, length, DivideUp(length, kRows)};
  }
  // The block's tiles: from the `first`-th of a sequence's on, `cost` units at least.
  struct Share {
    int sequence, first;
    int cost;
  };
  // Finds the sequence in which unit `b / B` of all lies: a warp looks at 32 runs of sequences at a
  // time, and sums up their costs.
  SIMT_FN static Share FindShare(const Params& p) {
    int low = 0, high = p.sequences;  // it is in [low, high)
    int before = 0, target = 0, end = 0;
    bool first_look = true;
    do {
      const int step = DivideUp(high - low, 32), first = low + LaneIndex() * step;
      int cost = 0;
      for (int i = first; i < Min(first + step, high); ++i) {
        const Sequence sequence = SequenceAt(p, i);
        cost += p.heads * sequence.tiles * sequence.TileCost();
      }
      int through = cost;
      SIMT_UNROLL
      for (int delta = 1; delta < 32; delta *= 2) {
        const int other = ShuffleUp(through, delta);
        if (LaneIndex() >= delta) through += other;
      }
      if (first_look) {
        const int64_t total = Shuffle(through, 31);
        target = static_cast<int>(total * BlockIndex() / NumBlocks());
        end = static_cast<int>(total * (BlockIndex() + 1) / NumBlocks());
        first_look = false;
      }
      const int lane = WarpSum(before + through <= target ? 1 : 0);  // the first beyond it
      if (lane == 32) return {0, 0, 0};
      before += Shuffle(through - cost, lane);
      low += lane * step;
      high = Min(low + step, high);
    } while (high - low > 1);
    const int tile_cost = SequenceAt(p, low).TileCost();
    const int first = DivideUp(target - before, tile_cost);
    return {low, first, end - before - first * tile_cost};
  }

  // ---- Loading ----

  struct Loader {
    Slot slot;
    Stage stage;
    Mail mail;
  };
  SIMT_FN static void LoadBoxes(const Params& p, Shared<T> to, Shared<PhaseBarrier> barrier,
                                int plane, int row) {
    SIMT_UNROLL
    for (int i = 0; i < kColumns / kTileColumns; ++i) {
      LoadTile(to + i * kPlane, p.qkv, barrier, i * kTileColumns, plane, row);
    }
  }
  SIMT_FN static void StartSlot(const Params& p, Loader& loader, int plane, int row) {
    const int index = loader.slot.index;
    WaitForPhase(Barrier<&Layout::empty>(index), loader.slot.parity ^ 1);
    ArriveExpecting(Barrier<&Layout::full>(index), kTileBytes);
    LoadBoxes(p, SlotTile(index), Barrier<&Layout::full>(index), plane, row);
    loader.slot.Next();
  }
  // Values of which `valid` rows are the sequence's.
  SIMT_FN static void StartLastValues(const Params& p, Loader& loader, int plane, int row,
                                      int valid) {
    if (valid % (kKeys / 2) == 0) return StartSlot(p, loader, plane, row);
    const int index = loader.slot.index, mail = loader.mail.index;
    WaitForPhase(Barrier<&Layout::empty>(index), loader.slot.parity ^ 1);
    PostMail(loader, index, valid);
    ArriveExpecting(Barrier<&Layout::loaded>(mail), kTileBytes);
    LoadBoxes(p, SlotTile(index), Barrier<&Layout::loaded>(mail), plane, row);
    loader.slot.Next();
  }
  SIMT_FN static void PostMail(Loader& loader, int index, int valid) {
    const int mail = loader.mail.index;
    if (LaneIndex() == 0) {
      StoreVector(SharedArray<&Layout::mails>() + 2 * mail, Vector<int, 2>{{index, valid}});
    }
    loader.mail.Next();
  }
  SIMT_FN static void StartKeysAndValues(const Params& p, Loader& loader, const Sequence& sequence,
                                         int head) {
    const int keys = p.heads + head, values = 2 * p.heads + head;
    const int last = (sequence.tiles - 1) * kKeys;
    StartSlot(p, loader, keys, sequence.begin);
    for (int row = kKeys; row <= last; row += kKeys) {
      StartSlot(p, loader, keys, sequence.begin + row);
      StartSlot(p, loader, values, sequence.begin + row - kKeys);
    }
    StartLastValues(p, loader, values, sequence.begin + last, sequence.length - last);
  }
  SIMT_FN static void PostTile(const Loader& loader, const QueryTile& tile) {
    const int stage = loader.stage.index;
    WaitForPhase(Barrier<&Layout::query_empty>(stage), loader.stage.parity ^ 1);
    if (LaneIndex() < kAttendingWarps) {
      StoreVector(SharedArray<&Layout::tiles>() + (stage * kAttendingWarps + LaneIndex()) * 4,
                  Vector<int, 4>{{tile.offset, tile.rows, tile.keys, tile.again ? 1 : 0}});
    }
  }

  SIMT_FN static void LoadShare(const Params& p) {
    const Share share = FindShare(p);
    Sequence sequence = SequenceAt(p, share.sequence);
    Loader loader;
    bool again = false;
    for (int tile = share.first, left = share.cost; left > 0; ++tile) {
      while (tile == p.heads * sequence.tiles) {
        sequence = SequenceAt(p, sequence.index + 1);
        tile = 0;
      }
      left -= sequence.TileCost();
      const int head = tile / sequence.tiles, first = tile % sequence.tiles * kRows;
      const int row = sequence.begin + first, rows = Min(kRows, sequence.length - first);
      const bool stay = left > 0 && first + kRows < sequence.length && 2 * sequence.tiles <= kSlots;
      PostTile(loader, {row * p.width + head * p.head_size, rows, sequence.length, stay});
      const int stage = loader.stage.index;
      ArriveExpecting(Barrier<&Layout::query_full>(stage), kTileBytes);
      LoadBoxes(p, SharedArray<&Layout::queries>() + stage * kTile,
                Barrier<&Layout::query_full>(stage), head, row);
      loader.stage.Next();
      if (!again) StartKeysAndValues(p, loader, sequence, head);
      again = stay;
    }
    PostTile(loader, {0, 0, 0, false});
    ArriveAtBarrier(Barrier<&Layout::query_full>(loader.stage.index));
    const int mail = loader.mail.index;
    PostMail(loader, 0, 0);
    ArriveAtBarrier(Barrier<&Layout::loaded>(mail));
  }

  // Rows beyond the sequence get no weight, but they may be infinite, or NaN.
  SIMT_FN static void ClearRows() {
    for (Mail mail;; mail.Next()) {
      WaitForPhase(Barrier<&Layout::loaded>(mail.index), mail.parity);
      const auto words = LoadVector<2>(SharedArray<&Layout::mails>() + 2 * mail.index);
      const int index = words[0], valid = words[1];
      if (valid == 0) return;
      const int end = RoundUp(valid, kKeys / 2);  // beyond it nobody reads
      const Shared<uint32_t> tile = Cast<uint32_t>(SlotTile(index));
      SIMT_UNROLL
      for (int i = 0; i < kColumns / kTileColumns; ++i) {
        for (int word = valid * 32 + LaneIndex() * 4; word < end * 32; word += 128) {
          StoreVector(tile + (i * kPlane / 2 + word), Vector<uint32_t, 4>{});
        }
      }
      FenceAsync();
      ArriveAtBarrier(Barrier<&Layout::full>(index));
    }
  }

  // ---- Attending ----

  // Of a tile, or of the first half of the last.
  template <int kWidth>
  using Scores = WgmmaC<kWidth>;
  // Of rows g = lane / 4 and g + 8 of the warp's 16: the largest score in units of log2, this
  // lane's part of the sum of weights, the weighted sum of values; the weights of a tile of keys as
  // A.
  struct Softmax {
    float max[2] = {kMasked, kMasked}, sum[2] = {0, 0};
    WgmmaC<kColumns> values;
    uint32_t weights[kKeys / 16][4];
  };

  template <int kWidth>
  SIMT_FN static void StartScores(Scores<kWidth>& scores, int stage, int slot) {
    const int rows = (WarpIndex() / 4 - 1) * 64 * kTileColumns;
    const Shared<T> queries = SharedArray<&Layout::queries>() + (stage * kTile + rows);
    WgmmaFence();
    SIMT_UNROLL
    for (int k = 0; k < kColumns; k += 16) {
      const int plane = k / kTileColumns * kPlane, column = k % kTileColumns;
      Wgmma<T>(scores, MakeOperand(queries + plane).AtK(column),
               MakeOperand(SlotTile(slot) + plane).AtK(column), k > 0);
    }
    WgmmaCommit();
  }
  template <int kWidth>
  SIMT_FN static void StartValues(Softmax& softmax, int slot, bool accumulate) {
    const WgmmaRows values = MakeRowsOperand(SlotTile(slot), kKeys);
    WgmmaFence();
    SIMT_UNROLL
    for (int k = 0; k < kWidth / 16; ++k) {
      Wgmma<T>(softmax.values, softmax.weights[k], values.AtRow(16 * k), accumulate || k > 0);
    }
    WgmmaCommit();
  }

  template <int kWidth>
  SIMT_FN static void Mask(Scores<kWidth>& scores, int valid) {
    SIMT_UNROLL
    for (int i = 0; i < kWidth / 2; ++i) {
      if (i / 4 * 8 + LaneIndex() % 4 * 2 + i % 2 >= valid) scores.v[i] = kMasked;
    }
  }
  // Turns scores into weights 2^(score * scale - max). `correction`: what makes of sums with the
  // old maximum those with the new.
  template <int kWidth>
  SIMT_FN static void Weigh(Softmax& softmax, Scores<kWidth>& scores, float scale,
                            float (&correction)[2]) {
    SIMT_UNROLL
    for (int half = 0; half < 2; ++half) {
      float max = scores.v[2 * half];
      SIMT_UNROLL
      for (int i = 2 * half; i < kWidth / 2; i += 4) {
        max = Max(max, Max(scores.v[i], scores.v[i + 1]));
      }
      max = Max(softmax.max[half], WarpMax<4>(max) * scale);
      correction[half] = Exp2(softmax.max[half] - max);
      softmax.max[half] = max;
      float sum = 0;
      SIMT_UNROLL
      for (int i = 2 * half; i < kWidth / 2; i += 4) {
        scores.v[i] = Exp2(Fma(scores.v[i], scale, -max));
        scores.v[i + 1] = Exp2(Fma(scores.v[i + 1], scale, -max));
        sum += scores.v[i] + scores.v[i + 1];
      }
      softmax.sum[half] = Fma(softmax.sum[half], correction[half], sum);
    }
  }
  template <int kWidth>
  SIMT_FN static void PackWeights(Softmax& softmax, const Scores<kWidth>& scores) {
    SIMT_UNROLL
    for (int i = 0; i < kWidth / 4; ++i) {
      softmax.weights[i / 4][i % 4] = Pack<T>(scores.v[2 * i], scores.v[2 * i + 1]);
    }
  }
  SIMT_FN static void Rescale(Softmax& softmax, const float (&correction)[2]) {
    SIMT_UNROLL
    for (int i = 0; i < kColumns / 2; ++i) softmax.values.v[i] *= correction[i / 2 % 2];
  }

  SIMT_FN static void WaitForSlot(const Slot& slot) {
    WaitForPhase(Barrier<&Layout::full>(slot.index), slot.parity);
  }
  SIMT_FN static void Release(int slot, bool again) {
    if (!again) ArriveAtBarrier(Barrier<&Layout::empty>(slot));
  }

  // The weights of the first kWidth keys in softmax.weights.
  template <int kWidth>
  SIMT_FN static void BeginKeys(const Params& p, Softmax& softmax, const QueryTile& tile, int stage,
                                Slot& slot) {
    Scores<kWidth> scores;
    float correction[2];
    WaitForSlot(slot);
    StartScores<kWidth>(scores, stage, slot.index);
    WgmmaWait<0>(scores);
    Release(slot.index, tile.again);
    slot.Next();
    if (tile.keys < kWidth) Mask<kWidth>(scores, tile.keys);
    Weigh<kWidth>(softmax, scores, p.scale, correction);
    PackWeights<kWidth>(softmax, scores);
  }
  // The next ones' instead, when the values of the 128 keys before have been added.
  template <int kWidth>
  SIMT_FN static void NextKeys(const Params& p, Softmax& softmax, const QueryTile& tile, int stage,
                               Slot& slot, int valid, bool accumulate) {
    Scores<kWidth> scores;
    float correction[2];
    const int keys = slot.index;
    WaitForSlot(slot);
    StartScores<kWidth>(scores, stage, keys);
    slot.Next();
    WaitForSlot(slot);
    StartValues<kKeys>(softmax, slot.index, accumulate);
    WgmmaWait<1>(scores);
    if (valid < kWidth) Mask<kWidth>(scores, valid);
    Weigh<kWidth>(softmax, scores, p.scale, correction);
    // Here and not at once: its branch keeps ptxas from putting half of the exponentials behind the
    // wait for the values.
    Release(keys, tile.again);
    WgmmaWait<0>(softmax.values);
    Release(slot.index, tile.again);
    slot.Next();
    Rescale(softmax, correction);
    PackWeights<kWidth>(softmax, scores);
  }
  template <int kWidth>
  SIMT_FN static void EndKeys(Softmax& softmax, const QueryTile& tile, Slot& slot) {
    WaitForSlot(slot);
    StartValues<kWidth>(softmax, slot.index, tile.keys > kKeys);
    WgmmaWait<0>(softmax.values);
    Release(slot.index, tile.again);
    slot.Next();
  }
  // All keys of the tile's sequence, from `slot` on.
  SIMT_FN static void AddKeys(const Params& p, Softmax& softmax, const QueryTile& tile, int stage,
                              Slot& slot) {
    int valid = tile.keys;
    if (valid <= kKeys / 2) {
      BeginKeys<kKeys / 2>(p, softmax, tile, stage, slot);
    } else {
      BeginKeys<kKeys>(p, softmax, tile, stage, slot);
      for (valid -= kKeys; valid > kKeys / 2; valid -= kKeys) {
        NextKeys<kKeys>(p, softmax, tile, stage, slot, valid, valid + kKeys < tile.keys);
      }
      if (valid > 0) {
        NextKeys<kKeys / 2>(p, softmax, tile, stage, slot, valid, valid + kKeys < tile.keys);
      }
    }
    ArriveAtBarrier(Barrier<&Layout::query_empty>(stage));
    if (valid > 0) {
      EndKeys<kKeys / 2>(softmax, tile, slot);
    } else {
      EndKeys<kKeys>(softmax, tile, slot);
    }
  }
  // What AddKeys does for the ring, of a warpgroup without rows in the tile: a sequence's last.
  SIMT_FN static void SkipKeys(const QueryTile& tile, int stage, Slot& slot) {
    ArriveAtBarrier(Barrier<&Layout::query_empty>(stage));
    for (int i = 2 * DivideUp(tile.keys, kKeys); i > 0; --i, slot.Next()) {
      WaitForSlot(slot);
      Release(slot.index, tile.again);
    }
  }

  // Divides by the sums and writes the warp's rows: of four blocks of eight columns a lane has two
  // columns each, and writes one block. FP8 is rounded a second time, from T.
  SIMT_FN static void StoreRows(const Params& p, const Softmax& softmax, const QueryTile& tile) {
    SIMT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float factor = Reciprocal(WarpSum<4>(softmax.sum[half]));
      const int row = (WarpIndex() - 4) * 16 + LaneIndex() / 4 + 8 * half;
      SIMT_UNROLL
      for (int first = 0; first < kColumns; first += 32) {
        uint32_t words[4];
        SIMT_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int v = (first / 8 + i) * 4 + half * 2;
          words[i] = Pack<T>(softmax.values.v[v] * factor, softmax.values.v[v + 1] * factor);
        }
        TransposeQuad(words);
        const int column = first + LaneIndex() % 4 * 8;
        if (row >= tile.rows || column >= p.head_size) continue;
        const int at = tile.offset + row * p.width + column;
        const Vector<uint32_t, 4> vector = {{words[0], words[1], words[2], words[3]}};
        if (p.out.narrow) {
          p.out.StoreNarrow(at, ToFloat(BitCast<Vector<T, 8>>(vector)));
        } else {
          StoreVector(Cast<uint32_t>(p.out.values + at), vector);
        }
      }
    }
  }

  SIMT_FN static void Attend(const Params& p) {
    Slot slot, kept;  // kept: where the tile before found its keys
    Stage stage;
    bool again = false;
    for (;; stage.Next()) {
      WaitForPhase(Barrier<&Layout::query_full>(stage.index), stage.parity);
      const auto words = LoadVector<4>(SharedArray<&Layout::tiles>() +
                                       (stage.index * kAttendingWarps + WarpIndex() - 4) * 4);
      const QueryTile tile = {words[0], words[1], words[2], words[3] != 0};
      if (tile.rows == 0) return;
      if (again) slot = kept;
      kept = slot;
      again = tile.again;
      if (tile.rows <= 64 * (WarpIndex() / 4 - 1)) {
        SkipKeys(tile, stage.index, slot);
      } else {
        Softmax softmax;
        AddKeys(p, softmax, tile, stage.index, slot);
        StoreRows(p, softmax, tile);
      }
    }
  }

  SIMT_FN static void Run(const Params& p) {
    if (ThreadIndex() == 0) {
      SIMT_UNROLL
      for (int i = 0; i < kStages; ++i) {
        InitBarrier(Barrier<&Layout::query_full>(i), 1);
        InitBarrier(Barrier<&Layout::query_empty>(i), kAttendingWarps);
      }
      SIMT_UNROLL
      for (int i = 0; i < kSlots; ++i) {
        InitBarrier(Barrier<&Layout::full>(i), 1);
        InitBarrier(Barrier<&Layout::empty>(i), kAttendingWarps);
      }
      SIMT_UNROLL
      for (int i = 0; i < kMails; ++i) InitBarrier(Barrier<&Layout::loaded>(i), 1);
    }
    SyncThreads();
    if (WarpIndex() < 4) {
      ReleaseRegisters<kLoaderRegisters>();
      WaitForEarlierKernels();
      if (WarpIndex() == 0) LoadShare(p);
      if (WarpIndex() == 1) ClearRows();
    } else {
      ClaimRegisters<kAttendingRegisters>();
      WaitForEarlierKernels();
      Attend(p);
    }
  }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
