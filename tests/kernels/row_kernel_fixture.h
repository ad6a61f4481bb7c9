#pragma once

// What the suites over GPU kernels share: tensors in the memory of the device (kernel_device.h),
// the thread orders, and rounding to the types that kernels store. Outputs start unreadable, and
// around every tensor is memory that nobody may touch.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/simt/runtime.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "tests/kernels/kernel_device.h"

namespace bertrand {

inline constexpr DType kFloatTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// The relative error of one rounding to the type.
inline double RoundingOf(DType dtype) {
  return dtype == DType::kFloat32 ? 0x1p-24 : dtype == DType::kFloat16 ? 0x1p-11 : 0x1p-8;
}

// To the type and back; f16's and bf16's bits in `bits`.
inline float RoundTo(DType dtype, float value, uint16_t* bits = nullptr) {
  if (dtype == DType::kFloat32) return value;
  uint16_t rounded;
  float back;
  if (dtype == DType::kFloat16) {
    rounded = FromHostFloat<simt::Half>(value).bits;
    back = ToHostFloat(simt::Half{rounded});
  } else {
    rounded = FromHostFloat<simt::BFloat16>(value).bits;
    back = ToHostFloat(simt::BFloat16{rounded});
  }
  if (bits != nullptr) *bits = rounded;
  return back;
}

class RowKernelTest : public testing::Test {
 protected:
  using Shape = std::initializer_list<int64_t>;

  // A tensor and its memory.
  struct DeviceTensor {
    TestMemory memory;
    TensorView view;
  };

  RowKernelTest() : device_(OpenKernelDevice(simt::ProfileH100())) {
    auto stream = device_->CreateStream();
    BERTRAND_CHECK(stream.ok(), Message(stream.status()));
    stream_ = *std::move(stream);
  }

  // Unwritten.
  DeviceTensor Empty(DType dtype, Shape shape) {
    const TensorView sized(nullptr, dtype, shape);
    DeviceTensor tensor{TestMemory(*device_, sized.size_bytes(), PoisonOf(dtype)), {}};
    tensor.view = TensorView(tensor.memory.data(), dtype, shape);
    return tensor;
  }

  // `values` rounded to the type.
  DeviceTensor Upload(const std::vector<float>& values, DType dtype, Shape shape) {
    DeviceTensor tensor = Empty(dtype, shape);
    Write(values, tensor.view);
    return tensor;
  }
  DeviceTensor Upload(const std::vector<int32_t>& values) {
    DeviceTensor tensor = Empty(DType::kInt32, {static_cast<int64_t>(values.size())});
    EXPECT_TRUE(
        stream_->CopyToDevice(tensor.view.data(), values.data(), tensor.view.size_bytes()).ok());
    return tensor;
  }

  void Write(const std::vector<float>& values, const TensorView& to) {
    BERTRAND_CHECK(static_cast<int64_t>(values.size()) == to.num_elements(), to.ToString());
    std::vector<uint16_t> halves(values.size());
    const void* from = values.data();
    if (to.dtype() != DType::kFloat32) {
      for (size_t i = 0; i < values.size(); ++i) RoundTo(to.dtype(), values[i], &halves[i]);
      from = halves.data();
    }
    const absl::Status status = stream_->CopyToDevice(to.data(), from, to.size_bytes());
    ASSERT_TRUE(status.ok()) << Message(status);
  }

  std::vector<float> Read(const TensorView& from) {
    std::vector<float> values(static_cast<size_t>(from.num_elements()));
    std::vector<uint16_t> halves(values.size());
    const bool whole = from.dtype() == DType::kFloat32;
    ReadBack(*stream_, whole ? static_cast<void*>(values.data()) : halves.data(), from.data(),
             from.dtype(), values.size());
    for (size_t i = 0; i < values.size() && !whole; ++i) {
      values[i] = from.dtype() == DType::kFloat16 ? ToHostFloat(simt::Half{halves[i]})
                                                  : ToHostFloat(simt::BFloat16{halves[i]});
    }
    return values;
  }
  std::vector<int32_t> ReadInts(const TensorView& from) {
    std::vector<int32_t> values(static_cast<size_t>(from.num_elements()));
    ReadBack(*stream_, values.data(), from.data(), from.dtype(), values.size());
    return values;
  }

