// Python's str.strip and str.lower, on every code point and around sigmas.

#include "models/task/sentence_text.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace bertrand {
namespace {

std::string Lower(std::string_view text) {
  std::string out;
  AppendLowerPython(text, &out);
  return out;
}

TEST(SentenceText, Strip) {
  EXPECT_EQ(StripPython(""), "");
  EXPECT_EQ(StripPython(" \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f"), "");
  EXPECT_EQ(StripPython("  a b\xc2\xa0"), "a b");
  EXPECT_EQ(StripPython("\xe3\x80\x80\xe2\x80\xa8x\xe2\x81\x9f\xc2\x85"), "x");
  // Zero width space and byte order mark are no white space.
  EXPECT_EQ(StripPython("\xe2\x80\x8b x"), "\xe2\x80\x8b x");
  EXPECT_EQ(StripPython("\xef\xbb\xbf"), "\xef\xbb\xbf");
  const std::string_view nul("\0 a \0", 5);
  EXPECT_EQ(StripPython(nul), nul);
}

TEST(SentenceText, Lower) {
  EXPECT_EQ(Lower("Hello, WORLD 1"), "hello, world 1");
  EXPECT_EQ(Lower("\xc4\xb0"), "i\xcc\x87");                 // dotted capital I
  EXPECT_EQ(Lower("\xe1\xba\x9e"), "\xc3\x9f");              // capital sharp s
  EXPECT_EQ(Lower("\xf0\x90\x90\x80"), "\xf0\x90\x90\xa8");  // Deseret
  std::string out = "kept ";
  AppendLowerPython("X", &out);
  EXPECT_EQ(out, "kept x");
}

TEST(SentenceText, FinalSigma) {
  const std::string sigma = "\xce\xa3", small = "\xcf\x83", final = "\xcf\x82";
  EXPECT_EQ(Lower(sigma), small);
  EXPECT_EQ(Lower("A" + sigma), "a" + final);
  EXPECT_EQ(Lower("A" + sigma + sigma), "a" + small + final);
  EXPECT_EQ(Lower("A" + sigma + "B"), "a" + small + "b");
  EXPECT_EQ(Lower("A'" + sigma + "'."), "a'" + final + "'.");
  EXPECT_EQ(Lower("A" + sigma + "'B"), "a" + small + "'b");
  EXPECT_EQ(Lower("1" + sigma), "1" + small);
}

// CRC-32 as zlib has it.
uint32_t Crc32(std::string_view bytes, uint32_t crc) {
  crc = ~crc;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

std::string Utf8(uint32_t c) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3f)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xe0 | c >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | c >> 18), tail(12), tail(6), tail(0)};
}

// The expected value is printed by models/task/make_sentence_text_tables.py --checksum.
TEST(SentenceText, EveryCodePointAsPython) {
  const std::string sigma = "\xce\xa3";
  uint32_t crc = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    const std::string text = Utf8(c);
    std::string lines;
    for (const std::string& line :
         {text, "a" + text + sigma, "a" + sigma + text, "a" + sigma + text + "b"}) {
      AppendLowerPython(line, &lines);
      lines += '\n';
    }
    lines += StripPython(text + "x" + text);
    crc = Crc32(lines, crc);
  }
  EXPECT_EQ(crc, 0x45cb64c7u);
}

// Spans of one code point each, as a tokenizer of characters would give, mapped back.
std::vector<TokenSpan> SpansBack(const std::string& text, const TextCleaning& cleaning) {
  std::string memory;
  const std::string_view cleaned = CleanText(text, cleaning, &memory);
  std::vector<TokenSpan> spans;
  uint32_t code_point = 0;
  for (size_t at = 0; at < cleaned.size(); ++code_point) {
    const size_t begin = at++;
    while (at < cleaned.size() && (cleaned[at] & 0xc0) == 0x80) ++at;
    spans.push_back(
        {code_point, code_point + 1, static_cast<uint32_t>(begin), static_cast<uint32_t>(at)});
  }
  const std::vector<int8_t> sequence(spans.size(), 0);
  MapSpansBack(text, cleaning, sequence, 0, spans);
  return spans;
}

TEST(SentenceText, SpansBack) {
  using Spans = std::vector<TokenSpan>;
  EXPECT_EQ(SpansBack("ab", {}), (Spans{{0, 1, 0, 1}, {1, 2, 1, 2}}));
  EXPECT_EQ(SpansBack("\xc2\xa0 \xc3\xa4 ", {.strip = true}), (Spans{{2, 3, 3, 5}}));
  EXPECT_EQ(SpansBack("b", {.prompt = "\xc3\xa4:"}),
            (Spans{{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 1, 0, 1}}));
  EXPECT_EQ(SpansBack("b", {.prompt = " a", .strip = true}), (Spans{{0, 0, 0, 0}, {0, 1, 0, 1}}));
  // One code point that becomes two, and others behind it.
  EXPECT_EQ(SpansBack(" \xc4\xb0X", {.strip = true, .lower = true}),
            (Spans{{1, 2, 1, 3}, {1, 2, 1, 3}, {2, 3, 3, 4}}));
  EXPECT_EQ(SpansBack("  ", {.strip = true}), Spans{});
}

// Every sigma looks both ways: it must not look far.
TEST(SentenceText, LinearTime) {
  std::string text;
  for (int i = 0; i < 400'000; ++i) text += "\xce\xa3'";
  EXPECT_EQ(Lower(text).size(), text.size());
  text.assign(2'000'000, '\'');
  text += "\xce\xa3";
  EXPECT_EQ(Lower(text).size(), text.size());
}

}  // namespace
}  // namespace bertrand
