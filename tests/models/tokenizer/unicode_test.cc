#include "models/tokenizer/unicode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace bertrand {
namespace {

TEST(FindInvalidUtf8Test, ValidTexts) {
  for (const char* text :
       {"", "a", "ordinary text of more than eight bytes", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
        "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
        "12345678\xC3\xA9 12345678"}) {
    EXPECT_EQ(FindInvalidUtf8(text), std::nullopt) << text;
  }
  EXPECT_EQ(FindInvalidUtf8(std::string_view("a\0b", 3)), std::nullopt);
}

TEST(FindInvalidUtf8Test, NamesTheFirstBadByte) {
  const std::pair<const char*, size_t> cases[] = {
      {"\x80", 0},              // a continuation byte alone
      {"a\xC3", 1},             // cut short
      {"ab\xC0\x80", 2},        // overlong
      {"\xC1\xBF", 0},          //
      {"\xE0\x9F\xBF", 0},      // overlong
      {"abc\xED\xA0\x80", 3},   // a surrogate
      {"\xED\xBF\xBF", 0},      //
      {"\xF0\x8F\xBF\xBF", 0},  // overlong
      {"\xF4\x90\x80\x80", 0},  // beyond U+10FFFF
      {"\xF5\x80\x80\x80", 0},  //
      {"\xFF", 0},
      {"12345678901234567\xE4\xB8", 17},
      {"\xE4\xB8\xAD\xE4\xB8", 3},
      {"\xE4\xB8\x41", 0},
      {"\xF0\x9F\x98", 0},
  };
  for (const auto& [text, offset] : cases) EXPECT_EQ(FindInvalidUtf8(text), offset) << offset;
}

TEST(UnicodeTest, RoundTripsEveryCodePoint) {
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    text.clear();
    AppendUtf8(c, &text);
    ASSERT_EQ(FindInvalidUtf8(text), std::nullopt);
    size_t position = 0;
    ASSERT_TRUE(NextCodePoint(text, &position) == c);
    ASSERT_EQ(position, text.size());
    ASSERT_EQ(PreviousBoundary(text, text.size()), 0u);
    ASSERT_EQ(CountCodePoints(text), 1u);
  }
}

TEST(UnicodeTest, TablesKnowTheUsualCases) {
  EXPECT_TRUE(HasFlag(U'\u3000', kSpace));
  EXPECT_TRUE(HasFlag(U'\u00ad', kCleanedAway));
  EXPECT_TRUE(HasFlag(U'$', kPunctuation));
  EXPECT_TRUE(HasFlag(U'\u4e00', kIdeograph));
  EXPECT_TRUE(HasFlag(U'\u0301', kNonspacingMark));
  EXPECT_TRUE(HasFlag(U'_', kWord));
  EXPECT_FALSE(HasFlag(U'-', kWord));
  EXPECT_TRUE(SequenceAt(RecordOf(U'\u0130').lower) == U"i\u0307");
  EXPECT_EQ(RecordOf(U'a').lower, 0);
  EXPECT_LT(RecordOf(U'\u0323').combining_rank, RecordOf(U'\u0301').combining_rank);
}

TEST(UnicodeTest, SortsMarks) {
  struct Mark {
    int place;
    uint8_t rank;
    bool operator==(const Mark&) const = default;
  };
  std::mt19937 random(1);
  for (int size = 0; size < 300; ++size) {
    std::vector<Mark> marks;
    for (int i = 0; i < size; ++i) marks.push_back({i, static_cast<uint8_t>(random())});
    std::vector<Mark> wanted = marks;
    std::stable_sort(wanted.begin(), wanted.end(),
                     [](const Mark& a, const Mark& b) { return a.rank < b.rank; });
    SortMarks(&marks);
    ASSERT_TRUE(marks == wanted) << size;
  }
}

TEST(UnicodeTest, Decomposes) {
  char32_t out[kMaxDecomposition];
  EXPECT_TRUE(std::u32string_view(out, Decompose(U'\u1e69', out)) == U"s\u0323\u0307");
  EXPECT_TRUE(std::u32string_view(out, Decompose(U'\uac01', out)) == U"\u1100\u1161\u11a8");
  EXPECT_TRUE(std::u32string_view(out, Decompose(U'\uac00', out)) == U"\u1100\u1161");
  EXPECT_TRUE(std::u32string_view(out, Decompose(U'a', out)) == U"a");
  for (char32_t c = 0; c < 0x110000; ++c) {
    const size_t count = Decompose(c, out);
    ASSERT_LE(count, kMaxDecomposition) << static_cast<uint32_t>(c);
    // BertSplitter relies on it: a decomposition that begins with a mark has marks only.
    if (RecordOf(out[0]).combining_rank == 0) continue;
    for (size_t i = 0; i < count; ++i)
      ASSERT_NE(RecordOf(out[i]).combining_rank, 0) << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace bertrand
