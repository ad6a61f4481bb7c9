#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <numeric>

#include "kernels/simt/simt.h"
#include "tests/kernels/emulated_fixture.h"

namespace bertrand::simt {
namespace {

struct Params {
  Global<const float> x;
  Global<float> y;
  Global<int> counters;
  Global<const Half> a, b;
};

struct Base {
  static constexpr const char* kName = "vocabulary";
  static constexpr int kThreads = 64;
  using Params = simt::Params;
  struct Layout {
    alignas(16) Half a[16 * 16];
    alignas(16) Half b[16 * 16];
    alignas(16) float floats[256];
    float sums[2];
  };
};

class VocabularyTest : public EmulatedTest {
 protected:
  // Runs the kernel on x = 1, 2, ... and random a, b; y_ is what it wrote.
  template <typename Kernel>
  void Run(int blocks, int64_t outputs) {
    std::vector<float> numbers(512);
    std::iota(numbers.begin(), numbers.end(), 1.0f);
    const DeviceTensor<float> x(stream(), {512}, numbers), y(stream(), {outputs});
    const DeviceTensor<int> counters(stream(), {4}, std::vector<int>{0, 0, -100, 0});
    const DeviceTensor<Half> a(stream(), {16, 16}, Random(256)), b(stream(), {8, 16}, Random(128));
    a_ = a.values();
    b_ = b.values();
    ASSERT_OK(Launch<Kernel>(stream(), {.grid = {blocks}},
                             {x.global(), y.global(), counters.global(), a.global(), b.global()}));
    y_ = y.Download();
    counters_ = counters.Download();
    ASSERT_EQ(y_.size(), static_cast<size_t>(outputs));
  }

  std::vector<float> a_, b_, y_, counters_;
};

EMULATED_SUITE(VocabularyTest);

struct ShuffleKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    const int lane = LaneIndex();
    const float mine = static_cast<float>(ThreadIndex());
    const auto y = p.y + 8 * ThreadIndex();
    Store(y, ShuffleXor(mine, 5));
    Store(y + 1, ShuffleDown(mine, 3));
    Store(y + 2, ShuffleUp(mine, 3));
    Store(y + 3, Shuffle(mine, (lane * 7 + 1) % 32));
    Store(y + 4, WarpSum(mine));
    Store(y + 5, WarpMax<4>(mine));
    Store(y + 6, static_cast<float>(WarpMin(ThreadIndex())));
    const bool odd = lane % 2 == 1;
    Store(y + 7, static_cast<float>(WarpBallot(lane < 3)) + 100 * WarpAny(odd) +
                     200 * WarpAll(odd) + 400 * WarpAll(lane < 32) + 800 * WarpAny(lane > 31));
  }
};

TEST_P(VocabularyTest, Shuffles) {
  Run<ShuffleKernel>(1, 8 * 64);
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32, base = t - lane;
    const std::vector<float> expected = {static_cast<float>(base + (lane ^ 5)),
                                         static_cast<float>(lane < 29 ? t + 3 : t),
                                         static_cast<float>(lane > 2 ? t - 3 : t),
                                         static_cast<float>(base + (lane * 7 + 1) % 32),
                                         static_cast<float>(32 * base + 496),
                                         static_cast<float>(t / 4 * 4 + 3),
                                         static_cast<float>(base),
                                         507};
    EXPECT_EQ(std::vector<float>(y_.begin() + 8 * t, y_.begin() + 8 * t + 8), expected) << t;
  }
}

struct BlockKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    const auto sums = SharedArray<&Layout::sums>();
    const float mine = static_cast<float>(ThreadIndex() + BlockIndex());
    const float sum = BlockSum(mine, sums), most = BlockMax(mine, sums);
    Store(p.y + BlockIndex() * kThreads + ThreadIndex(), sum + 10000 * most);
    AtomicAdd(p.counters, 1);
    AtomicAdd(p.counters + 1, NumBlocks());
    AtomicMax(p.counters + 2, -ThreadIndex());
    AtomicMax(Cast<float>(p.counters) + 3, mine);
  }
};

TEST_P(VocabularyTest, BlocksAndAtomics) {
  Run<BlockKernel>(3, 3 * 64);
  for (int i = 0; i < 3 * 64; ++i) {
    const int block = i / 64;
    EXPECT_EQ(y_[static_cast<size_t>(i)],
              static_cast<float>(2016 + 64 * block + 10000 * (63 + block)));
  }
  EXPECT_EQ(counters_[0], 192);
  EXPECT_EQ(counters_[1], 576);
  EXPECT_EQ(counters_[2], 0);
  EXPECT_EQ(counters_[3], static_cast<float>(std::bit_cast<int>(65.0f)));
}

