// Cases that fail, which KernelCases has none of: what the benchmark says of them, and that it goes
// on.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "kernels/gpu/copy.h"
#include "kernels/status.h"
#include "tests/gpu/kernel_benchmark.h"

namespace bertrand::gpu {
namespace {

using testing::HasSubstr;

class KernelBenchmarkTest : public testing::Test {
 protected:
  CaseResult Measured(const std::function<CaseLaunch(Operands&)>& make) {
    KernelCase test;
    test.name = "a case";
    test.make = make;
    return MeasureCase(test, {.rounds = 3, .round_us = 0, .working_set_bytes = 5000}, *stream_);
  }

  std::unique_ptr<simt::Device> device_ = simt::Device::Emulated(simt::ProfileH100());
  std::unique_ptr<simt::Stream> stream_ = *device_->CreateStream();
};

TEST_F(KernelBenchmarkTest, OperandsTakeTurns) {
  std::set<void*> written;
  const CaseResult result = Measured([&](Operands& o) -> CaseLaunch {
    const TensorView x = o.Random(DType::kFloat16, {256});
    const TensorView y = o.Output(DType::kFloat32, {256});
    return [=, &written](simt::Stream& stream) {
      written.insert(y.data());
      return Convert(x, y, stream);
    };
  });
  ASSERT_TRUE(result.status.ok()) << Message(result.status);
  EXPECT_EQ(result.copies, 4);  // of 1536 bytes
  EXPECT_EQ(written.size(), 4u);
  EXPECT_EQ(result.working_set_bytes, 4u * 1536);
  EXPECT_GT(result.us, 0);
}

TEST_F(KernelBenchmarkTest, AnOutputThatIsNotWritten) {
  const CaseResult result = Measured([](Operands& o) -> CaseLaunch {
    const TensorView x = o.Random(DType::kFloat16, {256});
    const TensorView y = o.Output(DType::kFloat32, {256});
    const TensorView rest = o.Output(DType::kFloat16, {3});
    return [=](simt::Stream& stream) { return rest ? Convert(x, y, stream) : absl::OkStatus(); };
  });
  EXPECT_THAT(Message(result.status),
              HasSubstr("element 0 of the output float16[3] was not written"));
}

TEST_F(KernelBenchmarkTest, ALaunchThatIsRefused) {
  const CaseResult result = Measured([](Operands& o) -> CaseLaunch {
    const TensorView x = o.Random(DType::kFloat16, {256});
    return [=](simt::Stream& stream) { return Convert(x, x, stream); };
  });
  EXPECT_FALSE(result.status.ok());
}

TEST_F(KernelBenchmarkTest, NoRoomForOperands) {
  const CaseResult result = Measured([](Operands& o) -> CaseLaunch {
    const TensorView x = o.Random(DType::kFloat16, {int64_t{1} << 40});
    EXPECT_FALSE(x);
    EXPECT_FALSE(o.Output(DType::kFloat16, {1}));
    return [](simt::Stream&) { return absl::OkStatus(); };
  });
  EXPECT_EQ(result.status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(KernelBenchmarkTest, FailuresAreInTheTableAndTheOthersToo) {
  std::vector<KernelCase> cases(2);
  cases[0].name = "first";
  cases[1].name = "second";
  cases[1].bytes = 3e6;
  cases[1].flops = 4e9;
  cases[1].tensor_cores = true;
  std::vector<CaseResult> results(2);
  results[0].status = Internal("the \"reason\"");
  results[1].us = 10;
  results[1].us_min = 9;
  results[1].us_max = 11;
  const Ceilings ceilings = {1000, 800, "library", 50};
  EXPECT_EQ(FloorUs(cases[1], ceilings), 5);
  const std::string table = ResultTable(cases, results, ceilings);
  EXPECT_THAT(table, HasSubstr("| first |  | failed: the \"reason\" | | | |\n"));
  EXPECT_THAT(table, HasSubstr("| second |  | 10.00 | 20 % | 400.0 TFLOP/s | 50 % |\n"));
  const std::string json = ResultJson(cases, results, ceilings, device_->info());
  EXPECT_THAT(json, HasSubstr("\"error\": \"the \\\"reason\\\"\""));
  EXPECT_THAT(json, HasSubstr("\"limit\": \"products\", \"limit_us\": 5, \"share\": 0.5"));

  // A peer may be absent, but not the device.
  cases[0].peer = true;
  results[0].status = FailedPrecondition("no such file");
  EXPECT_THAT(ResultTable(cases, results, ceilings),
              HasSubstr("| first |  | not available: no such file | | | |\n"));
  EXPECT_THAT(ResultJson(cases, results, ceilings, device_->info()),
              HasSubstr("\"not_available\": \"no such file\""));
  results[0].status = Internal("lost");
  EXPECT_THAT(ResultTable(cases, results, ceilings), HasSubstr("| first |  | failed: lost |"));
}

TEST(KernelCasesTest, NamesAreUniqueAndSizesReal) {
  std::set<std::string> names;
  for (const KernelCase& test : KernelCases(CaseSizes::kReal)) {
    EXPECT_TRUE(names.insert(test.name).second) << test.name;
    EXPECT_GT(test.bytes, 0) << test.name;
  }
  EXPECT_EQ(MixedLoad(CaseSizes::kReal).tokens(), 16384);
  EXPECT_EQ(KernelCases(CaseSizes::kTiny).size(), names.size());
  // What models run on a Hopper, in 8 bits, and beside whom.
  for (const char* const name :
       {"hopper_gemm/bert-large/ffn-up/12288/float16", "hopper_gemm/bert-base/qkv/12288/float16",
        "hopper_gemm_narrow/bert-base/ffn-up/512/float16",
        "cudnn_graph/bert-large/ffn-up/12288/float16", "cublaslt/bert-large/ffn-up/12288/float8",
        "float_gemm/bert-base/ffn-up/128/float8", "attention_float8/bert-large/squad/float16",
        "layer_norm_residual_float8/bert-large/squad/float16",
        "bias_gelu_erf_float8/bert-large/squad/float16", "best_spans/squad/float16"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

}  // namespace
}  // namespace bertrand::gpu
