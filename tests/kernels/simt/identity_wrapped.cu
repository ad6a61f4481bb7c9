// Kernels over the vocabulary; identity_raw.cu has the same ones over raw pointers and CUDA's own
// names. identity_test.py compiles both and compares the machine code byte by byte.

#include "kernels/simt/simt.h"

using namespace bertrand::simt;

struct Tile {
  alignas(16) Half keys[2][64 * 64];
  float sums[4];
};

// y = a x + y, guarded.
struct AxpyParams {
  Global<const float> x;
  Global<float> y;
  float a;
  int count;
};
extern "C" __global__ void Axpy(const __grid_constant__ AxpyParams p) {
  const int i = BlockIndex() * NumThreads() + ThreadIndex();
  if (i < p.count) {
    const float x = Load(p.x + i), y = Load(p.y + i);
    Store(p.y + i, Fma(p.a, x, y));
  }
}

// A block's sum of each row: vector loads, conversions, shuffles, shared memory, barriers.
struct RowSumsParams {
  Global<const Half> x;
  Global<float> sums;
  int width;
};
extern "C" __global__ void RowSums(const __grid_constant__ RowSumsParams p) {
  const auto partial = SharedArray<&Tile::sums>();
  float sum = 0;
  for (int i = ThreadIndex(); i < p.width / 8; i += NumThreads()) {
    const Vector<float, 8> values =
        ToFloat(LoadVector<8>(p.x + int64_t{BlockIndex()} * p.width + 8 * i));
    SIMT_UNROLL
    for (int j = 0; j < 8; ++j) sum += values[j];
  }
  SIMT_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) sum += ShuffleXor(sum, mask);
  if (LaneIndex() == 0) Store(partial + WarpIndex(), sum);
  SyncThreads();
  if (ThreadIndex() == 0) {
    float total = 0;
    for (int w = 0; w < NumWarps(); ++w) total += Load(partial + w);
    Store(p.sums + BlockIndex(), total);
  }
}

// Two stages of asynchronous copies into shared memory.
struct StreamParams {
  Global<const Half> x;
  Global<Half> y;
  int tiles;
};
extern "C" __global__ void Stream(const __grid_constant__ StreamParams p) {
  const auto keys = SharedArray<&Tile::keys>();
  CopyAsync<16>(keys + 8 * ThreadIndex(), p.x + 8 * ThreadIndex());
  CopyAsyncCommit();
  for (int tile = 0; tile < p.tiles; ++tile) {
    const int next = tile + 1;
    CopyAsync<16>(keys + next % 2 * 4096 + 8 * ThreadIndex(), p.x + next * 4096 + 8 * ThreadIndex(),
                  next < p.tiles ? 16 : 0);
    CopyAsyncCommit();
    CopyAsyncWait<1>();
    SyncThreads();
    StoreVector<Cache::kStreaming>(p.y + tile * 4096 + 8 * ThreadIndex(),
                                   LoadVector<8>(keys + tile % 2 * 4096 + 8 * (ThreadIndex() ^ 1)));
    SyncThreads();
  }
}

// One warp's 16 x 8 products over 64: ldmatrix and mma.
struct ProductsParams {
  Global<const Half> a;
  Global<float> c;
};
extern "C" __global__ void Products(const __grid_constant__ ProductsParams p) {
  const auto tile = SharedArray<&Tile::keys>();
  for (int i = LaneIndex(); i < 512; i += 32) {
    StoreVector(tile + 8 * i, LoadVector<8, Cache::kReadOnly>(p.a + 8 * i));
  }
  SyncWarp();
  MmaC sum = {};
  SIMT_UNROLL
  for (int k = 0; k < 64; k += 16) {
    MmaA left;
    MmaB right;
    LoadMatrix(left.r, tile + 64 * (LaneIndex() % 16) + k + 8 * (LaneIndex() / 16));
    LoadMatrixTransposed(right.r, tile + 64 * (k + LaneIndex() % 16));
    Mma<Half>(sum, left, right);
  }
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) Store(p.c + 4 * LaneIndex() + i, sum.v[i]);
}

// Special functions and packed stores.
struct ActivateParams {
  Global<const float> x;
  Global<uint32_t> y;
};
extern "C" __global__ void Activate(const __grid_constant__ ActivateParams p) {
  const int i = BlockIndex() * NumThreads() + ThreadIndex();
  const Vector<float, 2> in = LoadVector<2>(p.x + 2 * i);
  Store(p.y + i, Pack<BFloat16>(Exp2(in[0]) * Rsqrt(in[1]), Max(Tanh(in[0]), Log2(in[1]))));
}

// Atomics and votes.
struct HistogramParams {
  Global<const int> x;
  Global<int> bins;
  Global<float> most;
};
extern "C" __global__ void Histogram(const __grid_constant__ HistogramParams p) {
  const int i = BlockIndex() * NumThreads() + ThreadIndex();
  const int value = Load(p.x + i);
  AtomicAdd(p.bins + value, 1);
  if (WarpAny(value > 100)) AtomicMax(p.most, static_cast<float>(value));
}
