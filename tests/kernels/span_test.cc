#include <gtest/gtest.h>

#include <limits>

#include "kernels/span/span_reference.h"
#include "tests/kernels/device_fixture.h"
#include "tests/kernels/span_problem.h"

namespace bertrand {
namespace {

class SpanTest : public DeviceTest {
 protected:
  std::vector<ScoredSpan> Run(SpanProblem& problem) {
    std::vector<ScoredSpan> spans(static_cast<size_t>(problem.first.back()), {-7, -7, -7});
    const absl::Status status = backend_->BestSpans(*stream_, problem.Params(spans));
    EXPECT_TRUE(status.ok()) << Message(status);
    return spans;
  }
};

TEST_P(SpanTest, MatchesReference) {
  SpanProblem problem;
  for (const int32_t size : {1, 2, 17, 64, 200}) problem.Add(random_, size, 12, 15);
  problem.Add(random_, 50, 300, 50);
  problem.Add(random_, 30, 1000, 4);  // more than there are
  problem.Add(random_, 9, 0, 15);     // the null score alone
  problem.ExpectEqual(Run(problem));
}

TEST_P(SpanTest, Ties) {
  SpanProblem problem;
  for (const int32_t count : {1, 5, 40, 700}) problem.AddTied(random_, 60, count, 9);
  problem.ExpectEqual(Run(problem), /*exact=*/true);
}

TEST_P(SpanTest, WhatIsNotFiniteMakesTheNullScoreNan) {
  for (const float odd : {std::nanf(""), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    SpanProblem problem;
    problem.Add(random_, 20, 3, 15);
    problem.Add(random_, 20, 3, 15);
    problem.logits[2 * 22] = odd;
    const std::vector<ScoredSpan> spans = Run(problem);
    EXPECT_FALSE(std::isnan(spans[0].score));
    EXPECT_TRUE(std::isnan(spans[4].score));
  }
}

TEST_P(SpanTest, WrongOperandsAreNamed) {
  SpanProblem problem;
  problem.Add(random_, 4, 3, 15);
  std::vector<ScoredSpan> spans(4);
  SpanParams params = problem.Params(spans);
  params.masked = {params.masked.data(), DType::kInt32, {3}};
  ExpectInvalid(backend_->BestSpans(*stream_, params),
                "BestSpans: masked is int32[3], expected int32[4]");
  params = problem.Params(spans);
  params.spans = {spans.data(), DType::kInt32, {0, 3}};
  ExpectInvalid(backend_->BestSpans(*stream_, params), "BestSpans: spans has 0 rows");
  SpanProblem empty;
  empty.Add(random_, 4, 3, 15);
  empty.cu_seqlens = {0, 4, 4};
  params = empty.Params(spans);
  ExpectInvalid(backend_->BestSpans(*stream_, params), "sequence 1 has 0 tokens, expected 1 to");
}

INSTANTIATE_TEST_SUITE_P(Devices, SpanTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand
