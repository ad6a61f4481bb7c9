#include "kernels/simt/runtime.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <thread>

#include "tests/kernels/emulated_fixture.h"

namespace bertrand::simt {
namespace {

using testing::HasSubstr;

// y = x + the number of blocks.
template <int kSharedBytes>
struct AddKernel {
  static constexpr const char* kName = "add";
  static constexpr int kThreads = 32;
  struct Params {
    Global<const float> x;
    Global<float> y;
    int tail_floats;
  };
  struct Layout {
    alignas(16) char bytes[kSharedBytes];
  };
  SIMT_FN static void Run(const Params& p) {
    const int i = BlockIndex() * kThreads + ThreadIndex();
    Store(p.y + i, Load(p.x + i) + static_cast<float>(NumBlocks()));
    if (p.tail_floats > 0) {
      const auto tail = SharedTail<Layout, float>(p.tail_floats);
      Store(tail + (p.tail_floats - 1 - ThreadIndex()), 1.0f);
    }
  }
};

class RuntimeTest : public EmulatedTest {};
INSTANTIATE_TEST_SUITE_P(Order, RuntimeTest, testing::Values(EmulatedCases()[0]),
                         [](const auto& info) { return info.param.name; });

TEST_P(RuntimeTest, RefusesGeometryThatTheDeviceLacks) {
  const DeviceTensor<float> x(stream(), {64}, Random(64)), y(stream(), {64});
  const auto message = [&]<int kBytes>(const LaunchShape& shape,
                                       std::integral_constant<int, kBytes>) {
    const absl::Status status =
        Launch<AddKernel<kBytes>>(stream(), shape, {x.global(), y.global(), 0});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return Message(status);
  };
  constexpr std::integral_constant<int, 16> kSmall;
  constexpr std::integral_constant<int, 100 << 10> kLarge;
  EXPECT_THAT(message({.grid = {0}}, kSmall), HasSubstr("a grid of 0 x 1 x 1"));
  EXPECT_THAT(message({.grid = {1, 65536}}, kSmall), HasSubstr("a grid of 1 x 65536 x 1"));
  EXPECT_THAT(message({.grid = {1}, .tail_bytes = 227 << 10}, kSmall),
              HasSubstr(device().info().name + " has "));
  EXPECT_TRUE(
      Launch<AddKernel<(100 << 10)>>(stream(), {.grid = {2}}, {x.global(), y.global(), 0}).ok());
  set_device(ProfileL4());
  EXPECT_THAT(message({.grid = {2}}, kLarge),
              HasSubstr("102400 bytes of shared memory; " + device().info().name));
}

TEST_P(RuntimeTest, SharedTailIsBounded) {
  const DeviceTensor<float> x(stream(), {32}, Random(32)), y(stream(), {32});
  const LaunchShape shape = {.grid = {1}, .tail_bytes = 40 * sizeof(float)};
  ASSERT_OK(Launch<AddKernel<20>>(stream(), shape, {x.global(), y.global(), 40}));
#ifndef __CUDACC__
  EXPECT_THAT(Message(Launch<AddKernel<20>>(stream(), shape, {x.global(), y.global(), 41})),
              HasSubstr("store out of bounds"));
#endif
}

#ifndef __CUDACC__
TEST_P(RuntimeTest, CopiesCheckWhatTheyTouch) {
  const Memory memory = std::move(device().Allocate(64)).value();
  char host[128] = {};
  EXPECT_THAT(Message(stream().CopyToHost(host, memory.data(), 64)),
              HasSubstr("byte 0 has never been written"));
  ASSERT_OK(stream().Fill(memory.data(), 7, 32));
  EXPECT_THAT(Message(stream().CopyToHost(host, memory.data(), 64)),
              HasSubstr("byte 32 has never been written"));
  EXPECT_THAT(Message(stream().CopyToDevice(memory.data(), host, 65)),
              HasSubstr("byte 64 is outside of the device's memory"));
  EXPECT_THAT(Message(stream().CopyToDevice(host, host, 1)), HasSubstr("outside"));
  ASSERT_OK(stream().CopyOnDevice(static_cast<char*>(memory.data()) + 32, memory.data(), 32));
  ASSERT_OK(stream().CopyToHost(host, memory.data(), 64));
  EXPECT_EQ(host[63], 7);
}

TEST_P(RuntimeTest, MemoryThatIsFreedIsUnreachable) {
  const DeviceTensor<float> y(stream(), {32});
  Global<const float> stale;
  {
    const DeviceTensor<float> x(stream(), {32}, Random(32));
    stale = x.global();
  }
  EXPECT_THAT(Message(Launch<AddKernel<16>>(stream(), {.grid = {1}}, {stale, y.global(), 0})),
              HasSubstr("load of unallocated memory"));
}
#endif

TEST_P(RuntimeTest, ManyAllocationsComeAndGo) {
  std::vector<Memory> kept;
  for (int round = 0; round < 50; ++round) {
    for (size_t bytes : {1u, 255u, 256u, 70000u}) {
      kept.push_back(std::move(device().Allocate(bytes)).value());
      EXPECT_EQ(reinterpret_cast<uintptr_t>(kept.back().data()) % 256, 0u);
    }
    kept.erase(kept.begin(), kept.begin() + 2);
  }
  EXPECT_EQ(device().Allocate(size_t{1} << 40).status().code(),
            absl::StatusCode::kResourceExhausted);
}

// A graph replays with the pointers and parameters of its capture, on what the memory holds then.
TEST_P(RuntimeTest, GraphsReplay) {
  const DeviceTensor<float> x(stream(), {64}, std::vector<float>(64, 1)), y(stream(), {64});
  const Memory pinned = std::move(device().AllocatePinned(64 * sizeof(float))).value();
  float* host = static_cast<float*>(pinned.data());
  std::fill(host, host + 64, 5.0f);
  ASSERT_OK(stream().BeginCapture());
  ASSERT_OK(stream().CopyToDevice(x.data(), host, 64 * sizeof(float)));
  ASSERT_OK(Launch<AddKernel<16>>(stream(), {.grid = {2}}, {x.global(), y.global(), 0}));
  ASSERT_OK(stream().CopyToHost(host, y.data(), 64 * sizeof(float)));
#ifndef __CUDACC__  // where the attempt breaks the capture
  EXPECT_FALSE(stream().Synchronize().ok());
#endif
  const std::unique_ptr<Graph> graph = std::move(stream().EndCapture()).value();
  EXPECT_EQ(x.Download()[0], 1);
  for (const float expected : {7.0f, 9.0f}) {
    ASSERT_OK(stream().Run(*graph));
    ASSERT_OK(stream().Synchronize());
    EXPECT_EQ(host[63], expected);
  }
  EXPECT_FALSE(stream().EndCapture().ok());
}

#ifndef __CUDACC__
TEST_P(RuntimeTest, WorkspacesForget) {
  Workspace workspace(std::move(device().Allocate(3 * Workspace::SliceBytes(100))).value());
  void* first = workspace.Take(stream(), 100).value();
  void* second = workspace.Take(stream(), 100).value();
  EXPECT_EQ(workspace.used_bytes(), 2 * Workspace::SliceBytes(100));
  ASSERT_OK(stream().Fill(first, 1, 100));
  ASSERT_OK(stream().Fill(second, 1, 100));
  EXPECT_FALSE(stream().Fill(first, 1, 101).ok());
  EXPECT_EQ(workspace.Take(stream(), 1000).status().code(), absl::StatusCode::kResourceExhausted);
  ASSERT_OK(workspace.Reset(stream()));
  EXPECT_EQ(workspace.Take(stream(), 100).value(), first);
  char host[100];
  EXPECT_THAT(Message(stream().CopyToHost(host, first, 100)), HasSubstr("never been written"));
  EXPECT_THAT(Message(stream().CopyToHost(host, second, 100)), HasSubstr("outside"));
}
#endif

// What is asked of a stream after its Wait sees what another did before its Record.
TEST_P(RuntimeTest, EventsOrderStreams) {
  constexpr int kBytes = 32 << 20;
  const Memory memory = std::move(device().Allocate(kBytes)).value();
  const std::unique_ptr<Stream> other = std::move(device().CreateStream()).value();
  const std::unique_ptr<Event> filled = std::move(device().CreateEvent()).value();
  std::vector<char> host(kBytes);
  for (const char value : {3, 4}) {
    ASSERT_OK(stream().Fill(memory.data(), static_cast<uint8_t>(value), kBytes));
    ASSERT_OK(stream().Record(*filled));
    ASSERT_OK(other->Wait(*filled));
    ASSERT_OK(other->CopyToHost(host.data(), memory.data(), kBytes));
    ASSERT_OK(other->Synchronize());
    EXPECT_EQ(std::count(host.begin(), host.end(), value), kBytes);
  }
}

TEST_P(RuntimeTest, LaunchesFromSeveralThreadsDoNotMeet) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this, i] {
      const std::unique_ptr<Stream> stream = std::move(device().CreateStream()).value();
      for (int round = 0; round < 20; ++round) {
        const std::vector<float> values(64, static_cast<float>(i));
        const DeviceTensor<float> x(*stream, {64}, values), y(*stream, {64});
        ASSERT_OK(Launch<AddKernel<16>>(*stream, {.grid = {2}}, {x.global(), y.global(), 0}));
        EXPECT_EQ(y.Download()[63], static_cast<float>(i + 2));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace bertrand::simt
