#pragma once

// A GEMM to test with: random operands on a device, and the bar for its result.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <span>
#include <vector>

#include "kernels/bias_activation/bias_activation.h"
#include "kernels/bias_activation/bias_activation_reference.h"
#include "kernels/gemm/linear_reference.h"
#include "kernels/gemm/small_gemm.h"
#include "tests/kernels/emulated_fixture.h"

namespace bertrand::gpu {

inline constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kGeluErf, Activation::kGeluTanh, Activation::kRelu,
    Activation::kSilu, Activation::kTanh,    Activation::kSigmoid};

struct Shape {
  int m, n, k;
};

class Unpacked : public PackedLinear {
 public:
  Unpacked(int64_t n, int64_t k) : PackedLinear(n, k, 0) {}
};

inline std::vector<float> RandomFloats(std::mt19937& random, int64_t count, float scale) {
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

// One product: its operands, and what it should give.
template <typename T>
class Problem {
 public:
  Problem(simt::Stream& stream, const Shape& shape, std::mt19937& random)
      : shape_(shape),
        x_(stream, {shape.m, shape.k}, RandomFloats(random, shape.m * shape.k, 1)),
        weight_(stream, {shape.n, shape.k},
                RandomFloats(random, shape.n * shape.k, 2 / std::sqrt(shape.k * 1.0f))),
        bias_(stream, {shape.n}, RandomFloats(random, shape.n, 1)),
        residual_(stream, {shape.m, shape.n}, RandomFloats(random, shape.m * shape.n, 1)),
        y_(stream, {shape.m, shape.n}) {}

  GemmParams Params(Activation activation, bool with_bias, bool with_residual) const {
    return {x_.view(),
            weight_.view(),
            with_bias ? bias_.view() : TensorView(),
            activation,
            with_residual ? residual_.view() : TensorView(),
            y_.view()};
  }
  // Lets a kernel write x and the residual, as they are: one that the product's own may overlap.
  absl::Status WriteByKernel(simt::Stream& stream) const {
    for (const TensorView& view : {x_.view(), residual_.view()}) {
      BERTRAND_RETURN_IF_ERROR(
          BiasActivation({view, TensorView(), Activation::kNone, TensorView(), view}, stream));
    }
    return absl::OkStatus();
  }
  const DeviceTensor<T>& residual() const { return residual_; }
  const DeviceTensor<T>& y() const { return y_; }

  // y is within the bar of `params`' formula.
  void ExpectRight(const GemmParams& params) const { ExpectRight(params, y_.Download()); }
  void ExpectRight(const GemmParams& params, const std::vector<float>& actual) const {
    SCOPED_TRACE(testing::Message() << params.x.ToString() << " " << params.weight.ToString()
                                    << ", activation " << static_cast<int>(params.activation));
    const std::vector<float> exact = Exact(params);
    // Float's share: a few operations of an activation, on sums of up to about 4. A naive result
    // may be right by luck: one rounding is always allowed.
    double magnitude = 0;
    for (const float value : exact) magnitude = std::max(magnitude, std::abs(double{value}));
    const double slack = std::max(1.01 * magnitude * kRoundingOf<T>, 16 * 0x1p-24);
    const std::vector<double> exact64(exact.begin(), exact.end());
    ASSERT_EQ(actual.size(), exact.size());
    EXPECT_LE(MaxError(actual, exact64), std::max(2 * MaxError(Naive(params), exact64), slack));
  }

 private:
  std::vector<float> Exact(const GemmParams& params) const {
    std::vector<float> x = x_.values(), residual = residual_.values(), y(y_.size());
    const Unpacked weight(shape_.n, shape_.k);
    LinearParams linear;
    linear.x = {x.data(), DType::kFloat32, {shape_.m, shape_.k}};
    linear.weight = &weight;
    linear.activation = params.activation;
    linear.y = {y.data(), DType::kFloat32, {shape_.m, shape_.n}};
    if (params.residual) linear.residual = {residual.data(), DType::kFloat32, {shape_.m, shape_.n}};
    LinearReference(linear, weight_.values(),
                    params.bias ? bias_.values() : std::span<const float>());
    return y;
  }

  // Products added up in float32, and a rounding to the type after each operation, as PyTorch does
  // it with a tensor between operations.
  std::vector<float> Naive(const GemmParams& params) const {
    std::vector<float> y(y_.size());
    for (size_t at = 0; at < y.size(); ++at) {
      const size_t k = static_cast<size_t>(shape_.k), n = static_cast<size_t>(shape_.n);
      const float* x = x_.values().data() + at / n * k;
      const float* weight = weight_.values().data() + at % n * k;
      float sum = params.bias ? bias_.values()[at % n] : 0.0f;
      for (size_t i = 0; i < k; ++i) sum += x[i] * weight[i];
      sum = Rounded<T>(sum);
      sum = Rounded<T>(ActivationReference(params.activation, sum));
      y[at] = params.residual ? Rounded<T>(sum + residual_.values()[at]) : sum;
    }
    return y;
  }

  Shape shape_;
  DeviceTensor<T> x_, weight_, bias_, residual_, y_;
};

}  // namespace bertrand::gpu
