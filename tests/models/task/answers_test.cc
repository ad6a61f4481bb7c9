// Spans of score 0, which tests/parity cannot compare: which of them transformers takes differs
// between machines. All else of answers is compared there.

#include "models/task/answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace bertrand {
namespace {

using testing::ElementsAre;

MATCHER_P2(IsSpan, start, end, "") {
  return arg.start == static_cast<size_t>(start) && arg.end == static_cast<size_t>(end);
}

// [CLS] question [SEP] two of the context [SEP], of which three spans have a score.
class DecodeWindowTest : public testing::Test {
 protected:
  DecodedWindow Decode(size_t count, size_t answer_tokens_max) const {
    std::vector<ScoredSpan> spans = {{0, 0, 0.1F}, {3, 4, 0.4F}, {3, 3, 0.2F}, {4, 4, 0.2F}};
    if (answer_tokens_max == 1) spans.erase(spans.begin() + 1);
    spans.resize(NumSpans(masked_.size(), count, answer_tokens_max));
    return DecodeWindow(spans, masked_, count, answer_tokens_max);
  }

  const std::vector<uint8_t> masked_ = {0, 1, 1, 0, 0, 1};
};

TEST_F(DecodeWindowTest, SpansWithScoresComeFirst) {
  EXPECT_THAT(Decode(2, 15).answers, ElementsAre(IsSpan(3, 4), IsSpan(3, 3)));
  EXPECT_THAT(Decode(3, 15).answers, ElementsAre(IsSpan(3, 4), IsSpan(3, 3), IsSpan(4, 4)));
  EXPECT_GT(Decode(3, 15).answers.back().score, 0);
}

TEST_F(DecodeWindowTest, ZerosFillTheCount) {
  // Rows of the matrix: the first is that of [CLS], where places of the question count too.
  const auto some = Decode(8, 15).answers;
  EXPECT_THAT(some, ElementsAre(IsSpan(3, 4), IsSpan(3, 3), IsSpan(4, 4), IsSpan(0, 0),
                                IsSpan(0, 3), IsSpan(0, 4)));
  EXPECT_EQ(some.back().score, 0);
  // All 36 places: each pair of the three tokens that are not masked, once.
  EXPECT_EQ(Decode(1000, 15).answers.size(), 9U);
  // Longer ones than allowed have score 0 as well.
  EXPECT_THAT(Decode(3, 1).answers, ElementsAre(IsSpan(3, 3), IsSpan(4, 4), IsSpan(0, 0)));
}

TEST(AnswerList, SpansBackwardsAreEmpty) {
  AnswerList answers("ada saw", /*merge=*/true);
  answers.Add({0, 3, 0, 3}, 0.5F);
  answers.Add({0, 0, 0, 0}, 0);
  answers.Add({4, 3, 4, 3}, 0);
  answers.Add({0, 7, 0, 7}, 0);
  const std::vector<Answer> best = answers.Best(5);
  ASSERT_EQ(best.size(), 3U);
  EXPECT_EQ(best[0].text, "ada");
  EXPECT_EQ(best[1].text, "");
  EXPECT_EQ(best[1].span.start, 0U);
  EXPECT_EQ(best[2].text, "ada saw");
}

}  // namespace
}  // namespace bertrand