// y = a b: the warp loads a and b through shared memory, b both as [column][k] and as [k][column].
template <typename T, bool kTransposed>
struct MatrixKernel : Base {
  static constexpr int kThreads = 32;
  SIMT_FN static void Run(const Params& p) {
    const auto a = Cast<T>(SharedArray<&Layout::a>()), b = Cast<T>(SharedArray<&Layout::b>());
    const int lane = LaneIndex(), g = lane / 4, t = lane % 4;
    for (int i = lane; i < 256; i += 32) Store(a + i, FromFloat<T>(ToFloat(Load(p.a + i))));
    for (int i = lane; i < 128; i += 32) {
      const int to = kTransposed ? 16 * (i % 16) + i / 16 : i;
      Store(b + to, FromFloat<T>(ToFloat(Load(p.b + i))));
    }
    SyncWarp();
    MmaA left;
    LoadMatrix(left.r, a + 16 * (lane % 16) + 8 * (lane / 16));
    MmaB right;
    if (kTransposed) {
      LoadMatrixTransposed(right.r, b + 16 * (lane % 16));
    } else {
      LoadMatrix(right.r, b + 16 * (lane % 8) + 8 * (lane / 8 % 2));
    }
    MmaC c = {{1, 1, 1, 1}};
    Mma<T>(c, left, right);
    for (int i = 0; i < 4; ++i) Store(p.y + 8 * (g + 8 * (i / 2)) + 2 * t + i % 2, c.v[i]);
  }
};

TEST_P(VocabularyTest, MatrixProducts) {
  const auto expect_product = [this](auto to_type) {
    for (size_t row = 0; row < 16; ++row) {
      for (size_t column = 0; column < 8; ++column) {
        double sum = 1;
        for (size_t k = 0; k < 16; ++k) {
          sum += double{to_type(a_[16 * row + k])} * to_type(b_[16 * column + k]);
        }
        // 16 additions of values below 17.
        ASSERT_NEAR(y_[8 * row + column], sum, 16 * 17 * 0x1p-24) << row << ", " << column;
      }
    }
  };
  Run<MatrixKernel<Half, false>>(1, 128);
  expect_product(Rounded<Half>);
  Run<MatrixKernel<Half, true>>(1, 128);
  expect_product(Rounded<Half>);
  Run<MatrixKernel<BFloat16, false>>(1, 128);
  expect_product(Rounded<BFloat16>);
  Run<MatrixKernel<BFloat16, true>>(1, 128);
  expect_product(Rounded<BFloat16>);
}

// Which value of which matrix each register holds, by the PTX ISA's figures for ldmatrix.
template <int kMatrices>
struct LoadMatrixKernel : Base {
  static constexpr int kThreads = 32;
  SIMT_FN static void Run(const Params& p) {
    const auto rows = Cast<uint16_t>(SharedArray<&Layout::a>());
    for (int i = LaneIndex(); i < 256; i += 32) Store(rows + i, static_cast<uint16_t>(i));
    SyncWarp();
    uint32_t r[kMatrices], s[kMatrices];
    LoadMatrix(r, rows + 8 * LaneIndex());
    LoadMatrixTransposed(s, rows + 8 * LaneIndex());
    for (int i = 0; i < kMatrices; ++i) {
      const auto y = p.y + 4 * (kMatrices * LaneIndex() + i);
      Store(y, static_cast<float>(r[i] & 0xffff));
      Store(y + 1, static_cast<float>(r[i] >> 16));
      Store(y + 2, static_cast<float>(s[i] & 0xffff));
      Store(y + 3, static_cast<float>(s[i] >> 16));
    }
  }
};

TEST_P(VocabularyTest, LoadMatrixLayouts) {
  const auto expect_layout = [this](int matrices) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < matrices; ++i) {
        const float* y = y_.data() + 4 * (matrices * lane + i);
        const int row = lane / 4, column = lane % 4 * 2;
        EXPECT_EQ(y[0], static_cast<float>(64 * i + 8 * row + column));
        EXPECT_EQ(y[1], static_cast<float>(64 * i + 8 * row + column + 1));
        EXPECT_EQ(y[2], static_cast<float>(64 * i + 8 * column + row));
        EXPECT_EQ(y[3], static_cast<float>(64 * i + 8 * (column + 1) + row));
      }
    }
  };
  Run<LoadMatrixKernel<1>>(1, 4 * 32);
  expect_layout(1);
  Run<LoadMatrixKernel<2>>(1, 4 * 64);
  expect_layout(2);
  Run<LoadMatrixKernel<4>>(1, 4 * 128);
  expect_layout(4);
}

