#pragma once

// The device that kernels' tests run on. Each test is compiled twice: by the C++ compiler, over the
// emulator; and by nvcc into gpu_kernel_tests, over CUDA's device 0. What differs is here.
//
// The emulator runs every thread order, refuses bytes that nobody wrote, and has unreachable memory
// around every allocation. CUDA has one order; so TestMemory starts as a pattern of which nothing
// may be left (Unwritten), with red zones around it that must keep theirs. What only the emulator
// knows (counts, thread orders) is left out of CUDA's tests by __CUDACC__.

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/simt/host/convert.h"
#include "kernels/simt/runtime.h"
#include "kernels/status.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

namespace bertrand {

// Numbers of the host's side, which nvcc's half has conversions of for the device alone.
template <typename T>
T FromHostFloat(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else if constexpr (std::is_same_v<T, simt::Half>) {
    return {simt::emulator::FloatToHalf(value)};
  } else if constexpr (std::is_same_v<T, simt::BFloat16>) {
    return {simt::emulator::FloatToBFloat16(value)};
  } else {
    return {simt::emulator::FloatToFloat8(value)};
  }
}
inline float ToHostFloat(float value) { return value; }
inline float ToHostFloat(simt::Half value) { return simt::emulator::HalfToFloat(value.bits); }
inline float ToHostFloat(simt::BFloat16 value) {
  return simt::emulator::BFloat16ToFloat(value.bits);
}
inline float ToHostFloat(simt::Float8 value) { return simt::emulator::Float8ToFloat(value.bits); }

#ifdef __CUDACC__

// One, whatever the thread orders are called.
struct EmulatedCase {
  std::string name;
};
inline std::vector<EmulatedCase> EmulatedCases() { return {{"cuda"}}; }
inline EmulatedCase OneEmulatedCase() { return EmulatedCases().front(); }

// Under a tool that checks accesses itself, red zones would hide what it looks for: memory is as
// large as it was asked for then. Set by gpu_kernel_tests' --exact_allocations.
inline bool exact_allocations = false;

// Device 0, with no more multiprocessors and shared memory than the profile has.
inline std::unique_ptr<simt::Device> OpenKernelDevice(const simt::DeviceInfo& profile) {
  auto device = simt::Device::Open(0);
  BERTRAND_CHECK(device.ok(), Message(device.status()));
  // Tests alone pretend to have a smaller device.
  auto& info = const_cast<simt::DeviceInfo&>((*device)->info());
  info.multiprocessors = std::min(info.multiprocessors, profile.multiprocessors);
  info.shared_bytes_per_block =
      std::min(info.shared_bytes_per_block, profile.shared_bytes_per_block);
  return *std::move(device);
}

class TestMemory {
 public:
  TestMemory() = default;
  // Filled with `poison`.
  TestMemory(const simt::Device& device, size_t size_bytes, uint8_t poison)
      : size_bytes_(size_bytes), zone_bytes_(exact_allocations ? 0 : kZoneBytes) {
    auto memory = device.Allocate(size_bytes + 2 * zone_bytes_);
    BERTRAND_CHECK(memory.ok(), Message(memory.status()));
    memory_ = *std::move(memory);
    cudaMemset(memory_.data(), kZonePattern, zone_bytes_);
    cudaMemset(data(), poison, size_bytes);
    cudaMemset(static_cast<char*>(data()) + size_bytes, kZonePattern, zone_bytes_);
    // Streams of the runtime do not wait for the default one.
    cudaDeviceSynchronize();
  }
  TestMemory(TestMemory&& other) noexcept { *this = std::move(other); }
  TestMemory& operator=(TestMemory&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_bytes_, other.size_bytes_);
    std::swap(zone_bytes_, other.zone_bytes_);
    return *this;
  }
  ~TestMemory() {
    if (memory_.data() != nullptr && zone_bytes_ > 0) ExpectZonesIntact();
  }

  void* data() const { return static_cast<char*>(memory_.data()) + zone_bytes_; }

 private:
  static constexpr size_t kZoneBytes = 256;
  static constexpr uint8_t kZonePattern = 0xa5;

  void ExpectZonesIntact() const {
    cudaDeviceSynchronize();
    std::vector<uint8_t> zones(2 * kZoneBytes);
    const char* const begin = static_cast<const char*>(memory_.data());
    cudaMemcpy(zones.data(), begin, kZoneBytes, cudaMemcpyDeviceToHost);
    cudaMemcpy(zones.data() + kZoneBytes, begin + kZoneBytes + size_bytes_, kZoneBytes,
               cudaMemcpyDeviceToHost);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    for (size_t i = 0; i < kZoneBytes; ++i) {
      ASSERT_EQ(zones[i], kZonePattern) << kZoneBytes - i << " bytes before a tensor were written";
      ASSERT_EQ(zones[kZoneBytes + i], kZonePattern) << i << " bytes after a tensor were written";
    }
  }

  simt::Memory memory_;
  size_t size_bytes_ = 0, zone_bytes_ = 0;
};

#else

struct EmulatedCase {
  simt::emulator::ThreadOrder order;
  uint64_t seed;
  std::string name;
};

inline std::vector<EmulatedCase> EmulatedCases() {
  using simt::emulator::ThreadOrder;
  return {{ThreadOrder::kRoundRobin, 1, "round_robin"},
          {ThreadOrder::kGreedy, 1, "greedy"},
          {ThreadOrder::kReversed, 1, "reversed"},
          {ThreadOrder::kRandom, 1, "random_1"},
          {ThreadOrder::kRandom, 2, "random_2"}};
}
// For what does not depend on an order.
inline EmulatedCase OneEmulatedCase() { return EmulatedCases()[1]; }

inline std::unique_ptr<simt::Device> OpenKernelDevice(const simt::DeviceInfo& profile) {
  return simt::Device::Emulated(profile);
}

class TestMemory {
 public:
  TestMemory() = default;
  TestMemory(const simt::Device& device, size_t size_bytes, uint8_t) {
    auto memory = device.Allocate(size_bytes);
    BERTRAND_CHECK(memory.ok(), Message(memory.status()));
    memory_ = *std::move(memory);
  }
  void* data() const { return memory_.data(); }

 private:
  simt::Memory memory_;
};

#endif

// Of floats of all types a NaN that no operation makes; of integers an unlikely one.
inline uint8_t PoisonOf(DType dtype) { return dtype == DType::kInt32 ? 0xfd : 0xff; }

// What the stream has done to `size_bytes` on the device. Fails the test, and returns false, when
// that cannot be had or something in it was never written.
inline bool ReadBack(simt::Stream& stream, void* host, const void* device, DType dtype,
                     size_t count) {
  const size_t element_bytes = SizeOf(dtype);
  const absl::Status copied = stream.CopyToHost(host, device, count * element_bytes);
  const absl::Status synchronized = stream.Synchronize();
  const bool ok = copied.ok() && synchronized.ok();
  EXPECT_TRUE(ok) << Message(copied) << ", " << Message(synchronized);
#ifdef __CUDACC__
  const std::vector<uint8_t> poison(element_bytes, PoisonOf(dtype));
  for (size_t i = 0; i < count && ok; ++i) {
    const bool unwritten = std::memcmp(static_cast<char*>(host) + i * element_bytes, poison.data(),
                                       element_bytes) == 0;
    EXPECT_FALSE(unwritten) << "element " << i << " of " << count << " was never written";
    if (unwritten) return false;
  }
#endif
  return ok;
}

}  // namespace bertrand
