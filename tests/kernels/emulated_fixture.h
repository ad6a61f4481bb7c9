#pragma once

// What tests of GPU kernels share: a device (kernel_device.h: the emulator under every thread
// order, and CUDA's), tensors on it, and the bar for errors. A kernel's test is
// tests/kernels/x_kernel_test.cc:
//
//   class ScaleTest : public EmulatedTest {};
//   EMULATED_SUITE(ScaleTest);
//   TEST_P(ScaleTest, EqualsReference) {
//     DeviceTensor<simt::Half> x(stream(), {3, 8}, Random(24)), y(stream(), {3, 8});
//     ASSERT_OK(gpu::Scale({x.view(), y.view()}, stream()));
//     ExpectAtMostTwice(y.Download(), Naive(x.values()), Exact(x.values()));
//   }
//
// Tensors are allocations of their own, memory around them that nobody may touch, and start
// uninitialised: Download fails for elements that the kernel did not write.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/simt/runtime.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "tests/kernels/kernel_device.h"

#define ASSERT_OK(expression)                                              \
  do {                                                                     \
    const absl::Status status_of_call = (expression);                      \
    ASSERT_TRUE(status_of_call.ok()) << bertrand::Message(status_of_call); \
  } while (false)

namespace bertrand {

template <typename T>
inline constexpr DType kDTypeOf = DType::kFloat32;
template <>
inline constexpr DType kDTypeOf<int> = DType::kInt32;
template <>
inline constexpr DType kDTypeOf<simt::Half> = DType::kFloat16;
template <>
inline constexpr DType kDTypeOf<simt::BFloat16> = DType::kBFloat16;
template <>
inline constexpr DType kDTypeOf<simt::Float8> = DType::kFloat8;

// Half the distance from 1 to the next value: the relative error of one rounding.
template <typename T>
inline constexpr double kRoundingOf = 0x1p-24;
template <>
inline constexpr double kRoundingOf<simt::Half> = 0x1p-11;
template <>
inline constexpr double kRoundingOf<simt::BFloat16> = 0x1p-8;
template <>
inline constexpr double kRoundingOf<simt::Float8> = 0x1p-4;

// To T and back.
template <typename T>
float Rounded(double value) {
  if constexpr (std::is_same_v<T, int>) {
    return static_cast<float>(value);
  } else {
    return ToHostFloat(FromHostFloat<T>(static_cast<float>(value)));
  }
}

template <typename T>
class DeviceTensor {
 public:
  // An output: nothing is written yet.
  DeviceTensor(simt::Stream& stream, std::vector<int64_t> shape)
      : stream_(stream), shape_(std::move(shape)) {
    size_t count = 1;
    for (const int64_t dim : shape_) count *= static_cast<size_t>(dim);
    count_ = count;
    memory_ = TestMemory(stream.device(), count * sizeof(T), PoisonOf(kDTypeOf<T>));
  }
  // An input: the values, rounded to T.
  template <typename Value>
  DeviceTensor(simt::Stream& stream, std::vector<int64_t> shape, const std::vector<Value>& values)
      : DeviceTensor(stream, std::move(shape)) {
    BERTRAND_CHECK(values.size() == count_, "as many values as the shape has");
    std::vector<T> typed(count_);
    for (size_t i = 0; i < count_; ++i) {
      if constexpr (std::is_same_v<T, int>) {
        typed[i] = static_cast<int>(values[i]);
        values_.push_back(static_cast<float>(typed[i]));
      } else {
        typed[i] = FromHostFloat<T>(static_cast<float>(values[i]));
        values_.push_back(ToHostFloat(typed[i]));
      }
    }
    const absl::Status status =
        stream.CopyToDevice(memory_.data(), typed.data(), count_ * sizeof(T));
    BERTRAND_CHECK(status.ok(), Message(status));
  }