// Copies of 16, 8 and 4 bytes; of each block of four threads one copies less than all.
template <int kBytes>
struct CopyKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    constexpr int kFloats = kBytes / 4;
    const auto floats = SharedArray<&Layout::floats>();
    const int first = kFloats * ThreadIndex();
    const int valid = ThreadIndex() % 4 == 3 ? kBytes - 4 : ThreadIndex() % 4 == 2 ? 0 : kBytes;
    CopyAsync<kBytes>(floats + first, p.x + first, valid);
    CopyAsyncCommit();
    CopyAsyncWait<0>();
    SyncThreads();
    for (int i = ThreadIndex(); i < kFloats * kThreads; i += kThreads) {
      Store(p.y + i, Load(floats + i));
    }
  }
};

TEST_P(VocabularyTest, AsynchronousCopies) {
  const auto expect_copies = [this](int floats) {
    for (int i = 0; i < 64 * floats; ++i) {
      const int thread = i / floats, place = i % floats;
      const int valid = thread % 4 == 3 ? floats - 1 : thread % 4 == 2 ? 0 : floats;
      EXPECT_EQ(y_[static_cast<size_t>(i)], place < valid ? static_cast<float>(i + 1) : 0.0f) << i;
    }
  };
  Run<CopyKernel<16>>(1, 4 * 64);
  expect_copies(4);
  Run<CopyKernel<8>>(1, 2 * 64);
  expect_copies(2);
  Run<CopyKernel<4>>(1, 64);
  expect_copies(1);
}

struct VectorKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    const int t = ThreadIndex();
    const auto four = LoadVector<4, Cache::kReadOnly>(p.x + 4 * t);
    StoreVector<Cache::kStreaming>(p.y + 4 * t, four);
    const auto halves = LoadVector<4>(p.a + 4 * t);
    const Vector<float, 4> wide = ToFloat(halves);
    StoreVector(p.y + 256 + 4 * t, ToFloat(FromFloat<BFloat16>(wide)));
    StoreVector(p.y + 512 + 4 * t, ToFloat(FromFloat<Float8>(wide)));
  }
};

TEST_P(VocabularyTest, Vectors) {
  Run<VectorKernel>(1, 3 * 256);
  for (size_t i = 0; i < 256; ++i) {
    EXPECT_EQ(y_[i], static_cast<float>(i + 1));
    EXPECT_EQ(y_[256 + i], Rounded<BFloat16>(a_[i]));
    EXPECT_EQ(y_[512 + i], Rounded<Float8>(a_[i]));
  }
}

#ifndef __CUDACC__
// ---- Conversions and functions, on the host alone ----

// Of all values of T the nearest to `value`; of two equally near ones the even one.
template <typename T, typename Bits>
float Nearest(const std::vector<std::pair<float, Bits>>& values, float value) {
  const std::pair<float, Bits>* best = nullptr;
  double distance = HUGE_VAL;
  for (const auto& candidate : values) {
    const double d = std::abs(double{candidate.first} - value);
    if (d < distance || (d == distance && candidate.second % 2 == 0)) {
      best = &candidate;
      distance = d;
    }
  }
  return best->first;
}

TEST(ConversionTest, Float8RoundsToTheNearest) {
  std::vector<std::pair<float, uint8_t>> values;
  for (int bits = 0; bits < 0x7f; ++bits) {
    const float value = ToFloat(Float8{static_cast<uint8_t>(bits)});
    const int exponent = bits >> 3, mantissa = bits & 7;
    EXPECT_EQ(value,
              exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10));
    values.emplace_back(value, static_cast<uint8_t>(bits));
  }
  EXPECT_EQ(values.back().first, 448);
  for (float value = 0x1p-12f; value < 600; value *= 1.0078125f) {
    const float expected = Nearest<Float8>(values, std::min(value, 448.0f));
    ASSERT_EQ(Rounded<Float8>(value), expected) << value;
    ASSERT_EQ(Rounded<Float8>(-value), -expected) << value;
  }
  // Halfway between neighbours, exactly.
  for (size_t i = 0; i + 1 < values.size(); ++i) {
    const float middle = (values[i].first + values[i + 1].first) / 2;
    ASSERT_EQ(Rounded<Float8>(middle), values[i + i % 2].first);
  }
  EXPECT_EQ(FromFloat<Float8>(NAN).bits & 0x7f, 0x7f);
  EXPECT_EQ(ToFloat(FromFloat<Float8>(HUGE_VALF)), 448);
  EXPECT_TRUE(std::isnan(ToFloat(Float8{0xff})));
}

