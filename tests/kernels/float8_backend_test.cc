// Layers in float8 through the GPU's backend: what they are made of, what they read and write, and
// what is refused. (Kernels' float8 is in their own tests, whole forwards in parity/float8_test.)

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/simt/host/convert.h"
#include "kernels/status.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

constexpr int64_t kRows = 5, kIn = 48, kOut = 32;
constexpr float kInputMax = 3, kBiasMax = 0.5f;

std::unique_ptr<Backend> NewBackend(const simt::DeviceInfo& profile, DType dtype,
                                    gpu::GemmOptions gemm = {}) {
  gemm.own_kernels = gpu::GemmOptions::OwnKernels::kRarely;
  return *gpu::CreateGpuBackend(simt::Device::Emulated(profile),
                                {.name = "emulated", .dtype = dtype, .gemm = gemm});
}

// What is left of a number.
float Rounded(float value, float scale) {
  return simt::emulator::Float8ToFloat(simt::emulator::FloatToFloat8(value / scale)) * scale;
}

class Float8BackendTest : public testing::TestWithParam<DType> {
 protected:
  Float8BackendTest() {
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& value : weight_) value = 0.7f * uniform(random_);
    weight_[7] = 0.75f;
    for (float& value : bias_) value = kBiasMax * uniform(random_);
    // Some are beyond what the layer expects.
    for (float& value : x_) value = 1.1f * kInputMax * uniform(random_);
    layer_ = *backend_->PackFloat8(weight_, bias_, kOut, kIn, kInputMax);
    x8_ = Narrow(kRows * kIn);
    std::vector<uint8_t> bytes;
    for (const float value : x_) {
      bytes.push_back(simt::emulator::FloatToFloat8(value / (kInputMax / 448)));
    }
    EXPECT_TRUE(backend_->CopyToDevice(*stream_, bytes.data(), x8_->data(), bytes.size()).ok());
    EXPECT_TRUE(backend_->Synchronize(*stream_).ok());
  }

  std::unique_ptr<Buffer> Narrow(int64_t size) const {
    return *backend_->Allocate(static_cast<size_t>(size));
  }
  std::unique_ptr<Buffer> Wide(int64_t size) const {
    return *backend_->Allocate(static_cast<size_t>(size) * SizeOf(GetParam()));
  }
  TensorView X() const { return {x8_->data(), DType::kFloat8, {kRows, kIn}}; }
  TensorView Y(const Buffer& buffer) const { return {buffer.data(), GetParam(), {kRows, kOut}}; }
  // Of the numbers that e4m3 has for x and the weight, without any other rounding.
  std::vector<double> Products() const {
    const float largest = 0.75f;
    std::vector<double> products;
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t out = 0; out < kOut; ++out) {
        double sum = bias_[static_cast<size_t>(out)];
        for (int64_t in = 0; in < kIn; ++in) {
          sum += double{Rounded(x_[static_cast<size_t>(row * kIn + in)], kInputMax / 448)} *
                 double{Rounded(weight_[static_cast<size_t>(out * kIn + in)], largest / 448)};
        }
        products.push_back(sum);
      }
    }
    return products;
  }
  std::vector<float> Read(const TensorView& y) {
    std::vector<float> values(static_cast<size_t>(y.num_elements()));
    EXPECT_TRUE(backend_->CopyToHost(*stream_, y, values).ok());
    EXPECT_TRUE(backend_->Synchronize(*stream_).ok());
    return values;
  }
  // A rounding of the result, one of the bias, and those of the sums.
  double Tolerance(double value) const {
    const double rounding = GetParam() == DType::kFloat16 ? 0x1p-11 : 0x1p-8;
    return rounding * (std::abs(value) + kBiasMax) + 1e-5;
  }

  const std::unique_ptr<Backend> backend_ = NewBackend(simt::ProfileH100(), GetParam());
  const std::unique_ptr<Stream> stream_ = *backend_->CreateStream(kRows);
  std::mt19937 random_{7};
  std::vector<float> weight_ = std::vector<float>(kOut * kIn), bias_ = std::vector<float>(kOut),
                     x_ = std::vector<float>(kRows * kIn);
  std::unique_ptr<PackedLinear> layer_;
  std::unique_ptr<Buffer> x8_;
};