  TensorView view() const {
    switch (shape_.size()) {
      case 1:
        return {memory_.data(), kDTypeOf<T>, {shape_[0]}};
      case 2:
        return {memory_.data(), kDTypeOf<T>, {shape_[0], shape_[1]}};
      case 3:
        return {memory_.data(), kDTypeOf<T>, {shape_[0], shape_[1], shape_[2]}};
      default:
        return {memory_.data(), kDTypeOf<T>, {shape_[0], shape_[1], shape_[2], shape_[3]}};
    }
  }
  simt::Global<T> global() const { return simt::AsGlobal<T>(view()); }
  T* data() const { return static_cast<T*>(memory_.data()); }
  size_t size() const { return count_; }
  // An input's values as the kernel sees them.
  const std::vector<float>& values() const { return values_; }

  // What is on the device now; fails the test, and is empty, when something was never written.
  std::vector<float> Download() const {
    std::vector<T> typed(count_);
    if (!ReadBack(stream_, typed.data(), memory_.data(), kDTypeOf<T>, count_)) return {};
    std::vector<float> floats;
    for (const T& value : typed) {
      if constexpr (std::is_same_v<T, int>) {
        floats.push_back(static_cast<float>(value));
      } else {
        floats.push_back(ToHostFloat(value));
      }
    }
    return floats;
  }

 private:
  simt::Stream& stream_;
  std::vector<int64_t> shape_;
  size_t count_ = 0;
  TestMemory memory_;
  std::vector<float> values_;
};

inline double MaxError(const std::vector<float>& actual, const std::vector<double>& exact) {
  double error = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double difference = std::abs(double{actual[i]} - exact[i]);
    error = std::isnan(difference) ? HUGE_VAL : std::max(error, difference);
  }
  return error;
}

// The bar for low precision: the largest error is at most twice that of a naive implementation in
// the same precision, both against float64; `slack` allows for float's own roundings.
inline void ExpectAtMostTwice(const std::vector<float>& actual, const std::vector<float>& naive,
                              const std::vector<double>& exact, double slack = 1e-6) {
  ASSERT_EQ(actual.size(), exact.size());
  ASSERT_EQ(naive.size(), exact.size());
  EXPECT_LE(MaxError(actual, exact), 2 * MaxError(naive, exact) + slack);
}

// `narrow` is e4m3 and stands for `wide`, a kernel's result in T, divided by `scale`: a rounding to
// 4 bits, of a value whose own rounding may move it. Subnormals of e4m3 are multiples of 2^-9.
template <typename T>
void ExpectIsFloat8Of(const std::vector<float>& narrow, const std::vector<float>& wide,
                      float scale) {
  ASSERT_EQ(narrow.size(), wide.size());
  for (size_t i = 0; i < wide.size(); ++i) {
    const double expected = std::clamp(double{wide[i]} / scale, -448.0, 448.0);
    ASSERT_NEAR(narrow[i], expected,
                std::abs(expected) * (kRoundingOf<simt::Float8> + 2 * kRoundingOf<T>)+0x1p-10)
        << i;
  }
}

class EmulatedTest : public testing::TestWithParam<EmulatedCase> {
 protected:
  // Another device's limits: set_device(simt::ProfileL4()).
  void set_device(const simt::DeviceInfo& profile) {
    stream_.reset();
    device_ = OpenKernelDevice(profile);
#ifndef __CUDACC__
    device_->set_emulation({.order = GetParam().order, .seed = GetParam().seed});
#endif
    stream_ = std::move(device_->CreateStream()).value();
  }
  void SetUp() override { set_device(simt::ProfileH100()); }

  simt::Device& device() { return *device_; }
  simt::Stream& stream() { return *stream_; }

  std::vector<float> Random(size_t count, float low = -1, float high = 1) {
    std::uniform_real_distribution<float> uniform(low, high);
    std::vector<float> values(count);
    for (float& value : values) value = uniform(random_);
    return values;
  }

  std::mt19937 random_{20240607};

 private:
  std::unique_ptr<simt::Device> device_;
  std::unique_ptr<simt::Stream> stream_;
};

#define EMULATED_SUITE(Suite)                            \
  INSTANTIATE_TEST_SUITE_P(                              \
      Orders, Suite, testing::ValuesIn(EmulatedCases()), \
      [](const testing::TestParamInfo<EmulatedCase>& info) { return info.param.name; })

}  // namespace bertrand