// Every 16-bit value comes back, and what lies between two neighbours goes to the nearer one.
template <typename T>
void ExpectRoundTrips(uint16_t infinity) {
  for (uint32_t bits = 0; bits < infinity; ++bits) {
    const float value = ToFloat(T{static_cast<uint16_t>(bits)});
    ASSERT_EQ(FromFloat<T>(value).bits, bits);
    ASSERT_EQ(FromFloat<T>(-value).bits, bits | 0x8000u);
    const float next = ToFloat(T{static_cast<uint16_t>(bits + 1)});
    if (bits + 1 == infinity) {
      EXPECT_TRUE(std::isinf(next));
      break;
    }
    const double middle = (double{value} + next) / 2;
    ASSERT_EQ(FromFloat<T>(static_cast<float>(middle)).bits, bits + bits % 2) << bits;
    ASSERT_EQ(FromFloat<T>(std::nextafterf(static_cast<float>(middle), 0)).bits, bits);
    ASSERT_EQ(FromFloat<T>(std::nextafterf(static_cast<float>(middle), HUGE_VALF)).bits, bits + 1);
  }
  EXPECT_TRUE(std::isnan(ToFloat(FromFloat<T>(NAN))));
  EXPECT_EQ(FromFloat<T>(HUGE_VALF).bits, infinity);
}

TEST(ConversionTest, SixteenBitFloatsRoundToTheNearest) {
  ExpectRoundTrips<Half>(0x7c00);
  ExpectRoundTrips<BFloat16>(0x7f80);
  EXPECT_EQ(ToFloat(Half{0x3c00}), 1);
  EXPECT_EQ(ToFloat(Half{0x0001}), 0x1p-24f);
  EXPECT_EQ(FromFloat<Half>(65519).bits, 0x7bff);
  EXPECT_EQ(FromFloat<Half>(65520).bits, 0x7c00);
  EXPECT_EQ(Pack<Half>(1, -2), 0xc0003c00u);
  float low, high;
  Unpack<BFloat16>(Pack<BFloat16>(3, -0.5f), low, high);
  EXPECT_EQ(low, 3);
  EXPECT_EQ(high, -0.5f);
}

TEST(ArithmeticTest, AgreesWithTheDevice) {
  EXPECT_EQ(Max(NAN, 1.0f), 1);
  EXPECT_EQ(Max(1.0f, NAN), 1);
  EXPECT_EQ(Min(NAN, -1.0f), -1);
  EXPECT_EQ(Fma(0x1p12f + 1, 0x1p12f + 1, -0x1p24f), 0x1p13f + 1);
  for (float x = -6; x < 6; x += 0.37f) {
    EXPECT_NEAR(Exp2(x), std::pow(2.0, double{x}), 2e-7 * std::pow(2.0, double{x}));
    EXPECT_NEAR(Tanh(x), std::tanh(double{x}), 0x1p-11 * std::abs(std::tanh(double{x})));
    EXPECT_NEAR(Erf(x), std::erf(double{x}), 1e-7);
  }
}

// ---- What the emulator counts ----

// Lane i reads float i (4 sectors), float 8 i (32), half i (2), and four floats from 4 i on (16).
struct SectorKernel : Base {
  static constexpr int kThreads = 32;
  SIMT_FN static void Run(const Params& p) {
    const int lane = LaneIndex();
    float sum = Load(p.x + lane);
    sum += Load(p.x + 8 * lane);
    sum += ToFloat(Load(p.a + lane));
    sum += LoadVector<4>(p.x + 4 * lane)[0];
    if (lane < 8) sum += Load(p.x + 1 + lane);  // 8 floats, not aligned: 2
    Store(p.y + lane, sum);
  }
};

struct BlockIndexKernel {
  static constexpr const char* kName = "block_index";
  static constexpr int kThreads = 32;
  struct Params {
    Global<float> y;
  };
  SIMT_FN static void Run(const Params& p) {
    const int block = BlockIndex() + BlockIndexY() * 25;
    if (ThreadIndex() == 0) Store(p.y + block, static_cast<float>(block));
  }
};

// Strides of 1, 2 and 33 floats, one address for all, 16-byte rows 64 bytes apart.
struct BankKernel : Base {
  static constexpr int kThreads = 32;
  SIMT_FN static void Run(const Params& p) {
    const auto floats = SharedArray<&Layout::floats>();
    const int lane = LaneIndex();
    for (int i = 0; i < 8; ++i) Store(floats + 32 * i + lane, 0.0f);  // 8 wavefronts
    SyncWarp();
    float sum = Load(floats + 2 * lane);                // 2
    sum += Load(floats + 33 * lane % 256);              // 1: every lane another bank
    sum += Load(floats);                                // 1
    sum += LoadVector<4>(floats + 4 * lane)[0];         // 4, ideally 4
    sum += LoadVector<4>(floats + 16 * lane % 256)[0];  // 4 quarters of 8 rows, 4 passes each
    Store(p.y + lane, sum);
  }
};

