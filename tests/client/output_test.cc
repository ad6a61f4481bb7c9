#include "client/output.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

namespace bertrand::client {
namespace {

TEST(Utf8Test, TellsValidFromInvalid) {
  for (const char* text : {"", "plain", "Gr\xC3\xBC\xC3\x9F", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                           "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
  }
  const std::string invalid[] = {
      "\x80",              // a continuation alone
      "\xC0\x80",          // overlong
      "\xC1\xBF",          // overlong
      "\xE0\x9F\xBF",      // overlong
      "\xF0\x8F\xBF\xBF",  // overlong
      "\xED\xA0\x80",      // a surrogate
      "\xF4\x90\x80\x80",  // beyond U+10FFFF
      "\xF5\x80\x80\x80",  // no lead byte
      "\xFF",              // never in UTF-8
      "a\xC3",             // cut off
      "\xE2\x82",          // cut off
      "\xE2\x28\xA1",      // no continuation
  };
  for (const std::string& text : invalid) EXPECT_FALSE(IsValidUtf8(text)) << JsonString(text);
}

TEST(JsonTest, EscapesWhatItMust) {
  EXPECT_EQ(JsonString("plain \xC3\xA4"), "\"plain \xC3\xA4\"");
  EXPECT_EQ(JsonString("\"\\\n\t"), R"("\"\\\n\t")");
  EXPECT_EQ(JsonString(std::string("\0\x1f\x7f", 3)), "\"\\u0000\\u001f\x7f\"");
  EXPECT_EQ(JsonString("a\xFF"), "\"a\xEF\xBF\xBD\"");
}

TEST(JsonTest, NumbersReadBackAsTheyWere) {
  for (const float value : {0.0f, -1.0f, 0.1f, 1e-40f, 3.4e38f, 0.123456789f}) {
    EXPECT_EQ(std::strtof(JsonNumber(value).c_str(), nullptr), value);
  }
  EXPECT_EQ(JsonNumber(std::nanf("")), "null");
  EXPECT_EQ(JsonNumber(std::numeric_limits<float>::infinity()), "null");
}

TEST(ShortenTest, CutsByCodePointsOnOneLine) {
  EXPECT_EQ(Shorten("short", 5), "short");
  EXPECT_EQ(Shorten("longer", 5), "lo...");
  EXPECT_EQ(Shorten("\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4", 4), "\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4");
  EXPECT_EQ(Shorten("\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4", 4), "\xC3\xA4...");
  EXPECT_EQ(Shorten("abcd", 3), "...");
}

TEST(ShortenTest, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(Shorten("a\x1b[31mb\r\nc\x7f", 80), "a [31mb  c ");
  EXPECT_EQ(Shorten("z\xC2\x9Bz", 80), "z z");
  EXPECT_EQ(Shorten("a\xFFz", 80), "a\xEF\xBF\xBDz");
}

// 山 and the emoji take two columns, U+0301 none: it sits on the letter before it.
TEST(ColumnsTest, AsATerminalCountsThem) {
  EXPECT_EQ(CountColumns("abc"), 3U);
  EXPECT_EQ(CountColumns("\u5C71\u7530"), 4U);
  EXPECT_EQ(CountColumns("\U0001F600"), 2U);
  EXPECT_EQ(CountColumns("e\u0301"), 1U);
  EXPECT_EQ(CountColumns("a\tb\x7F"), 4U);
  EXPECT_EQ(CountColumns("\xFF"), 1U);
  EXPECT_EQ(Shorten("\u5C71\u5C71\u5C71\u5C71", 8), "\u5C71\u5C71\u5C71\u5C71");
  EXPECT_EQ(Shorten("\u5C71\u5C71\u5C71\u5C71", 7), "\u5C71\u5C71...");
  Mark mark{6, 7, ""};
  EXPECT_EQ(Around("\u5C71\u5C71x\u5C71\u5C71", &mark, 3), "...\u5C71x\u5C71...");
}

TEST(TableTest, ColumnsAlign) {
  Table table({{"n", Table::Align::kRight}, {"text"}, {"last"}});
  table.AddRow({"1", "\xC3\xA4\xC3\xB6", "x"});
  table.AddRow({"100", "abc", ""});
  table.AddRow({"2", "\u5C71\u7530", "y"});
  EXPECT_EQ(table.ToString(Terminal{}),
            "    n  text  last\n"
            "    1  \xC3\xA4\xC3\xB6    x\n"
            "  100  abc\n"
            "    2  \u5C71\u7530  y\n");
}

TEST(TableTest, StylesOnlyWhereTheyMayBe) {
  Table table({{"a"}});
  table.AddRow({"1"}, /*dim=*/true);
  Terminal terminal;
  EXPECT_EQ(table.ToString(terminal).find('\x1b'), std::string::npos);
  terminal.styled = true;
  EXPECT_EQ(table.ToString(terminal), "\x1b[1m  a\x1b[0m\n\x1b[2m  1\x1b[0m\n");
}

TEST(BarTest, EighthsOfAColumn) {
  EXPECT_EQ(Bar(0, 4), "");
  EXPECT_EQ(Bar(1, 2), "\u2588\u2588");
  EXPECT_EQ(Bar(0.5, 1), "\u258C");
  EXPECT_EQ(Bar(0.125, 1), "\u258F");
  EXPECT_EQ(Bar(0.875, 1), "\u2589");
  EXPECT_EQ(Bar(7, 1), "\u2588");
  EXPECT_EQ(Bar(-1, 1), "");
}

TEST(WithMarksTest, BracketsWithoutStyles) {
  const Terminal plain;
  EXPECT_EQ(WithMarks("Ada is in\nParis", {{0, 3, "PER"}, {10, 15, "LOC"}}, plain),
            "[Ada PER] is in [Paris LOC]");
  EXPECT_EQ(WithMarks("abc", {{1, 2, ""}}, plain), "a[b]c");
  EXPECT_EQ(WithMarks("abc", {}, plain), "abc");
  EXPECT_EQ(WithMarks("a [MASK]", {{2, 8, ""}}, plain), "a [MASK]");
  EXPECT_EQ(WithMarks("a [MASK]", {{2, 8, "2"}}, plain), "a [[MASK] 2]");
}

TEST(WithMarksTest, MarksThatCannotBeAreLeftOut) {
  const Terminal plain;
  // Overlapping, empty, beyond the text, backwards.
  EXPECT_EQ(
      WithMarks("abcd", {{0, 2, "x"}, {1, 3, "y"}, {3, 3, "z"}, {3, 9, "z"}, {4, 2, "z"}}, plain),
      "[ab x]cd");
}

TEST(WithMarksTest, ColoursOnlyOnATerminal) {
  Terminal terminal;
  terminal.styled = true;
  const std::string out = WithMarks(
      "a\x1b"
      "b",
      {{2, 3, "L\x1b"}}, terminal);
  EXPECT_EQ(out.find("a \x1b[1;3"), 0U);
  EXPECT_NE(out.find("mb\x1b[0m\x1b[2m L \x1b[0m"), std::string::npos);
}

TEST(AroundTest, KeepsTheMarkInPlace) {
  Mark mark{10, 12, ""};
  EXPECT_EQ(Around("0123456789ab0123456789", &mark, 3), "...789ab012...");
  EXPECT_EQ(mark.begin, 6U);
  EXPECT_EQ(mark.end, 8U);
  Mark first{0, 1, ""};
  EXPECT_EQ(Around("abc", &first, 10), "abc");
  EXPECT_EQ(first.begin, 0U);
  Mark wide{4, 5, ""};  // behind two letters of two bytes
  EXPECT_EQ(Around("\xC3\xA4\xC3\xB6x\xC3\xBC\xC3\xBC", &wide, 1), "...\xC3\xB6x\xC3\xBC...");
  EXPECT_EQ(wide.begin, 5U);
}

TEST(OneLineTest, KeepsEverythingElse) {
  EXPECT_EQ(OneLine("a\nb\x1b"
                    "c"),
            "a b c");
  EXPECT_EQ(OneLine(std::string(5000, 'x')).size(), 5000U);
}

TEST(FixedTest, Decimals) {
  EXPECT_EQ(Fixed(1.0, 3), "1.000");
  EXPECT_EQ(Fixed(-0.25, 1), "-0.2");
  EXPECT_LT(Fixed(1e300, 2).size(), 64u);
}

}  // namespace
}  // namespace bertrand::client
