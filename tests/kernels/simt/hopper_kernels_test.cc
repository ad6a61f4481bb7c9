#include "tests/kernels/simt/hopper_kernels.h"

#include <gmock/gmock.h>

#include "tests/kernels/emulated_fixture.h"
#include "tests/kernels/simt/hopper_rows_kernels.h"

namespace bertrand::simt {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

class HopperKernelsTest : public EmulatedTest {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    const DeviceInfo& info = device().info();
    if (!info.runs_hopper()) GTEST_SKIP() << info.name << " or its code is not of 9.0a";
  }

  static constexpr int64_t kRows = 64, kColumns = 128, kK = 64;

  // The status is that of launch and download, `y_` what the kernel wrote.
  template <typename Kernel>
  absl::Status RunKernel(int64_t k = kK) {
    const DeviceTensor<Half> a(stream(), {kRows, k}, Random(static_cast<size_t>(kRows * k)));
    const DeviceTensor<Half> b(stream(), {kColumns, k}, Random(static_cast<size_t>(kColumns * k)));
    const DeviceTensor<float> y(stream(), {kRows, kColumns});
    a_ = a.values();
    b_ = b.values();
    typename Kernel::Params params = {
        MakeTileMap(9, 0, a.data(), kRows, static_cast<int>(k), kRows).value(),
        MakeTileMap(9, 0, b.data(), kColumns, static_cast<int>(k), kColumns).value(), a.global(),
        y.global()};
    BERTRAND_RETURN_IF_ERROR(Launch<Kernel>(stream(), {.grid = {1}}, params));
    y_.resize(y.size());
    BERTRAND_RETURN_IF_ERROR(stream().CopyToHost(y_.data(), y.data(), y_.size() * sizeof(float)));
    return stream().Synchronize();
  }
  double Error() const {
    std::vector<double> exact(static_cast<size_t>(kRows * kColumns), 0);
    const size_t k = a_.size() / kRows;
    for (size_t i = 0; i < exact.size(); ++i) {
      for (size_t j = 0; j < k; ++j) {
        exact[i] += double{a_[i / kColumns * k + j]} * b_[i % kColumns * k + j];
      }
    }
    return MaxError(y_, exact);
  }

  // Of hopper_rows_kernels.h: y = a v, with the last `cleared` rows of v as zeros.
  template <typename Kernel>
  absl::Status RunRowsKernel(double* error = nullptr, int cleared = 0) {
    const DeviceTensor<Half> a(stream(), {kRows, kK}, Random(static_cast<size_t>(kRows * kK)));
    const DeviceTensor<Half> v(stream(), {kK, kColumns},
                               Random(static_cast<size_t>(kK * kColumns)));
    const DeviceTensor<float> y(stream(), {kRows, kColumns});
    typename Kernel::Params params = {MakeTileMap(9, 0, a.data(), kRows, kK, kRows).value(),
                                      MakeTileMap(9, 0, v.data(), kK, 2, kColumns / 2, kK).value(),
                                      y.global()};
    BERTRAND_RETURN_IF_ERROR(Launch<Kernel>(stream(), {.grid = {1}}, params));
    y_.resize(y.size());
    BERTRAND_RETURN_IF_ERROR(stream().CopyToHost(y_.data(), y.data(), y_.size() * sizeof(float)));
    if (error == nullptr) return stream().Synchronize();
    std::vector<double> exact(y_.size(), 0);
    for (size_t i = 0; i < exact.size(); ++i) {
      for (size_t k = 0; k < static_cast<size_t>(kK - cleared); ++k) {
        exact[i] +=
            double{a.values()[i / kColumns * kK + k]} * v.values()[k * kColumns + i % kColumns];
      }
    }
    *error = MaxError(y_, exact);
    return stream().Synchronize();
  }

#ifndef __CUDACC__
  template <template <bool> class Kernel, typename... Texts>
  void ExpectCaught(const Texts&... texts) {
    if constexpr (std::is_base_of_v<RowsKernel, Kernel<true>>) {
      ASSERT_OK(RunRowsKernel<Kernel<false>>());
      ExpectViolation(RunRowsKernel<Kernel<true>>(), texts...);
    } else {
      ASSERT_OK(RunKernel<Kernel<false>>());
      ExpectViolation(RunKernel<Kernel<true>>(), texts...);
    }
  }
  template <typename... Texts>
  static void ExpectViolation(const absl::Status& status, const Texts&... texts) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(Message(status),
                AllOf(HasSubstr("hopper: block (0, 0, 0) thread "), ContainsRegex(texts)...));
  }
