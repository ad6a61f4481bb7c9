#include "models/task/scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace bertrand {
namespace {

using testing::ElementsAre;

TEST(BestFirst, OrdersEqualValuesAsAsked) {
  const std::vector<float> values = {0.25F, 0.5F, 0.25F, 0.5F};
  EXPECT_THAT(BestFirst(values, 0), ElementsAre(1, 3, 0, 2));
  EXPECT_THAT(BestFirst(values, 0, Ties::kHigherFirst), ElementsAre(3, 1, 2, 0));
  EXPECT_THAT(BestFirst(values, 3), ElementsAre(1, 3, 0));
  EXPECT_THAT(BestFirst(values, 9), ElementsAre(1, 3, 0, 2));
}

TEST(Softmax, SurvivesLargeLogits) {
  std::vector<float> values = {1e4F, 1e4F, -1e4F};
  Softmax(values);
  EXPECT_THAT(values, ElementsAre(0.5F, 0.5F, 0.0F));
}

}  // namespace
}  // namespace bertrand
