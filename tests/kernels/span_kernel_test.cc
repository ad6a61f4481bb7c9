#include "kernels/span/span.h"
#include "tests/kernels/row_kernel_fixture.h"
#include "tests/kernels/span_problem.h"

namespace bertrand {
namespace {

class SpanKernelTest : public RowKernelTest {
 protected:
  // What the kernel finds under every thread order; logits are rounded to `dtype` first, so that
  // the reference sees the same.
  std::vector<ScoredSpan> Run(SpanProblem& problem, DType dtype, bool every_order = true) {
    for (float& logit : problem.logits) logit = RoundTo(dtype, logit);
    const int64_t tokens = problem.cu_seqlens.back(), rows = problem.first.back();
    const DeviceTensor logits = Upload(problem.logits, dtype, {tokens, 2}),
                       masked = Upload(problem.masked), cu_seqlens = Upload(problem.cu_seqlens),
                       null_tokens = Upload(problem.null_tokens),
                       tokens_max = Upload(problem.tokens_max), first = Upload(problem.first);
    DeviceTensor spans;
    const auto run = [&]() -> absl::Status {
      spans = Empty(DType::kInt32, {rows, 3});
      auto workspace = device_->Allocate(gpu::SpanWorkspaceBytes(tokens));
      BERTRAND_CHECK(workspace.ok(), Message(workspace.status()));
      return gpu::BestSpans({.logits = logits.view,
                             .masked = masked.view,
                             .cu_seqlens = cu_seqlens.view,
                             .cu_seqlens_host = {},
                             .null_tokens = null_tokens.view,
                             .tokens_max = tokens_max.view,
                             .first = first.view,
                             .spans = spans.view},
                            workspace->data(), *stream_);
    };
    const auto read = [&] {
      const std::vector<int32_t> bits = ReadInts(spans.view);
      std::vector<float> floats(bits.size());
      std::memcpy(floats.data(), bits.data(), bits.size() * sizeof(float));
      return floats;
    };
    if (every_order) {
      UnderEveryOrder(run, read);
    } else {
      const absl::Status status = run();
      EXPECT_TRUE(status.ok()) << Message(status);
    }
    std::vector<ScoredSpan> result(static_cast<size_t>(rows));
    const std::vector<int32_t> bits = ReadInts(spans.view);
    std::memcpy(static_cast<void*>(result.data()), bits.data(), bits.size() * sizeof(int32_t));
    return result;
  }
};

TEST_F(SpanKernelTest, MatchesReference) {
  for (const DType dtype : kFloatTypes) {
    SCOPED_TRACE(Name(dtype));
    SpanProblem problem;
    for (const int32_t size : {1, 2, 9, 255, 256, 257}) problem.Add(random_, size, 12, 15);
    problem.Add(random_, 40, 20, 1);
    problem.Add(random_, 40, 20, 1000);  // longer than the sequence
    problem.Add(random_, 30, 1000, 4);   // more than there are
    problem.Add(random_, 9, 0, 15);      // the null score alone
    problem.ExpectEqual(Run(problem, dtype));
  }
}

// More than one round, and more at once than there is room to gather.
TEST_F(SpanKernelTest, ManySpans) {
  SpanProblem problem;
  problem.Add(random_, 90, 256, 90);
  problem.Add(random_, 90, 257, 90);
  problem.Add(random_, 90, 1500, 90);
  problem.ExpectEqual(Run(problem, DType::kFloat32));
}

TEST_F(SpanKernelTest, Ties) {
  SpanProblem problem;
  for (const int32_t count : {1, 12, 300}) problem.AddTied(random_, 80, count, 30);
  // All equal: 3,000 keys pass the first threshold.
  problem.AddTied(random_, 80, 20, 80);
  for (size_t i = problem.logits.size() - 160; i < problem.logits.size(); ++i) {
    problem.logits[i] = 1;
  }
  problem.ExpectEqual(Run(problem, DType::kFloat16), /*exact=*/true);
}

TEST_F(SpanKernelTest, AllMaskedHasNoAnswers) {
  SpanProblem problem;
  problem.Add(random_, 10, 3, 15);
  std::fill(problem.masked.begin(), problem.masked.end(), 1);
  const std::vector<ScoredSpan> spans = Run(problem, DType::kFloat32);
  EXPECT_NEAR(spans[0].score, 0.01, 1e-8);  // -10000 everywhere
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(spans[i].start, -1);
}

TEST_F(SpanKernelTest, WhatIsNotFiniteMakesTheNullScoreNan) {
  for (const float odd : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    SpanProblem problem;
    problem.Add(random_, 20, 3, 15);
    problem.Add(random_, 20, 3, 15);
    problem.logits[2 * 22 + 1] = odd;  // masked
    const std::vector<ScoredSpan> spans = Run(problem, DType::kFloat16);
    EXPECT_FALSE(std::isnan(spans[0].score));
    EXPECT_TRUE(std::isnan(spans[4].score));
  }
}

// The longest there are, whose numbers need all of their bits.
TEST_F(SpanKernelTest, LongestSequence) {
  constexpr int32_t kSize = 65536;
  SpanProblem problem;
  problem.Add(random_, kSize, 20, kSize);
  std::fill(problem.masked.begin(), problem.masked.end(), 0);
  for (float& logit : problem.logits) logit = -20;
  const auto logit = [&](int32_t token, int column) -> float& {
    return problem.logits[static_cast<size_t>(2 * token + column)];
  };
  logit(0, 0) = 5;
  logit(kSize - 2, 0) = 4;
  logit(2, 1) = 1;
  logit(kSize - 1, 1) = 3;
  const std::vector<ScoredSpan> spans = Run(problem, DType::kFloat16, /*every_order=*/false);
  const auto is = [&](size_t row, int32_t start, int32_t end) {
    EXPECT_EQ(spans[row].start, start);
    EXPECT_EQ(spans[row].end, end);
  };
  is(1, 0, kSize - 1);
  is(2, kSize - 2, kSize - 1);
  is(3, 0, 2);
  is(4, 0, 0);  // then the other ends of the best start, by their places
  is(5, 0, 1);
  is(20, 0, 17);
}

TEST_F(SpanKernelTest, DoesNotDependOnTheBatch) {
  SpanProblem one, three;
  one.Add(random_, 70, 12, 15);
  three.Add(random_, 33, 5, 15);
  const size_t at = three.logits.size();
  three.Add(random_, 70, 12, 15);
  std::copy(one.logits.begin(), one.logits.end(), three.logits.begin() + static_cast<long>(at));
  const std::vector<ScoredSpan> alone = Run(one, DType::kFloat16),
                                all = Run(three, DType::kFloat16);
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(alone[i].start, all[6 + i].start);
    EXPECT_EQ(alone[i].score, all[6 + i].score);
  }
}

TEST_F(SpanKernelTest, ReadsWholeSectors) {
  SpanProblem problem;
  for (int i = 0; i < 3; ++i) problem.Add(random_, 384, 12, 15);
  const DeviceTensor logits = Upload(problem.logits, DType::kFloat16, {3 * 384, 2}),
                     masked = Upload(problem.masked), cu_seqlens = Upload(problem.cu_seqlens),
                     null_tokens = Upload(problem.null_tokens),
                     tokens_max = Upload(problem.tokens_max), first = Upload(problem.first),
                     spans = Empty(DType::kInt32, {problem.first.back(), 3});
  auto workspace = device_->Allocate(gpu::SpanWorkspaceBytes(3 * 384));
  ASSERT_TRUE(workspace.ok());
  // Ends are read from any start on, and rows of spans are three values apart: two sectors more.
  ExpectIdealSectors(
      [&] {
        return gpu::BestSpans({logits.view,
                               masked.view,
                               cu_seqlens.view,
                               {},
                               null_tokens.view,
                               tokens_max.view,
                               first.view,
                               spans.view},
                              workspace->data(), *stream_);
      },
      3);
}

}  // namespace
}  // namespace bertrand