#endif

  std::vector<float> a_, b_, y_;
};

EMULATED_SUITE(HopperKernelsTest);

// 64 additions of products below 1.
constexpr double kRoundings = 64 * 64 * 0x1p-24;

TEST_P(HopperKernelsTest, Multiplies) {
  ASSERT_OK(RunKernel<TwoPhases<false>>());
  EXPECT_LE(Error(), kRoundings);
  // Columns beyond the matrix are zero, and their bytes count.
  ASSERT_OK(RunKernel<TwoPhases<false>>(24));
  EXPECT_LE(Error(), kRoundings);
  ASSERT_OK(RunKernel<NoFenceAsync<false>>());
  EXPECT_LE(Error(), kRoundings);
}

TEST_P(HopperKernelsTest, MultipliesRegistersByRows) {
  double error = 1;
  ASSERT_OK(RunRowsKernel<WrongFragmentOfA<false>>(&error));
  EXPECT_LE(error, kRoundings);
  ASSERT_OK(RunRowsKernel<ClearedWithoutFence<false>>(&error, 8));
  EXPECT_LE(error, kRoundings);
}

#ifndef __CUDACC__
// What products have read is forgotten with the block: another kernel's warps may read and write
// neighbouring values there.
struct NeighboursInSharedMemory : HopperKernel {
  SIMT_FN static void Run(const Params& p) {
    const auto a = SharedArray<&Layout::a>();
    Store(a + ThreadIndex(), Half{0});
    Store(p.y + ThreadIndex(), ToFloat(simt::Load(a + ThreadIndex())));
    SyncWarp();
    Store(a + ThreadIndex(), Half{0});
  }
};
TEST_P(HopperKernelsTest, ReadersAreForgottenWithTheBlock) {
  ASSERT_OK(RunKernel<TwoPhases<false>>());
  const absl::Status status = RunKernel<NeighboursInSharedMemory>();
  EXPECT_THAT(Message(status), HasSubstr("byte 640 has never been written"));
}

// In units of Mma, 16 x 8 x 16: two phases, four steps of k, 16 columns of eight for four warps.
TEST_P(HopperKernelsTest, CountsProductsAndBytes) {
  device().TakeReports();
  ASSERT_OK(RunKernel<TwoPhases<false>>());
  const auto reports = device().TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].second.counters.mma, 2 * 4 * 16 * 4);
  EXPECT_EQ(reports[0].second.counters.wgmma, 2 * 4 * 16 * 4);
  EXPECT_EQ(reports[0].second.counters.async_bytes, 2 * HopperKernel::kBytes);
}

// Rows of 128 bytes: four sectors each from global memory, one pass each into shared memory; of
// operands each product reads 64 rows of a and its columns of b, 32 bytes of each.
TEST_P(HopperKernelsTest, CountsSectorsAndPasses) {
  device().set_emulation({.count_requests = true});
  device().TakeReports();
  ASSERT_OK(RunKernel<TwoPhases<false>>());
  const auto reports = device().TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  const auto& counters = reports[0].second.counters;
  constexpr int64_t kRows = HopperKernel::kBytes / 128, kProducts = 2 * 4;
  EXPECT_EQ(counters.async_copies, 4);
  EXPECT_GE(counters.load_sectors, 2 * kRows * 4);
  EXPECT_EQ(counters.shared_wavefronts - counters.shared_requests, 0);
  EXPECT_GE(counters.shared_wavefronts, 2 * kRows + kProducts * kRows / 4);
  EXPECT_LE(counters.shared_wavefronts, 2 * kRows + kProducts * kRows / 4 + 64);
}

TEST_P(HopperKernelsTest, Stages) {
  ExpectCaught<TwoPhases>("race in shared memory|has not been waited for");
  ExpectCaught<EmptyBeforeWait>(
      "which a Wgmma of warp . reads that has not been waited for|"
      "a Wgmma of warp . read byte .* nothing orders");
  ExpectCaught<EmptyByOneWarp>("a Wgmma of warp . read.* nothing orders|not been waited for");
  ExpectCaught<ReadBeforePhase>("not been waited for|tile load to barrier 0 wrote|uninitialised");
  ExpectCaught<WrongParity>(
      "not been waited for|tile load to barrier 0 wrote|uninitialised|deadlock");
  ExpectCaught<LoadOfTileWithoutWait>("not been waited for|tile load to barrier 0 wrote");
  ExpectCaught<StoreUnderProduct>("which a Wgmma of warp . reads that has not been waited for");
}

