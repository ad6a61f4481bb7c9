#pragma once

// What the suites over all backends share: the backends (the reference, the emulated GPU, and the
// CPU's once for each instruction set that this machine can run), guarded tensors, and random
// values.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"

namespace bertrand {

// One unit in the last place of float32 at 1, halved: the relative error of one rounding.
inline constexpr double kRounding = 0x1p-24;

struct DeviceCase {
  std::string device;
  int64_t target;  // Highway's bit, 0 for the others
  std::string name;
};

// The reference and the emulated GPU, then "cpu" with every instruction set.
std::vector<DeviceCase> DeviceCases();

// Numbers in a tensor's shape between guards: every element starts as NaN, so that a missing write
// shows, and the floats before and after must keep their pattern. The first element is deliberately
// not aligned to a vector.
class GuardedTensor {
 public:
  GuardedTensor(std::initializer_list<int64_t> shape) : shape_(shape) {
    int64_t count = 1;
    for (const int64_t dim : shape) count *= dim;
    size_ = static_cast<size_t>(count);
    floats_.assign(size_ + 2 * kGuard, std::numeric_limits<float>::quiet_NaN());
    for (size_t i = 0; i < kGuard; ++i) floats_[i] = floats_[kGuard + size_ + i] = kPattern;
  }

  TensorView view() {
    switch (shape_.size()) {
      case 1:
        return {data(), DType::kFloat32, {shape_[0]}};
      case 2:
        return {data(), DType::kFloat32, {shape_[0], shape_[1]}};
      case 3:
        return {data(), DType::kFloat32, {shape_[0], shape_[1], shape_[2]}};
      default:
        return {data(), DType::kFloat32, {shape_[0], shape_[1], shape_[2], shape_[3]}};
    }
  }
  float* data() { return floats_.data() + kGuard; }
  size_t size() const { return size_; }
  float& operator[](size_t index) { return floats_[kGuard + index]; }
  float operator[](size_t index) const { return floats_[kGuard + index]; }

  GuardedTensor& Randomize(std::mt19937& random, float scale = 1) {
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (size_t i = 0; i < size_; ++i) (*this)[i] = uniform(random);
    return *this;
  }

  void ExpectGuardsIntact() const {
    for (size_t i = 0; i < kGuard; ++i) {
      ASSERT_EQ(floats_[i], kPattern) << "written " << kGuard - i << " floats before the tensor";
      ASSERT_EQ(floats_[kGuard + size_ + i], kPattern) << "written " << i << " floats after it";
    }
  }

  // |this - expected| <= absolute + relative * |expected| everywhere, and the guards are intact.
  void ExpectNear(const GuardedTensor& expected, double absolute, double relative) const {
    ExpectGuardsIntact();
    ASSERT_EQ(size_, expected.size());
    for (size_t i = 0; i < size_; ++i) {
      const double bound = absolute + relative * std::abs(double{expected[i]});
      ASSERT_LE(std::abs(double{(*this)[i]} - double{expected[i]}), bound)
          << "element " << i << " of " << size_ << ": " << (*this)[i] << ", expected "
          << expected[i];
    }
  }

 private:
  static constexpr size_t kGuard = 37;
  static constexpr float kPattern = 1234.5f;
  std::vector<int64_t> shape_;
  size_t size_;
  std::vector<float> floats_;
};

inline TensorView IntView(std::vector<int32_t>& values) {
  return {values.data(), DType::kInt32, {static_cast<int64_t>(values.size())}};
}

class DeviceTest : public testing::TestWithParam<DeviceCase> {
 protected:
  DeviceTest();
  ~DeviceTest() override;

  std::unique_ptr<PackedLinear> Pack(std::span<const float> weight, std::span<const float> bias,
                                     int64_t out_features, int64_t in_features);

  // Four threads on whatever cores there are: tiles must not depend on who runs them.
  ThreadPool pool_{4};
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
  std::mt19937 random_{20240607};
};

// EXPECT that `status` is InvalidArgument and says `text`.
void ExpectInvalid(const absl::Status& status, const std::string& text);

inline std::string CaseName(const testing::TestParamInfo<DeviceCase>& info) {
  return info.param.name;
}

}  // namespace bertrand
