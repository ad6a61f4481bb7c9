// What the GPU's backend adds to the operations: types, replayed work, tuning, results that travel
// in parts.

#include "kernels/gpu/gpu_backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

// What float16 has no number for is said at load, with what to do.
TEST(EmulatedBackendTest, ValuesBeyondFloat16AreRefused) {
  ThreadPool pool(1);
  const std::vector<float> weight = {1, -65504, 65505, 2};
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    const auto backend = CreateBackend("emulated", pool, dtype);
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_TRUE((*backend)->PackLinear(std::span(weight).first(2), {}, 1, 2).ok());
    const absl::Status status = (*backend)->PackLinear(weight, {}, 2, 2).status();
    if (dtype == DType::kBFloat16) {
      EXPECT_TRUE(status.ok()) << status;
    } else {
      ExpectInvalid(status, "a value of 65505.000000 does not fit float16");
      EXPECT_NE(Message(status).find("--dtype bfloat16"), std::string::npos) << status;
    }
  }
}

// Work is done as it is once, recorded once, and then replayed, with what the operands have in them
// by then; of more keys than graphs are kept for, those that were replayed longest ago go. After
// tuning all of that begins anew.
TEST(EmulatedBackendTest, WorkIsReplayed) {
  ThreadPool pool(1);
  const auto backend = *CreateBackend("emulated", pool);
  ASSERT_TRUE(backend->replays());
  const auto stream = *backend->CreateStream(4);
  const auto x_buffer = *backend->Allocate(16), y_buffer = *backend->Allocate(16);
  const auto rows_buffer = *backend->Allocate(8);
  const TensorView x(x_buffer->data(), DType::kFloat32, {2, 2});
  const TensorView y(y_buffer->data(), DType::kFloat32, {2, 2});
  const TensorView rows(rows_buffer->data(), DType::kInt32, {2});
  const int32_t swapped[] = {1, 0};
  ASSERT_TRUE(backend->CopyToDevice(*stream, swapped, rows.data(), sizeof(swapped)).ok());
  int num_calls = 0;
  const auto work = [&] {
    ++num_calls;
    return backend->Gather(*stream, {x, rows, 0, y});
  };
  for (float run = 0; run < 5; ++run) {
    const std::vector<float> in = {run, 1, 2, 3};
    std::vector<float> out(4);
    ASSERT_TRUE(backend->CopyToDevice(*stream, in.data(), x.data(), 16).ok());
    ASSERT_TRUE(backend->Replay(*stream, 7, work).ok());
    ASSERT_TRUE(backend->CopyToHost(*stream, y, out).ok());
    ASSERT_TRUE(backend->Synchronize(*stream).ok());
    EXPECT_EQ(out, (std::vector<float>{2, 3, run, 1}));
  }
  EXPECT_EQ(num_calls, 2);
  for (uint64_t key = 100; key < 200; ++key) {
    ASSERT_TRUE(backend->Replay(*stream, key, work).ok());
  }
  EXPECT_EQ(num_calls, 102);
  ASSERT_TRUE(backend->Replay(*stream, 199, work).ok());  // seen not long ago: recorded
  ASSERT_TRUE(backend->Replay(*stream, 7, work).ok());    // forgotten: as the first time
  EXPECT_EQ(num_calls, 104);
  // What was chosen by Tune has to be recorded, and before that to run as it is.
  ASSERT_TRUE(backend->Tune(16, std::chrono::milliseconds(0), false).ok());
  for (int run = 0; run < 3; ++run) ASSERT_TRUE(backend->Replay(*stream, 199, work).ok());
  EXPECT_EQ(num_calls, 106);
}

// Shapes that a forward has had are tuned for all numbers of rows, and not again by the next
// backend; without time only what is known is settled.
TEST(EmulatedBackendTest, ShapesAreTunedAndKept) {
  const std::string folder = testing::TempDir() + "/backend_test_gemm";
  std::filesystem::remove_all(folder);
  int num_measured = 0;
  const auto tune = [&](int64_t max_tokens, int milliseconds) {
    gpu::GpuBackendOptions options = {.name = "emulated", .dtype = DType::kFloat16};
    options.gemm.cache_folder = folder;
    options.gemm.measure_us =
        [&](const gpu::GemmChoice&,
            const std::function<absl::Status()>& run) -> absl::StatusOr<double> {
      ++num_measured;
      BERTRAND_RETURN_IF_ERROR(run());
      return 1.5;
    };
    const auto backend =
        *gpu::CreateGpuBackend(simt::Device::Emulated(simt::ProfileH100()), options);
    const auto stream = *backend->CreateStream(4);
    const std::vector<float> ones(32 * 24, 1);
    const auto weight = *backend->PackLinear(ones, {}, 32, 24);
    const auto x = *backend->Allocate(2 * 24 * 2), y = *backend->Allocate(2 * 32 * 2);
    const TensorView in(x->data(), DType::kFloat16, {2, 24});
    EXPECT_TRUE(backend->Upload(std::span(ones).first(48), in).ok());
    const TensorView out(y->data(), DType::kFloat16, {2, 32});
    EXPECT_TRUE(backend->Linear(*stream, {.x = in, .weight = weight.get(), .y = out}).ok());
    return *backend->Tune(max_tokens, std::chrono::milliseconds(milliseconds), true);
  };
  const TuningReport report = tune(20, 1'000'000);
  const std::vector<std::string>& lines = report.shapes;
  ASSERT_EQ(lines.size(), 2u);  // up to 16 rows, and up to 32
  EXPECT_EQ(lines[0].rfind("gemm 16 x 32 x 24 float16: ", 0), 0u) << lines[0];
  EXPECT_NE(lines[0].find(", 1.5"), std::string::npos) << lines[0];
  EXPECT_EQ(report.notes, std::vector<std::string>{"gemm: fastest is small_gemm for 2 shapes"});
  EXPECT_GT(num_measured, 0);
  num_measured = 0;
  EXPECT_EQ(tune(20, 0).shapes, lines);
  EXPECT_EQ(tune(40, 0).notes.back(), "gemm: some shapes stay untuned, the time is over");
  EXPECT_EQ(num_measured, 0);
  std::filesystem::remove_all(folder);
}

