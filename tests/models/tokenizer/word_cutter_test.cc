// WordCutter, on every instruction set that this machine has: where it cuts, reading word by word
// cuts too.

#include "models/tokenizer/word_cutter.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <bit>
#include <random>
#include <string>

#include "models/tokenizer/byte_level.h"

namespace bertrand {
namespace {

constexpr std::string_view kPieces[] = {
    "a",   "Z",  "the", " ",   " ",  "  ", "   ",    "1",      "42",     ".",      "'",
    "'s",  "'t", "'re", "'ll", "'l", "\t", "\n",     "\u00e9", "\u00a0", "\u4e2d", "\x7f",
    " \n", "\0", "@[",  "`{",  "/:", "we", "\u2028", "\u0301", "'v",     "e",      "\U0001f600"};

// `num_wide`: of a hundred pieces, how many may be others than ASCII.
std::string RandomText(std::mt19937* random, size_t size, unsigned wide_percent) {
  std::string text;
  while (text.size() < size) {
    const std::string_view piece = kPieces[(*random)() % std::size(kPieces)];
    const bool is_wide = static_cast<unsigned char>(piece[0]) >= 0x80;
    if (!is_wide || (*random)() % 100 < wide_percent) text += piece;
  }
  return text;
}

struct Counts {
  size_t words = 0, whole = 0;
};

// `text` lies at the beginning of `memory`, which goes on with what must not matter.
void CheckCuts(const WordCutter& cutter, const std::string& memory, std::string_view text,
               Counts* counts) {
  for (size_t at = 0; at < text.size();) {
    uint64_t starts = cutter.Cut(memory.data() + at, text.size() - at);
    ASSERT_EQ(starts & 1, 1u);
    const size_t first = NextByteLevelWord(text, at, text.size());
    size_t begin = at;
    for (starts &= starts - 1; starts != 0; starts &= starts - 1) {
      const size_t end = at + static_cast<size_t>(std::countr_zero(starts));
      ASSERT_LE(end, text.size());
      ASSERT_EQ(end, NextByteLevelWord(text, begin, text.size()))
          << testing::PrintToString(text) << " at " << begin;
      begin = end;
      ++counts->whole;
    }
    counts->words += begin == at ? 1 : 0;
    at = begin == at ? first : begin;
  }
}

TEST(WordCutterTest, CutsWhereWordsEnd) {
  int num_targets = 0;
  for (int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) {
    hwy::SetSupportedTargetsForTest(rest & -rest);
    const std::string name = hwy::TargetName(rest & -rest);
    if (ChooseCutKernel().target != name) continue;  // not compiled
    SCOPED_TRACE(name);
    ++num_targets;
    const WordCutter cutter;
    std::mt19937 random(3);
    Counts ascii, mixed;
    for (int i = 0; i < 20000; ++i) {
      const bool is_ascii = i % 2 == 0;
      const std::string text = RandomText(&random, 1 + random() % 200, is_ascii ? 0 : 40);
      const std::string memory = text + RandomText(&random, WordCutter::kWindow, is_ascii ? 0 : 40);
      ASSERT_NO_FATAL_FAILURE(CheckCuts(cutter, memory, text, is_ascii ? &ascii : &mixed));
    }
    // Words that a window shows whole are the rule, and in ASCII always those of up to 60 bytes.
    EXPECT_EQ(ascii.words, 0u);
    EXPECT_GT(mixed.whole, mixed.words);
  }
  hwy::SetSupportedTargetsForTest(0);
  EXPECT_GT(num_targets, 0);
}

// A word that ends within a window, at each place; and one that does not.
TEST(WordCutterTest, LongWords) {
  const WordCutter cutter;
  const std::string memory(300, 'x');
  for (size_t size = 1; size < 200; ++size) {
    std::string text = " " + std::string(size, 'a') + "'ll";
    const std::string whole = text + memory;
    const uint64_t starts = cutter.Cut(whole.data(), text.size());
    const size_t end = NextByteLevelWord(text, 0, text.size());
    const bool is_seen = end < WordCutter::kWindow - 1 || text.size() < WordCutter::kWindow;
    if (is_seen) {
      ASSERT_EQ(std::countr_zero(starts & ~uint64_t{1}), static_cast<int>(end)) << size;
    }
    if (end >= WordCutter::kWindow) {
      ASSERT_EQ(starts, 1u) << size;
    }
  }
}

// Letters and digits are skipped eight at a time: each byte of ASCII ends them, wherever it is.
TEST(ByteLevelWordsTest, RunsEndAtAnyOtherByte) {
  const auto is_letter = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  for (const std::string unit : {"azAZ", "0959"}) {
    for (size_t at = 1; at < 24; ++at) {
      for (int byte = 0; byte < 0x80; ++byte) {
        std::string text;
        while (text.size() < 24) text += unit;
        text[at] = static_cast<char>(byte);
        const bool goes_on = unit[0] == 'a' ? is_letter(text[at]) : is_digit(text[at]);
        EXPECT_EQ(NextByteLevelWord(text, 0, text.size()), goes_on ? text.size() : at)
            << unit << " " << at << " " << byte;
      }
      const std::string accented = std::string(at, unit[0]) + "\u00e9" + std::string(9, unit[0]);
      EXPECT_EQ(NextByteLevelWord(accented, 0, accented.size()),
                unit[0] == 'a' ? accented.size() : at);
    }
  }
}

}  // namespace
}  // namespace bertrand