TEST_P(HopperKernelsTest, Barriers) {
  ExpectCaught<FewerBytes>("a tile load of 16384 bytes, of which the phase of barrier 0 expects 0");
  ExpectCaught<MoreBytes>("deadlock: .* wait in WaitForPhase .*phase 0: 0 arrivals and 16 bytes");
  ExpectCaught<MissingArrival>(
      "deadlock: .*barrier 0, phase 0: 1 arrivals and 0 bytes are missing");
  ExpectCaught<NoInit>("a barrier that InitBarrier has not made");
  ExpectCaught<NoBarrierAfterInit>("nothing orders InitBarrier|InitBarrier has not made");
  ExpectCaught<LoadWithoutWait>("the block ends with 2 tile loads to barrier 0");
  ExpectCaught<MisalignedTile>("misaligned tile load: to byte 128 of shared memory");
}

TEST_P(HopperKernelsTest, Products) {
  ExpectCaught<NoWgmmaFence>("Wgmma without WgmmaFence");
  ExpectCaught<WriteBeforeWgmmaWait>("accumulators were written between Wgmma and WgmmaWait");
  ExpectCaught<ReturnBeforeWgmmaWait>("returns with 4 products in flight");
  ExpectCaught<DivergentWarpgroup>("divergent warpgroup");
  ExpectCaught<NoFenceAsync>("which warp . has written by an ordinary store without FenceAsync");
  ExpectCaught<TooManyRegisters>("deadlock: .* wait in ClaimRegisters .* registers are in use");
}

TEST_P(HopperKernelsTest, RegistersAndRows) {
  ExpectCaught<RegistersUnderProduct>("registers of a were written between Wgmma and WgmmaWait");
  ExpectCaught<StoreUnderRows>("which a Wgmma of warp . reads that has not been waited for");
  ExpectCaught<ClearedWithoutFence>("which warp 4 has written by an ordinary store");
  ExpectCaught<WrongDimensions>("a tile load of 2 dimensions by a map of 3");
}

TEST_P(HopperKernelsTest, TheResultShows) {
  double error = 0;
  ASSERT_OK(RunRowsKernel<WrongFragmentOfA<true>>(&error));
  EXPECT_GE(error, 0.1);
  ASSERT_OK(RunRowsKernel<WrongRowsOfTile<false>>(&error));
  EXPECT_LE(error, kRoundings);
  ASSERT_OK(RunRowsKernel<WrongRowsOfTile<true>>(&error));
  EXPECT_GE(error, 0.1);
  ASSERT_OK(RunKernel<ReadBeforeWgmmaWait<false>>());
  EXPECT_LE(Error(), kRoundings);
  ASSERT_OK(RunKernel<ReadBeforeWgmmaWait<true>>());
  EXPECT_TRUE(std::isinf(Error()));
  ASSERT_OK(RunKernel<WrongAccumulators<false>>());
  EXPECT_LE(Error(), kRoundings);
  ASSERT_OK(RunKernel<WrongAccumulators<true>>());
  EXPECT_GE(Error(), 0.1);
}
#endif

TEST_P(HopperKernelsTest, TileMapsAreChecked) {
  const DeviceTensor<Half> a(stream(), {8, 16}, Random(128));
  const auto message = [&](int minor, int offset, int columns, int box_rows) {
    return Message(MakeTileMap(9, minor, a.data() + offset, 8, columns, box_rows).status());
  };
  EXPECT_EQ(message(0, 0, 16, 256), "");
  EXPECT_THAT(message(1, 0, 16, 64), HasSubstr("this one has 9.1"));
  for (const std::string& text : {message(0, 1, 16, 64), message(0, 0, 12, 64),
                                  message(0, 0, 16, 257), message(0, 0, 0, 64)}) {
    EXPECT_THAT(text, HasSubstr("multiples of 16 bytes"));
  }
}

}  // namespace
}  // namespace bertrand::simt
