#include "server/quote.h"

#include <gtest/gtest.h>

namespace bertrand {
namespace {

TEST(Quote, EscapesAndCuts) {
  EXPECT_EQ(Quote("plain"), "\"plain\"");
  EXPECT_EQ(Quote("a\"b\\c\n\xff"), "\"a\\\"b\\\\c\\x0a\\xff\"");
  EXPECT_EQ(Quote(std::string(1000000, 'x')), "\"" + std::string(100, 'x') + "\"...");
}

TEST(CutMessage, CutsBetweenCharacters) {
  EXPECT_EQ(CutMessage("short", 10), "short");
  EXPECT_EQ(CutMessage(std::string(20, 'x'), 10), "xxxxxxx...");
  EXPECT_EQ(CutMessage("xxxxxx\u00e9xxxxxx", 10), "xxxxxx...");
}

}  // namespace
}  // namespace bertrand