TEST_P(Float8BackendTest, MultipliesWhatE4m3Has) {
  EXPECT_EQ(layer_->input_scale().ToString(), "float32[1]");
  EXPECT_LT(layer_->size_bytes(), size_t{kOut * kIn * 2});
  const auto buffer = Wide(kRows * kOut);
  const TensorView y = Y(*buffer);
  ASSERT_TRUE(backend_->Linear(*stream_, {.x = X(), .weight = layer_.get(), .y = y}).ok());
  const std::vector<double> products = Products();
  const std::vector<float> sums = Read(y);
  for (size_t i = 0; i < products.size(); ++i) {
    ASSERT_NEAR(sums[i], products[i], Tolerance(products[i])) << i;
  }
  // The residual is added in place.
  ASSERT_TRUE(
      backend_->Linear(*stream_, {.x = X(), .weight = layer_.get(), .residual = y, .y = y}).ok());
  const std::vector<float> doubled = Read(y);
  for (size_t i = 0; i < products.size(); ++i) {
    ASSERT_NEAR(doubled[i], 2 * products[i], 3 * Tolerance(products[i])) << i;
  }
}

TEST_P(Float8BackendTest, WritesTheNextLayersInput) {
  // Its input's scale is such that the largest values saturate.
  const auto next = *backend_->PackFloat8(weight_, {}, kIn, kOut, 1.5f);
  const float scale = 1.5f / 448;
  const auto sums = Wide(kRows * kOut), out = Narrow(kRows * kOut);
  const TensorView narrow(out->data(), DType::kFloat8, {kRows, kOut});
  for (const Activation activation : {Activation::kNone, Activation::kRelu}) {
    ASSERT_TRUE(backend_
                    ->Linear(*stream_, {.x = X(),
                                        .weight = layer_.get(),
                                        .activation = activation,
                                        .y = Y(*sums),
                                        .narrow = {narrow, next->input_scale()}})
                    .ok());
    // Read by a layer of ones on the diagonal, whose scale is 1 / 448.
    std::vector<float> ones(kOut * kOut, 0);
    for (size_t i = 0; i < kOut; ++i) ones[i * kOut + i] = 1;
    const auto identity = *backend_->PackFloat8(ones, {}, kOut, kOut, 1.5f);
    const auto buffer = Wide(kRows * kOut);
    ASSERT_TRUE(
        backend_->Linear(*stream_, {.x = narrow, .weight = identity.get(), .y = Y(*buffer)}).ok());
    const std::vector<float> values = Read(Y(*buffer));
    const std::vector<double> products = Products();
    int num_saturated = 0;
    for (size_t i = 0; i < products.size(); ++i) {
      const double exact =
          activation == Activation::kRelu ? std::max(products[i], 0.0) : products[i];
      const double expected = std::clamp(exact, -1.5, 1.5);
      num_saturated += std::abs(exact) > 1.6 ? 1 : 0;
      ASSERT_NEAR(values[i], expected,
                  0x1p-4 * std::abs(expected) + scale * 0x1p-10 + 2 * Tolerance(exact))
          << i;
    }
    EXPECT_GT(num_saturated, 0);
    // Where there is no activation, y is a result as well.
    if (activation == Activation::kNone) {
      const std::vector<float> wide = Read(Y(*sums));
      for (size_t i = 0; i < products.size(); ++i) {
        ASSERT_NEAR(wide[i], products[i], Tolerance(products[i])) << i;
      }
    }
  }
}

TEST_P(Float8BackendTest, WhatDoesNotFitIsRefused) {
  const auto wide = Wide(kRows * kIn), y = Wide(kRows * kOut), out = Narrow(kRows * kOut);
  const TensorView x(wide->data(), GetParam(), {kRows, kIn});
  ExpectInvalid(backend_->Linear(*stream_, {.x = x, .weight = layer_.get(), .y = Y(*y)}),
                "expected float8 with 2 dimensions");
  const auto plain = *backend_->PackLinear(weight_, bias_, kOut, kIn);
  EXPECT_FALSE(plain->input_scale());
  ExpectInvalid(backend_->Linear(*stream_, {.x = X(), .weight = plain.get(), .y = Y(*y)}),
                "x is float8[5,48]");
  const TensorView scale = layer_->input_scale();
  LinearParams params{.x = X(), .weight = layer_.get(), .y = Y(*y)};
  params.narrow = {{out->data(), DType::kFloat8, {kRows, kIn}}, scale};
  ExpectInvalid(backend_->Linear(*stream_, params), "narrow is float8[5,48]");
  params.narrow = {{out->data(), DType::kFloat8, {kRows, kOut}}, {}};
  ExpectInvalid(backend_->Linear(*stream_, params), "narrow's scale is");
  params.narrow.scale = scale;
  params.residual = Y(*y);
  ExpectInvalid(backend_->Linear(*stream_, params), "none beside narrow");
}