// Heads that a forward has had are tried before shapes are tuned.
TEST(EmulatedBackendTest, AttentionIsChosen) {
  gpu::GpuBackendOptions options = {.name = "emulated", .dtype = DType::kFloat16};
  options.measure_attention_us = [](bool hopper, int, const std::function<absl::Status()>&) {
    return hopper ? 1.0 : 2.0;
  };
  const auto backend = *gpu::CreateGpuBackend(simt::Device::Emulated(simt::ProfileH100()), options);
  const auto stream = *backend->CreateStream(3);
  const auto memory = *backend->Allocate(3 * 4 * 16 * 2), lengths = *backend->Allocate(8);
  const TensorView qkv(memory->data(), DType::kFloat16, {3, 3, 1, 16});
  const TensorView out(static_cast<char*>(memory->data()) + 9 * 32, DType::kFloat16, {3, 1, 16});
  const std::vector<float> zeros(9 * 16);
  ASSERT_TRUE(backend->Upload(zeros, qkv).ok());
  const TensorView cu_seqlens(lengths->data(), DType::kInt32, {2});
  const int32_t host_lengths[] = {0, 3};
  ASSERT_TRUE(backend->CopyToDevice(*stream, host_lengths, lengths->data(), 8).ok());
  ASSERT_TRUE(backend->Attention(*stream, {qkv, cu_seqlens, host_lengths, 0.25f, out}).ok());
  const TuningReport without = *backend->Tune(16, std::chrono::milliseconds(1'000'000), false);
  ASSERT_FALSE(without.notes.empty());
  EXPECT_EQ(without.notes[0],
            "hopper_attention and hopper_gemm, not verified on a GPU, are unused");
  const TuningReport report = *backend->Tune(16, std::chrono::milliseconds(1'000'000), true);
  ASSERT_FALSE(report.notes.empty());
  const std::string expected =
      "attention 1 heads of 16 float16: hopper_attention from 128 tokens a text";
  EXPECT_EQ(report.notes[0].substr(0, expected.size()), expected);
}

// A layer of few rows, much k and a norm: with our own kernel k is cut into splits, which the norm
// adds up, the same in every run; the same layer in two launches is a rounding apart.
TEST(EmulatedBackendTest, NormAddsSplits) {
  constexpr int64_t kRows = 5, kIn = 3072, kOut = 256;
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-1, 1);
  const auto values = [&](int64_t count) {
    std::vector<float> made(static_cast<size_t>(count));
    for (float& value : made) value = uniform(random);
    return made;
  };
  const std::vector<float> weight = values(kOut * kIn), bias = values(kOut),
                           x = values(kRows * kIn), residual = values(kRows * kOut),
                           gamma = values(kOut);
  using OwnKernels = gpu::GemmOptions::OwnKernels;
  const auto run = [&](OwnKernels own, std::vector<std::string>* names) {
    auto device = simt::Device::Emulated(simt::ProfileH100());
    device->set_emulation({.count_requests = true});
    simt::Device* const emulated = device.get();
    gpu::GpuBackendOptions options = {.name = "emulated", .dtype = DType::kFloat16};
    options.gemm.own_kernels = own;
    const auto backend = *gpu::CreateGpuBackend(std::move(device), options);
    const auto stream = *backend->CreateStream(kRows);
    std::vector<std::unique_ptr<Buffer>> buffers;
    const auto upload = [&](const std::vector<float>& host, const auto&... shape) {
      buffers.push_back(*backend->Allocate(host.size() * 2));
      const TensorView view(buffers.back()->data(), DType::kFloat16, {shape...});
      EXPECT_TRUE(backend->Upload(host, view).ok());
      return view;
    };
    const auto packed = *backend->PackLinear(weight, bias, kOut, kIn);
    const TensorView y = upload(residual, kRows, kOut), norm = upload(gamma, kOut);
    const LinearParams params = {.x = upload(x, kRows, kIn),
                                 .weight = packed.get(),
                                 .residual = y,
                                 .y = y,
                                 .norm = {norm, norm, 1e-12f}};
    emulated->TakeReports();
    EXPECT_TRUE(backend->Linear(*stream, params).ok());
    for (const auto& [name, report] : emulated->TakeReports()) names->push_back(name);
    std::vector<float> out(residual.size());
    EXPECT_TRUE(backend->CopyToHost(*stream, y, out).ok());
    EXPECT_TRUE(backend->Synchronize(*stream).ok());
    return out;
  };
  std::vector<std::string> names, again, plain;
  const std::vector<float> fused = run(OwnKernels::kAlways, &names);
  EXPECT_EQ(names, (std::vector<std::string>{"layer_norm_splits", "small_gemm"}));
  EXPECT_EQ(run(OwnKernels::kAlways, &again), fused);
  const std::vector<float> apart = run(OwnKernels::kRarely, &plain);
  EXPECT_EQ(plain, (std::vector<std::string>{"host_gemm", "layer_norm"}));
  for (size_t i = 0; i < fused.size(); ++i) {
    // The sum's rounding and the result's, of values up to 4; both are scaled to a variance of 1.
    ASSERT_NEAR(fused[i], apart[i], 4 * 2 * 0x1p-10) << i;
  }
}

