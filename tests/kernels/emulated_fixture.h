#pragma once

// What suites over emulated kernels share: a device, tensors in its memory rounded to their type,
// the four thread orders, and the bar that errors are held against.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/simt/runtime.h"
#include "kernels/status.h"
#include "kernels/tensor.h"

namespace bertrand::gpu {

inline constexpr simt::emulator::ThreadOrder kThreadOrders[] = {
    simt::emulator::ThreadOrder::kRoundRobin, simt::emulator::ThreadOrder::kGreedy,
    simt::emulator::ThreadOrder::kReversed, simt::emulator::ThreadOrder::kRandom};

inline float RoundTo(DType dtype, float value) {
  switch (dtype) {
    case DType::kFloat16:
      return simt::ToFloat(simt::FromFloat<simt::Half>(value));
    case DType::kBFloat16:
      return simt::ToFloat(simt::FromFloat<simt::BFloat16>(value));
    default:
      return value;
  }
}

// The distance of 1 to the next value, halved: the relative error of one rounding.
inline double UnitRounding(DType dtype) {
  return dtype == DType::kFloat16 ? 0x1p-11 : dtype == DType::kBFloat16 ? 0x1p-8 : 0x1p-24;
}

// A matrix [rows, columns] (or a row, rows == 0) in device memory, with its values as float32.
// Its memory ends with its last value: the emulator refuses accesses beyond it.
class DeviceTensor {
 public:
  DeviceTensor(const simt::Device& device, simt::Stream& stream, DType dtype, int64_t rows,
               int64_t columns)
      : stream_(stream), dtype_(dtype), rows_(rows), columns_(columns) {
    floats_.resize(static_cast<size_t>((rows == 0 ? 1 : rows) * columns));
    auto memory = device.Allocate(floats_.size() * SizeOf(dtype));
    BERTRAND_CHECK(memory.ok(), memory.status().ToString());
    memory_ = *std::move(memory);
  }

  TensorView view() const {
    if (rows_ == 0) return {memory_.data(), dtype_, {columns_}};
    return {memory_.data(), dtype_, {rows_, columns_}};
  }
  // Values rounded to the type.
  const std::vector<float>& floats() const { return floats_; }
  const float& operator[](size_t index) const { return floats_[index]; }

  DeviceTensor& Randomize(std::mt19937& random, float scale = 1) {
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (float& value : floats_) value = uniform(random);
    return Upload();
  }
  DeviceTensor& Set(const std::vector<float>& floats) {
    floats_ = floats;
    return Upload();
  }

  // The device's values. Fails the test when some were never written.
  std::vector<float> Download() {
    std::vector<char> bytes(floats_.size() * SizeOf(dtype_));
    const absl::Status status = stream_.CopyToHost(bytes.data(), memory_.data(), bytes.size());
    EXPECT_TRUE(status.ok()) << status;
    std::vector<float> floats(floats_.size());
    for (size_t i = 0; i < floats.size(); ++i) floats[i] = Decode(bytes.data(), i);
    return floats;
  }

 private:
  DeviceTensor& Upload() {
    std::vector<char> bytes(floats_.size() * SizeOf(dtype_));
    for (size_t i = 0; i < floats_.size(); ++i) {
      floats_[i] = RoundTo(dtype_, floats_[i]);
      Encode(bytes.data(), i, floats_[i]);
    }
    const absl::Status status = stream_.CopyToDevice(memory_.data(), bytes.data(), bytes.size());
    EXPECT_TRUE(status.ok()) << status;
    return *this;
  }
  void Encode(char* bytes, size_t index, float value) const {
    if (dtype_ == DType::kFloat32) {
      std::memcpy(bytes + 4 * index, &value, 4);
    } else if (dtype_ == DType::kFloat16) {
      const auto half = simt::FromFloat<simt::Half>(value);
      std::memcpy(bytes + 2 * index, &half, 2);
    } else {
      const auto half = simt::FromFloat<simt::BFloat16>(value);
      std::memcpy(bytes + 2 * index, &half, 2);
    }
  }
  float Decode(const char* bytes, size_t index) const {
    if (dtype_ == DType::kFloat32) {
      float value;
      std::memcpy(&value, bytes + 4 * index, 4);
      return value;
    }
    uint16_t bits;
    std::memcpy(&bits, bytes + 2 * index, 2);
    return dtype_ == DType::kFloat16 ? simt::ToFloat(simt::Half{bits})
                                     : simt::ToFloat(simt::BFloat16{bits});
  }

  simt::Stream& stream_;
  DType dtype_;
  int64_t rows_, columns_;
  std::vector<float> floats_;
  simt::Memory memory_;
};

class EmulatedTest : public testing::Test {
 protected:
  EmulatedTest() : device_(simt::Device::Emulated(simt::ProfileH100())) {
    auto stream = device_->CreateStream();
    BERTRAND_CHECK(stream.ok(), stream.status().ToString());
    stream_ = *std::move(stream);
  }

  void Use(simt::emulator::ThreadOrder order, bool count_requests = false) {
    device_->set_emulation({.order = order, .seed = 7, .count_requests = count_requests});
  }
  DeviceTensor Tensor(DType dtype, int64_t rows, int64_t columns) {
    return DeviceTensor(*device_, *stream_, dtype, rows, columns);
  }

  std::unique_ptr<simt::Device> device_;
  std::unique_ptr<simt::Stream> stream_;
  std::mt19937 random_{20240607};
};

// The largest |actual - exact|. Infinite if something is not finite.
inline double LargestError(const std::vector<float>& actual, const std::vector<double>& exact) {
  double largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - exact[i]);
    if (!(error <= largest)) largest = std::isfinite(error) ? error : INFINITY;
  }
  return largest;
}

// The bar: at most twice the error of a naive evaluation in the type, both against float64. A naive
// result may be right by luck: one rounding of the largest value is always allowed, in float32
// four, since there an activation's few operations are not finer than the result.
inline void ExpectWithinTwiceNaive(DType dtype, const std::vector<float>& actual,
                                   const std::vector<float>& naive,
                                   const std::vector<double>& exact) {
  double magnitude = 0;
  for (const double value : exact) magnitude = std::max(magnitude, std::abs(value));
  const double roundings = dtype == DType::kFloat32 ? 4 : 1.01;
  const double bar =
      std::max(2 * LargestError(naive, exact), roundings * magnitude * UnitRounding(dtype));
  EXPECT_LE(LargestError(actual, exact), bar);
}

}  // namespace bertrand::gpu
