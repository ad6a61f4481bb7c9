#include "server/admission.h"

#include <gtest/gtest.h>

#include "kernels/status.h"
#include "server/overload.h"

namespace bertrand {
namespace {

TEST(Admission, CountsAndGivesBack) {
  Admission admission({.requests_max = 2, .bytes_max = 100, .tokens_max = 10});
  {
    auto first = admission.Admit(40);
    ASSERT_TRUE(first.ok());
    ASSERT_TRUE(first->Grow(30).ok());
    ASSERT_TRUE(first->AddTokens(6).ok());
    first->ReleaseTokens(2);
    EXPECT_EQ(admission.usage().bytes, 70);
    EXPECT_EQ(admission.usage().tokens, 4);
    Admission::Reservation moved = *std::move(first);
    EXPECT_EQ(admission.usage().requests, 1);
  }
  EXPECT_EQ(admission.usage().requests, 0);
  EXPECT_EQ(admission.usage().bytes, 0);
  EXPECT_EQ(admission.usage().tokens, 0);
}

TEST(Admission, FullHasAHintAndALimitHasNone) {
  Admission admission({.requests_max = 1, .bytes_max = 100, .tokens_max = 10});
  auto held = admission.Admit(60);
  ASSERT_TRUE(held.ok());
  EXPECT_TRUE(RetryAfterMs(admission.Admit(1).status()).has_value());
  EXPECT_FALSE(RetryAfterMs(admission.Admit(101).status()).has_value());
  const absl::Status tokens = held->AddTokens(11);
  EXPECT_FALSE(RetryAfterMs(tokens).has_value());
  EXPECT_NE(Message(tokens).find("--max-queue-tokens (10)"), std::string::npos);
  EXPECT_NE(Message(held->Grow(41)).find("--max-queue-bytes (100)"), std::string::npos);
}

TEST(Admission, WakesWhoWaits) {
  Admission admission({.requests_max = 1});
  int num_woken = 0;
  {
    auto held = admission.Admit(1);
    EXPECT_FALSE(admission.Admit(1, [&] { ++num_woken; }).ok());
    EXPECT_EQ(num_woken, 0);
  }
  EXPECT_EQ(num_woken, 1);
}

TEST(Admission, TheFirstToGrowIsLetThrough) {
  Admission admission({.requests_max = 10, .bytes_max = 100});
  auto a = admission.Admit(50), b = admission.Admit(50);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_TRUE(a->Grow(50).ok());   // nobody else would ever make room
  EXPECT_FALSE(b->Grow(50).ok());  // a will
  a->Release();
  EXPECT_TRUE(b->Grow(50).ok());
}

}  // namespace
}  // namespace bertrand
