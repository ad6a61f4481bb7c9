#include "models/tokenizer/post_processor.h"

#include <gtest/gtest.h>

#include "kernels/status.h"

namespace bertrand {
namespace {

using KeptPair = std::pair<size_t, size_t>;

EncodeOptions Limit(int64_t max_tokens, TruncationMode mode = TruncationMode::kLongestFirst) {
  EncodeOptions options;
  options.max_tokens = max_tokens;
  options.truncation = mode;
  return options;
}

std::pair<size_t, size_t> Kept(size_t first, size_t second, int64_t max_tokens) {
  const auto kept = Truncate(first, second, true, 0, Limit(max_tokens));
  EXPECT_TRUE(kept.ok());
  return {kept->first, kept->second};
}

TEST(TruncateTest, LongestFirst) {
  EXPECT_EQ(Kept(10, 10, 5), (KeptPair(2, 3)));
  EXPECT_EQ(Kept(13, 10, 5), (KeptPair(3, 2)));
  EXPECT_EQ(Kept(10, 2, 9), (KeptPair(7, 2)));
  EXPECT_EQ(Kept(2, 10, 9), (KeptPair(2, 7)));
  EXPECT_EQ(Kept(3, 4, 7), (KeptPair(3, 4)));
  EXPECT_EQ(Kept(0, 9, 4), (KeptPair(0, 4)));
  EXPECT_EQ(Kept(5, 5, 0), (KeptPair(0, 0)));
  EXPECT_EQ(Kept(5, 5, 1), (KeptPair(0, 1)));
}

TEST(TruncateTest, OneOnly) {
  const auto kept = Truncate(10, 4, true, 3, Limit(12, TruncationMode::kOnlyFirst));
  ASSERT_TRUE(kept.ok());
  EXPECT_EQ(kept->first, 5u);
  EXPECT_EQ(kept->second, 4u);
  EXPECT_FALSE(Truncate(10, 9, true, 3, Limit(12, TruncationMode::kOnlyFirst)).ok());
  EXPECT_FALSE(Truncate(9, 10, true, 3, Limit(12, TruncationMode::kOnlySecond)).ok());
  EXPECT_FALSE(Truncate(11, 0, false, 2, Limit(12, TruncationMode::kOnlySecond)).ok());
  EXPECT_TRUE(Truncate(10, 0, false, 2, Limit(12, TruncationMode::kOnlySecond)).ok());
}

TEST(TruncateTest, MessagesHaveTheNumbers) {
  const auto failed = Truncate(10, 0, false, 2, Limit(11, TruncationMode::kFail));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(failed.status()), "the text has 12 tokens with special ones; the limit is 11");
  EXPECT_TRUE(Truncate(9, 0, false, 2, Limit(11, TruncationMode::kFail)).ok());
  EXPECT_FALSE(Truncate(9, 0, false, 2, Limit(1)).ok());
  EXPECT_FALSE(Truncate(9, 0, false, 0, Limit(-1)).ok());
}

}  // namespace
}  // namespace bertrand