TEST_P(VocabularyTest, CountsRequests) {
  device().set_emulation(
      {.order = GetParam().order, .seed = GetParam().seed, .count_requests = true});
  Run<SectorKernel>(1, 32);
  auto reports = device().TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  const emulator::Counters& counters = reports[0].second.counters;
  EXPECT_EQ(reports[0].first, "vocabulary");
  EXPECT_EQ(counters.load_requests, 5);
  EXPECT_EQ(counters.load_sectors, 4 + 32 + 2 + 16 + 2);
  EXPECT_EQ(counters.load_bytes, 32 * (4 + 4 + 2 + 16) + 8 * 4);
  EXPECT_EQ(counters.store_requests, 1);
  EXPECT_EQ(counters.store_sectors, 4);
  EXPECT_EQ(reports[0].second.sites.size(), 6u);
  // The sectors that the second load has are all: 32 bytes for every lane.
  EXPECT_EQ(counters.block_sectors, 32 + 2);
  EXPECT_EQ(reports[0].second.type, typeid(SectorKernel).name());
  EXPECT_EQ(reports[0].second.threads, 32);

  Run<BankKernel>(1, 32);
  reports = device().TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  const emulator::Counters& banks = reports[0].second.counters;
  EXPECT_EQ(banks.shared_ideal, 8 + 3 + 4 + 4);
  EXPECT_EQ(banks.shared_wavefronts, 8 + 2 + 1 + 1 + 4 + 4 * 4);
}

// Of a launch of a hundred blocks five run, and no two of them in one tenth of the grid.
TEST_P(VocabularyTest, RunsASampleOfBlocks) {
  device().set_emulation({.order = GetParam().order, .seed = GetParam().seed, .most_blocks = 5});
  const DeviceTensor<float> y(stream(), {100}, std::vector<float>(100, -1));
  ASSERT_OK(Launch<BlockIndexKernel>(stream(), {.grid = {25, 4}}, {y.global()}));
  const std::vector<float> written = y.Download();
  int tenths[10] = {}, run = 0;
  for (size_t i = 0; i < written.size(); ++i) {
    if (written[i] < 0) continue;
    EXPECT_EQ(written[i], static_cast<float>(i));
    ++run;
    EXPECT_EQ(++tenths[i / 10], 1) << i;
  }
  EXPECT_EQ(run, 5);
  const auto reports = device().TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].second.counters.blocks, 5);
  EXPECT_EQ(reports[0].second.counters.grid_blocks, 100);
  EXPECT_EQ(reports[0].second.counters.threads, 5 * 32);

  // As many as there are: all, once each.
  device().set_emulation({.order = GetParam().order, .seed = GetParam().seed, .most_blocks = 100});
  const DeviceTensor<float> all(stream(), {100});
  ASSERT_OK(Launch<BlockIndexKernel>(stream(), {.grid = {25, 4}}, {all.global()}));
  EXPECT_EQ(all.Download()[99], 99);
  EXPECT_EQ(device().TakeReports()[0].second.counters.blocks, 100);
}

TEST_P(VocabularyTest, CountsOperations) {
  Run<MatrixKernel<Half, false>>(1, 128);
  auto reports = device().TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].second.counters.mma, 1);
  EXPECT_EQ(reports[0].second.counters.ldmatrix, 2);
  EXPECT_EQ(reports[0].second.counters.warp_barriers, 1);
  EXPECT_EQ(reports[0].second.counters.threads, 32);
  Run<BlockKernel>(3, 3 * 64);
  reports = device().TakeReports();
  EXPECT_EQ(reports[0].second.counters.barriers, 3 * 4);
  EXPECT_EQ(reports[0].second.counters.shuffles, 3 * 2 * 2 * (5 + 5));
  EXPECT_EQ(reports[0].second.counters.atomics, 3 * 64 * 4);
  Run<CopyKernel<16>>(1, 256);
  reports = device().TakeReports();
  EXPECT_EQ(reports[0].second.counters.async_copies, 64);
  EXPECT_EQ(reports[0].second.counters.async_bytes, 16 * (16 + 16 + 0 + 12));
  EXPECT_TRUE(device().TakeReports().empty());
}
#endif

}  // namespace
}  // namespace bertrand::simt
