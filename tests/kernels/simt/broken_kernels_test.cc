#include "tests/kernels/simt/broken_kernels.h"

#include <gmock/gmock.h>

#include <numeric>

#include "tests/kernels/emulated_fixture.h"

namespace bertrand::simt {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

class BrokenKernelsTest : public EmulatedTest {
 protected:
  // Runs the kernel on fresh memory; the status is that of launch and download, `y_` what it wrote.
  template <typename Kernel>
  absl::Status RunKernel(int blocks, int outputs) {
    std::vector<float> numbers(256);
    std::iota(numbers.begin(), numbers.end(), 1.0f);
    const DeviceTensor<float> x(stream(), {256}, numbers), y(stream(), {256});
    a_ = Random(256);
    b_ = Random(128);
    const DeviceTensor<Half> a(stream(), {16, 16}, a_), b(stream(), {8, 16}, b_);
    a_ = a.values();
    b_ = b.values();
    const DeviceTensor<int> counter(stream(), {1}, std::vector<int>{0});
    auto memory = device().Allocate(4096);
    Workspace workspace(std::move(memory).value());
    // The slice is followed by another one.
    void* slice = workspace.Take(stream(), 64 * sizeof(float)).value();
    void* next = workspace.Take(stream(), 64 * sizeof(float)).value();
    EXPECT_TRUE(stream().Fill(slice, 0, 64 * sizeof(float)).ok());
    EXPECT_TRUE(stream().Fill(next, 0, 64 * sizeof(float)).ok());
    const BrokenParams params = {
        x.global(), y.global(),       a.global(),
        b.global(), counter.global(), Global<const float>(static_cast<const float*>(slice), 65)};
    BERTRAND_RETURN_IF_ERROR(Launch<Kernel>(stream(), {.grid = {blocks}}, params));
    y_.resize(static_cast<size_t>(outputs));
    return stream().CopyToHost(y_.data(), y.data(), y_.size() * sizeof(float));
  }

  // The right version passes and the broken one is reported, with all of `texts`, the kernel's
  // name, and a place in broken_kernels.h.
  template <template <bool> class Kernel, typename... Texts>
  void ExpectCaught(const Texts&... texts) {
    constexpr int kOutputs = Kernel<true>::kThreads;
    ASSERT_OK(RunKernel<Kernel<false>>(1, kOutputs));
    const absl::Status status = RunKernel<Kernel<true>>(1, kOutputs);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(Message(status), AllOf(HasSubstr("broken: block (0, 0, 0) thread "),
                                       HasSubstr("broken_kernels.h:"), ContainsRegex(texts)...));
  }

