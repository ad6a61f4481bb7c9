#pragma once

// What the emulator knows of Hopper's asynchronous work (kernels/simt/hopper.h): barriers with
// phases, tile loads, products in flight. State of the block that runs; included by the emulator's
// sources alone.
//
// Order. SyncThreads orders everything and WaitForPhase only what was released to the barrier, so
// ids (context.h) no longer suffice. Each warp has a clock: for every other warp the first of its
// ids that is *not* ordered before what this one does now. An arrival joins the warp's clock into
// the barrier's and puts the warp into a new group of ids; the end of a phase hands the sum to
// those who wait. Tile loads are written by the barrier that they come to: it counts as one more
// warp, whose ids are made when the data lands.
//
// Tile loads read their source and claim their destination when they are issued, and land when
// somebody has waited for their phase. Products read (for the checks) when they are issued, are
// done at WgmmaWait, and until then nobody may write what they read.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/simt/host/checks.h"
#include "kernels/simt/host/context.h"

namespace bertrand::simt::emulator {

inline constexpr int kMaxBarriers = 32;
// A reader's id that says: the readers of this place are in AtomReads.
inline constexpr uint32_t kAsyncReaders = kAtomic - 1;
// Readers of tiles are kept for each so many bytes: eight rows, the swizzle's period.
inline constexpr size_t kAtomBytes = 1024;

// Counts `first ids not ordered before`, for each warp and barrier of the block.
struct Clock {
  uint32_t before[32 + kMaxBarriers] = {};
  void Join(const Clock& other) {
    for (int i = 0; i < 32 + kMaxBarriers; ++i) {
      if (other.before[i] > before[i]) before[i] = other.before[i];
    }
  }
};

struct TileLoad {
  char* to;
  uint32_t phase;
  std::vector<char> data;
};

struct Barrier {
  const char* address;
  int index;
  uint32_t init_id;
  int arrivals, missing;      // of a phase; of the present one
  int64_t missing_bytes = 0;  // promised and not come
  uint32_t phase = 0;         // how many are over
  Clock arriving, over;
  std::vector<TileLoad> loads;  // that have not landed
  uint32_t waiting_warps = 0;
  uint8_t waiting_lanes[32] = {};
};

// What a tile map is in the emulator. No planes: of two dimensions.
struct TileSource {
  const char* data;
  int rows, planes, columns, box_rows;
};
// Where a box begins; plane -1: of two dimensions.
struct TileCorner {
  int column = 0, plane = -1, row = 0;
  bool operator==(const TileCorner&) const = default;
};

// A product's operands, by their descriptors' bits.
struct ProductKey {
  uint64_t a, b;
  int columns;
  bool bfloat16, accumulate;
  bool registers_of_a;  // there is no descriptor of a
  bool rows_of_b;       // b is [k][columns] in memory
  Site site;
  bool operator==(const ProductKey&) const = default;
};

struct Product {
  uint32_t group;
  ProductKey key;
  float* accumulators;  // the first lane's
  // A in registers: where each lane has it, and what it was when the product began.
  const uint32_t* registers[32] = {};
  uint32_t a[32][4] = {};
};

// Of products in flight. The registers hold NaNs meanwhile, and the sums are here.
struct Accumulators {
  float* lanes[32];
  int columns;
  int in_flight = 0;
  std::vector<float> values;  // [16][columns], the warp's rows
};

struct WarpProducts {
  std::vector<Product> in_flight;  // in order
  std::vector<Accumulators> accumulators;
  uint32_t group = 0;  // the open one
  bool fenced = false;
  size_t count = 0;          // started in all
  uint32_t store_fence = 0;  // the warp's ids below are before a FenceAsync
};

// For the vocabulary. Collectives of a warp, but the first.
void InitBarrier(const char* address, int arrivals, const Site& site);
void Arrive(const char* address, int64_t bytes, const Site& site);
void WaitForPhase(const char* address, int parity, const Site& site);
void LoadTile(const char* to, const Bounds& to_bounds, const TileSource& source,
              const char* barrier, const TileCorner& corner, const Site& site);
void FenceAsync(const Site& site);
void ProductFence(const Site& site);
// `a`: the lane's four registers, or null.
void StartProduct(float* accumulators, const uint32_t* a, const ProductKey& key, const Site& site);
void CommitProducts(const Site& site);
void WaitForProducts(int in_flight, const Site& site);
void ReleaseRegisters(int count, const Site& site);
void ClaimRegisters(int count, const Site& site);

// For the scheduler: at a block's begin and end, a warp's end, and a deadlock (what the barrier
// that the warp waits for lacks, or "").
void ResetPhases();
void ResetProducts();
void CheckWarpEnd();
void CheckPhasesEnd();
void CheckProductsEnd();
void DescribeWait(int warp, char* text, size_t size);

// For the checks: violates unless all readers of the tiles around are ordered before what the
// running thread writes; the running thread's warp is one of them.
void CheckTileReaders(const Access& access);
void AddTileReader(const char* address);

// c[16][columns] += a b^T, k = 16; b has `columns` rows (mma.cc).
void MultiplyTiles(bool bfloat16, const uint16_t (&a)[16][16], const uint16_t (*b)[16], int columns,
                   float* c);

}  // namespace bertrand::simt::emulator