  std::vector<float> Random(int64_t count, float scale, DType dtype) {
    std::uniform_real_distribution<float> uniform(-scale, scale);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = RoundTo(dtype, uniform(random_));
    return values;
  }

  // Does `run` under every thread order (on CUDA twice); it must succeed, and read(), what it left,
  // must always be the same bit by bit. Returns that.
  std::vector<float> UnderEveryOrder(const std::function<absl::Status()>& run,
                                     const std::function<std::vector<float>()>& read) {
    std::vector<float> first;
    for (int round = 0; round < kRounds; ++round) {
      SetOrder(round);
      const absl::Status status = run();
      EXPECT_TRUE(status.ok()) << Message(status);
      if (!status.ok()) return first;
      const std::vector<float> result = read();
      if (round == 0) first = result;
      EXPECT_EQ(std::memcmp(first.data(), result.data(), first.size() * sizeof(float)), 0)
          << "differs in round " << round;
    }
    SetOrder(0);
    return first;
  }

  // Does `run` and expects that its accesses to global memory took no more sectors than their bytes
  // fill, `slack` sectors a request aside. Only the emulator counts.
#ifdef __CUDACC__
  void ExpectIdealSectors(const std::function<absl::Status()>&, double = 0) {}
#else
  void ExpectIdealSectors(const std::function<absl::Status()>& run, double slack = 0) {
    device_->set_emulation({.count_requests = true});
    device_->TakeReports();
    const absl::Status status = run();
    EXPECT_TRUE(status.ok()) << Message(status);
    int64_t requests = 0;
    for (const auto& [kernel, report] : device_->TakeReports()) {
      for (const auto& site : report.sites) {
        using simt::emulator::AccessKind;
        if (site.kind != AccessKind::kGlobalLoad && site.kind != AccessKind::kGlobalStore) continue;
        requests += site.requests;
        EXPECT_LE(static_cast<double>(site.passes),
                  static_cast<double>(site.ideal) + slack * static_cast<double>(site.requests))
            << kernel << ", " << site.site.file << ":" << site.site.line << ", " << site.requests
            << " requests";
      }
    }
    EXPECT_GT(requests, 0);
    device_->set_emulation({});
  }
#endif

  std::unique_ptr<simt::Device> device_;
  std::unique_ptr<simt::Stream> stream_;
  std::mt19937 random_{20241126};

 private:
#ifdef __CUDACC__
  static constexpr int kRounds = 2;
  void SetOrder(int) {}
#else
  static constexpr int kRounds = 4;
  void SetOrder(int round) {
    using simt::emulator::ThreadOrder;
    const ThreadOrder orders[kRounds] = {ThreadOrder::kGreedy, ThreadOrder::kRoundRobin,
                                         ThreadOrder::kReversed, ThreadOrder::kRandom};
    device_->set_emulation({.order = orders[round], .seed = 7});
  }
#endif
};

// |actual - expected| <= absolute + relative * |expected| for every element.
inline void ExpectClose(const std::vector<float>& actual, const std::vector<float>& expected,
                        double absolute, double relative) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const double bound = absolute + relative * std::abs(double{expected[i]});
    ASSERT_LE(std::abs(double{actual[i]} - double{expected[i]}), bound)
        << "element " << i << " of " << actual.size() << ": " << actual[i] << ", expected "
        << expected[i];
  }
}

// Host values as a float32 tensor, for the references.
inline TensorView HostView(std::vector<float>& values, std::initializer_list<int64_t> shape) {
  return {values.data(), DType::kFloat32, shape};
}
inline TensorView HostView(std::vector<int32_t>& values) {
  return {values.data(), DType::kInt32, {static_cast<int64_t>(values.size())}};
}

}  // namespace bertrand