  std::vector<float> a_, b_, y_;
};

EMULATED_SUITE(BrokenKernelsTest);

TEST_P(BrokenKernelsTest, RacesInABlock) {
  ExpectCaught<NoBarrierBeforeRead>("race in shared memory");
  ExpectCaught<NoBarrierAfterRead>("race in shared memory");
  ExpectCaught<NoBarrierAfterAllRead>("race in shared memory");
  ExpectCaught<NoSyncWarp>("race in shared memory");
  ExpectCaught<NoSyncWarpBeforeLoadMatrix>("race in shared memory", "wrote", "reads");
  ExpectCaught<RaceBetweenWarps>("race in shared memory", "wrote", "writes");
  ExpectCaught<ReadOfAtomic>("race in global memory");
  ExpectCaught<AtomicBesideStore>("race in global memory");
}

TEST_P(BrokenKernelsTest, RacesBetweenBlocks) {
  ASSERT_OK(RunKernel<RaceBetweenBlocks<false>>(3, 192));
  const absl::Status status = RunKernel<RaceBetweenBlocks<true>>(3, 64);
  EXPECT_THAT(Message(status), HasSubstr("race in global memory: another block wrote byte"));
}

TEST_P(BrokenKernelsTest, Bounds) {
  ExpectCaught<ReadPastEnd>("load out of bounds: bytes 1024 to 1027 of a global view of 1024");
  ExpectCaught<WriteBeforeBegin>("store out of bounds: bytes -4 to -1");
  ExpectCaught<ReadPastSlice>("load of unallocated memory: byte 256");
  ExpectCaught<PastSharedArray>("load out of bounds: bytes 256 to 259 of a shared view of 256");
  ExpectCaught<MisalignedVector>("misaligned load: 16 bytes");
  ExpectCaught<AbsentOperand>("absent operand");
}

TEST_P(BrokenKernelsTest, Uninitialised) {
  ExpectCaught<UninitialisedShared>("load of uninitialised shared memory: byte 252");
  ExpectCaught<UninitialisedGlobal>("load of uninitialised global memory");
  ASSERT_OK(RunKernel<MissingOutput<false>>(1, 64));
  EXPECT_THAT(Message(RunKernel<MissingOutput<true>>(1, 64)),
              HasSubstr("byte 252 has never been written"));
}

TEST_P(BrokenKernelsTest, AsynchronousCopies) {
  ExpectCaught<ReadBeforeWait>("has not been waited for");
  ExpectCaught<StaleStage>("has not been waited for");
  // One reads before the other's copy begins, while it is on its way, or after it.
  ExpectCaught<WaitWithoutBarrier>("race in shared memory|has not been waited for");
  ExpectCaught<OverwrittenStage>("race in shared memory");
}

// A kernel, then one that may begin before the first has ended.
TEST_P(BrokenKernelsTest, EarlierKernels) {
  const DeviceTensor<float> x(stream(), {256}, Random(256)), y(stream(), {256}), z(stream(), {256});
  const auto both = [&]<typename Second>(Second, Global<const float> from, Global<float> to) {
    EXPECT_TRUE(stream().Synchronize().ok());
    BrokenParams first, second;
    first.x = x.global(), first.y = y.global();
    EXPECT_TRUE(Launch<RaceBetweenBlocks<false>>(stream(), {.grid = {1}}, first).ok());
    second.x = from, second.y = to;
    return Launch<Second>(stream(), {.grid = {1}}, second);
  };
  ASSERT_OK(both(ReadOfEarlierKernel<false>(), y.global(), z.global()));
  ASSERT_OK(both(ReadOfEarlierKernel<true>(), x.global(), z.global()));  // what nobody writes
  EXPECT_THAT(Message(both(ReadOfEarlierKernel<true>(), y.global(), z.global())),
              HasSubstr("an earlier kernel, which may still run, wrote byte"));
  ASSERT_OK(both(ReadOnlyOfEarlierKernel<false>(), y.global(), z.global()));
  EXPECT_THAT(Message(both(ReadOnlyOfEarlierKernel<true>(), y.global(), z.global())),
              HasSubstr("Cache::kReadOnly of byte"));
  ASSERT_OK(both(WriteOverEarlierKernel<false>(), x.global(), x.global()));
  EXPECT_THAT(Message(both(WriteOverEarlierKernel<true>(), x.global(), x.global())),
              HasSubstr("an earlier kernel, which may still run, read byte"));
  ASSERT_OK(both(NoWaitForEarlierKernels<false>(), x.global(), z.global()));
  EXPECT_THAT(Message(both(NoWaitForEarlierKernels<true>(), x.global(), z.global())),
              HasSubstr("thread 7: this thread returned without WaitForEarlierKernels"));
}

TEST_P(BrokenKernelsTest, Divergence) {
  ExpectCaught<DivergentShuffle>("divergent collective: ShuffleXor");
  ExpectCaught<DifferentMasks>("divergent collective: ShuffleXor with ");
  ExpectCaught<ReturnBeforeShuffle>("divergent collective");
  ExpectCaught<DivergentBarrier>("divergent barrier: SyncThreads");
  ExpectCaught<Deadlock>("deadlock: no thread can go on", "wait in SyncThreads",
                         "wait in SyncWarp");
}

TEST_P(BrokenKernelsTest, FragmentsShowInTheResult) {
  const auto error = [this] {
    std::vector<double> exact(128, 0);
    for (size_t i = 0; i < 128; ++i) {
      for (size_t k = 0; k < 16; ++k) {
        exact[i] += double{a_[i / 8 * 16 + k]} * b_[i % 8 * 16 + k];
      }
    }
    return MaxError(y_, exact);
  };
  ASSERT_OK(RunKernel<WrongFragment<false>>(1, 128));
  // 16 additions of values below 16.
  EXPECT_LE(error(), 16 * 16 * 0x1p-24);
  ASSERT_OK(RunKernel<WrongFragment<true>>(1, 128));
  EXPECT_GE(error(), 0.1);
}

// With a trace, a race is reported with both places.
TEST_P(BrokenKernelsTest, TracesNameTheOtherAccess) {
  device().set_emulation({.order = GetParam().order, .seed = GetParam().seed, .trace = true});
  EXPECT_THAT(
      Message(RunKernel<NoBarrierBeforeRead<true>>(1, 64)),
      ContainsRegex("of the view at .*broken_kernels.h:[0-9]+ and .*, at .*broken_kernels.h"));
}

// After a violation the emulator is as good as new.
TEST_P(BrokenKernelsTest, GoesOnAfterAViolation) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(RunKernel<NoBarrierBeforeRead<true>>(1, 64).ok());
    ASSERT_OK(RunKernel<NoBarrierBeforeRead<false>>(1, 64));
    EXPECT_EQ(y_[0], 33);
  }
}

}  // namespace
}  // namespace bertrand::simt