// Results come in any number of parts, also through less memory than they need.
TEST(EmulatedBackendTest, PartsOfAllSizesArrive) {
  ThreadPool pool(1);
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32}) {
    const auto backend = *CreateBackend("emulated", pool, dtype);
    const auto stream = *backend->CreateStream(4);
    constexpr int64_t kSize = 3'000'001;
    std::vector<float> in(kSize), out(kSize, -1);
    for (size_t i = 0; i < kSize; ++i) in[i] = static_cast<float>(i % 257) - 128;
    const auto buffer = *backend->Allocate(kSize * SizeOf(dtype));
    const TensorView x(buffer->data(), dtype, {kSize});
    ASSERT_TRUE(backend->Upload(in, x).ok());
    std::vector<std::span<float>> parts;
    for (size_t first = 0, size = 0; first < kSize; first += size, size = size * 2 + 1) {
      size = std::min(size, kSize - first);
      parts.push_back(std::span(out).subspan(first, size));
    }
    ASSERT_TRUE(backend->CopyToHost(*stream, x, parts).ok());
    ASSERT_TRUE(backend->Synchronize(*stream).ok());
    EXPECT_EQ(out, in) << Name(dtype);
    // From an address that no kernel reads a vector at.
    const TensorView odd(static_cast<char*>(x.data()) + SizeOf(dtype), dtype, {3});
    ASSERT_TRUE(backend->Upload(std::span(in).first(3), odd).ok());
    ASSERT_TRUE(backend->CopyToHost(*stream, odd, std::span(out).first(3)).ok());
    ASSERT_TRUE(backend->Synchronize(*stream).ok());
    EXPECT_TRUE(std::equal(in.begin(), in.begin() + 3, out.begin())) << Name(dtype);
  }
}

// Subnormal numbers, infinities and NaN become the same float32.
TEST(EmulatedBackendTest, SpecialValuesOf16BitsArrive) {
  ThreadPool pool(1);
  const std::vector<std::pair<uint16_t, float>> halves = {{0x0001, 0x1p-24f},
                                                          {0x8400, -0x1p-14f},
                                                          {0x7bff, 65504},
                                                          {0x7c00, INFINITY},
                                                          {0x8000, -0.0f}};
  const auto backend = *CreateBackend("emulated", pool, DType::kFloat16);
  const auto stream = *backend->CreateStream(4);
  const auto buffer = *backend->Allocate(2);
  const TensorView x(buffer->data(), DType::kFloat16, {1});
  for (const auto& [bits, expected] : halves) {
    std::vector<float> out(1);
    ASSERT_TRUE(backend->CopyToDevice(*stream, &bits, x.data(), 2).ok());
    ASSERT_TRUE(backend->CopyToHost(*stream, x, out).ok());
    ASSERT_TRUE(backend->Synchronize(*stream).ok());
    EXPECT_EQ(std::bit_cast<uint32_t>(out[0]), std::bit_cast<uint32_t>(expected)) << bits;
  }
  const uint16_t nan = 0x7e01;
  std::vector<float> out(1);
  ASSERT_TRUE(backend->CopyToDevice(*stream, &nan, x.data(), 2).ok());
  ASSERT_TRUE(backend->CopyToHost(*stream, x, out).ok());
  ASSERT_TRUE(backend->Synchronize(*stream).ok());
  EXPECT_TRUE(std::isnan(out[0]));
}

}  // namespace
}  // namespace bertrand