TEST_P(Float8BackendTest, LayersWithoutAScale) {
  const auto error = [&](std::vector<float> weight, int64_t out, int64_t in, float input_max) {
    return backend_->PackFloat8(weight, {}, out, in, input_max).status();
  };
  ExpectInvalid(error(weight_, kOut / 4, kIn * 4, 0.0f / 0.0f), "expected multiples of 16");
  ExpectInvalid(error(weight_, kOut, kIn, NAN), "there is no scale");
  ExpectInvalid(error(weight_, kOut, kIn, -1), "there is no scale");
  ExpectInvalid(error(weight_, kOut, kIn, INFINITY), "there is no scale");
  weight_[3] = NAN;
  ExpectInvalid(error(weight_, kOut, kIn, 1), "a largest value of NaN");
  weight_[3] = -INFINITY;
  ExpectInvalid(error(weight_, kOut, kIn, 1), "there is no scale");
  // Of nothing any scale is right; what float16 has no number for, e4m3 has with its own.
  EXPECT_TRUE(error(std::vector<float>(kOut * kIn, 0), kOut, kIn, 1).ok());
  weight_[3] = 1e6;
  EXPECT_TRUE(error(weight_, kOut, kIn, 1).ok());
}

INSTANTIATE_TEST_SUITE_P(Types, Float8BackendTest,
                         testing::Values(DType::kFloat16, DType::kBFloat16),
                         [](const auto& info) { return Name(info.param); });

TEST(Float8BackendsTest, OthersRefuseByName) {
  ThreadPool pool(1);
  const std::vector<float> weight(16 * 16, 1);
  for (const char* name : {"cpu", "reference"}) {
    const auto backend = *CreateBackend(name, pool);
    const absl::Status status = backend->PackFloat8(weight, {}, 16, 16, 1).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_NE(Message(status).find("device '" + std::string(name) + "' computes in float32"),
              std::string::npos)
        << status;
    // Nor is a second output left out without a word.
    const auto stream = *backend->CreateStream(1);
    std::vector<float> x(16, 1);
    std::vector<uint8_t> bytes(16);
    const TensorView row(x.data(), DType::kFloat32, {1, 16}),
        gamma(x.data(), DType::kFloat32, {16});
    EXPECT_EQ(backend
                  ->LayerNorm(*stream, {.x = row,
                                        .gamma = gamma,
                                        .beta = gamma,
                                        .y = row,
                                        .narrow = {{bytes.data(), DType::kFloat8, {1, 16}},
                                                   {x.data(), DType::kFloat32, {1}}}})
                  .code(),
              absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_TRUE(NewBackend(simt::ProfileL4(), DType::kBFloat16)->CheckFloat8().ok());
  for (const auto& backend : {NewBackend(simt::ProfileA100(), DType::kFloat16),
                              NewBackend(simt::ProfileH100(), DType::kFloat32)}) {
    EXPECT_EQ(backend->CheckFloat8().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(backend->PackFloat8(weight, {}, 16, 16, 1).status(), backend->CheckFloat8());
  }
}

// Tuned as any other shape, and told apart from it.
TEST(Float8BackendsTest, ShapesAreTuned) {
  gpu::GemmOptions gemm;
  gemm.measure_us = [](const gpu::GemmChoice&,
                       const std::function<absl::Status()>& run) -> absl::StatusOr<double> {
    BERTRAND_RETURN_IF_ERROR(run());
    return 1.5;
  };
  const auto backend = NewBackend(simt::ProfileH100(), DType::kFloat16, gemm);
  const auto stream = *backend->CreateStream(4);
  const auto layer = *backend->PackFloat8(std::vector<float>(32 * 48, 1), {}, 32, 48, 1);
  const auto x = *backend->Allocate(48), y = *backend->Allocate(2 * 32);
  const TensorView in(x->data(), DType::kFloat8, {1, 48}), out(y->data(), DType::kFloat16, {1, 32});
  const std::vector<uint8_t> zeros(48);
  ASSERT_TRUE(backend->CopyToDevice(*stream, zeros.data(), x->data(), 48).ok());
  ASSERT_TRUE(backend->Linear(*stream, {.x = in, .weight = layer.get(), .y = out}).ok());
  const auto report = backend->Tune(16, std::chrono::milliseconds(1'000'000), true);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->shapes.size(), 1u);
  const std::string& line = report->shapes.front();
  EXPECT_EQ(line.rfind("gemm 16 x 32 x 48 float8 to float16: ", 0), 0u) << line;
}

}  // namespace
}  // namespace bertrand
