#pragma once

// What `tokenizers` does with each code point, and UTF-8.
//
// The tables are generated from that library (generate_unicode_tables.py), because it mixes several
// Unicode versions. All functions are pure and thread-safe.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace bertrand {

// Flags of a code point, in the generator's order.
enum CodePointFlag : uint16_t {
  kCleanedAway = 1,      // BertNormalizer's clean_text removes it
  kSpace = 2,            // char::is_whitespace, and `\s` of a regular expression
  kPunctuation = 4,      // BertPreTokenizer makes it a word of its own
  kIdeograph = 8,        // handle_chinese_chars puts spaces around it
  kNonspacingMark = 16,  // strip_accents removes it after decomposition
  kWord = 32,            // `\w` of a regular expression
  kHangulSyllable = 64,  // decomposes by arithmetic
  kLetter = 128,         // `\p{L}` of a regular expression
  kNumber = 256,         // `\p{N}` of a regular expression
  kNumeric = 512,        // char::is_numeric, which is of another Unicode version
  kMark = 1024,          // the StripAccents normaliser removes it
};

// Grapheme_Cluster_Break of Unicode's annex 29, as far as it shows in `tokenizers`.
enum GraphemeClass : uint8_t {
  kGraphemeOther,
  kGraphemeControl,
  kGraphemeExtend,
  kGraphemeZwj,
  kGraphemeSpacingMark,
  kGraphemePrepend,
  kGraphemeLead,
  kGraphemeVowel,
  kGraphemeTail,
  kGraphemeLv,
  kGraphemeLvt,
  kGraphemePicture,
  kGraphemeCr,
  kGraphemeLf,
  kGraphemeClassMask = 15,
  // Flags beside the class: Indic_Conjunct_Break.
  kConjunctConsonant = 16,
  kConjunctLinker = 32,
  kConjunctExtend = 64,
};

struct CodePointRecord {
  uint16_t flags;
  uint8_t combining_rank;  // 0 for starters, else the order of the canonical combining class
  uint16_t lower;          // index of the lower-case sequence; 0: unchanged
  uint16_t decomposition;  // index of the full canonical decomposition; 0: unchanged
  uint16_t compatibility;  // index of the full compatibility decomposition; 0: unchanged
  uint8_t grapheme;        // GraphemeClass and its flags
};

namespace unicode_tables {
#include "models/tokenizer/unicode_tables.inc"
}  // namespace unicode_tables

inline constexpr size_t kNumCodePointRecords =
    sizeof(unicode_tables::kRecords) / sizeof(unicode_tables::kRecords[0]);

// Code points with equal behaviour share a record: its index is below kNumCodePointRecords.
constexpr uint16_t RecordIndexOf(char32_t c) {
  constexpr int kBits = unicode_tables::kBlockBits;
  const size_t block = unicode_tables::kStage1[c >> kBits];
  return unicode_tables::kStage2[(block << kBits) + (c & ((1u << kBits) - 1))];
}
constexpr const CodePointRecord& RecordOf(char32_t c) {
  return unicode_tables::kRecords[RecordIndexOf(c)];
}
inline bool HasFlag(char32_t c, CodePointFlag flag) { return (RecordOf(c).flags & flag) != 0; }

inline std::u32string_view SequenceAt(uint16_t index) {
  const char32_t* at = unicode_tables::kSequences + index;
  return {at + 1, at[0]};
}

// The full canonical or compatibility decomposition of `c` into `out`, which has room for
// kMaxDecomposition.
inline constexpr size_t kMaxDecomposition = 18;
size_t Decompose(char32_t c, char32_t* out);
size_t DecomposeCompatibly(char32_t c, char32_t* out);

// The primary composite of two code points, or 0.
char32_t Compose(char32_t first, char32_t second);

// Puts a run of marks in canonical order: by `rank`, equal ones as they are. Linear, since a run
// may be all of a text.
template <class Mark>
void SortMarks(std::vector<Mark>* marks) {
  constexpr size_t kFew = 64;
  const auto is_before = [](const Mark& a, const Mark& b) { return a.rank < b.rank; };
  if (std::is_sorted(marks->begin(), marks->end(), is_before)) return;
  if (marks->size() <= kFew) {
    std::stable_sort(marks->begin(), marks->end(), is_before);
    return;
  }
  std::array<size_t, 257> begin{};  // where the marks of each rank go
  for (const Mark& mark : *marks) ++begin[mark.rank + 1u];
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<Mark> sorted(marks->size());
  for (const Mark& mark : *marks) sorted[begin[mark.rank]++] = mark;
  marks->swap(sorted);
}

// Reads the code point at *position of valid UTF-8 and moves *position behind it.
inline char32_t NextCodePoint(std::string_view text, size_t* position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[*position + i]); };
  const unsigned lead = byte(0);
  char32_t c = lead;
  size_t length = 1;
  if (lead >= 0xF0) {
    c = (lead & 7u) << 18 | (byte(1) & 63u) << 12 | (byte(2) & 63u) << 6 | (byte(3) & 63u);
    length = 4;
  } else if (lead >= 0xE0) {
    c = (lead & 15u) << 12 | (byte(1) & 63u) << 6 | (byte(2) & 63u);
    length = 3;
  } else if (lead >= 0x80) {
    c = (lead & 31u) << 6 | (byte(1) & 63u);
    length = 2;
  }
  *position += length;
  return c;
}

// The start of the code point that ends before `end`; end > 0.
inline size_t PreviousBoundary(std::string_view text, size_t end) {
  do {
    --end;
  } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

// Writes 1 to 4 bytes and returns how many.
size_t WriteUtf8(char32_t c, char* out);
void AppendUtf8(char32_t c, std::string* out);

// Whether bytes, at least one, can be continued to be one code point.
bool IsUtf8Prefix(std::string_view bytes);

// Code points in valid UTF-8.
size_t CountCodePoints(std::string_view text);

}  // namespace bertrand
