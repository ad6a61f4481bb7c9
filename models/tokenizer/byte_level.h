#pragma once

// GPT-2's byte level: the characters that stand for bytes in a vocabulary, and the regular
// expression that cuts a text into words. Inside Bertrand words stay bytes; only vocabularies are
// written in those characters.
//
// All functions are pure and thread-safe.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace bertrand {

inline constexpr std::string_view kByteLevelRegex =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

// The end of the word that begins at text[at], at < end: the expression matches everywhere, so that
// words follow each other without gaps. Linear in the word and the white space behind it.
size_t NextByteLevelWord(std::string_view text, size_t at, size_t end);

// The same as NextByteLevelWord for a word of up to fifteen ASCII letters, digits or other ones
// that are no white space, perhaps behind a space, that ends before text[end - 16]; 0 for others,
// and always where there is no SSE2. Most words are such. Hardly a branch depends on the text:
// which kind of word comes next cannot be predicted.
inline size_t EndOfPlainWord(std::string_view text, size_t at, size_t end) {
#ifdef __SSE2__
  constexpr size_t kRead = 16;
  const size_t start = at + (text[at] == ' ');
  if (start + kRead >= end || text[at] == '\'') return 0;
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + start));
  const auto within = [](__m128i from_first, char size) {
    return _mm_cmpeq_epi8(_mm_min_epu8(from_first, _mm_set1_epi8(size)), from_first);
  };
  const auto mask = [](__m128i b) { return static_cast<uint32_t>(_mm_movemask_epi8(b)); };
  const __m128i lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
  const uint32_t letters = mask(within(_mm_sub_epi8(lower, _mm_set1_epi8('a')), 'z' - 'a'));
  const uint32_t digits = mask(within(_mm_sub_epi8(bytes, _mm_set1_epi8('0')), '9' - '0'));
  const uint32_t spaces = mask(_mm_or_si128(within(_mm_sub_epi8(bytes, _mm_set1_epi8(9)), 13 - 9),
                                            _mm_cmpeq_epi8(bytes, _mm_set1_epi8(' '))));
  const uint32_t wide = mask(bytes);
  const uint32_t others = ~(letters | digits | spaces | wide);
  // The kind that has the first bit: all bits of it, and none of the two others.
  const uint32_t run =
      (letters & -(letters & 1)) | (digits & -(digits & 1)) | (others & -(others & 1));
  const auto count = static_cast<uint32_t>(std::countr_one(run));
  // None: white space or not ASCII. A code point that is not ASCII may go on with the run.
  const bool is_plain = count - 1 < kRead - 1 && (wide >> (count & 31) & 1) == 0;
  return is_plain ? start + count : 0;
#else
  (void)text, (void)at, (void)end;
  return 0;
#endif
}

// The end of the word that a space before text[at], which is no white space, would begin.
size_t EndOfSpacedWord(std::string_view text, size_t at, size_t end);

// How many code points of white space a token's text begins and ends with, as the library's
// process_offsets counts it: U+0120, which stands for a space, is one everywhere.
struct SpacesAround {
  uint32_t leading = 0, trailing = 0;
};
SpacesAround CountSpacesAround(std::string_view text);

// The character that stands for a byte: U+0021 to U+0143.
char32_t ByteLevelCharacter(unsigned char byte);
// The byte that a character stands for.
std::optional<unsigned char> ByteOfCharacter(char32_t c);
// The bytes that a vocabulary's entry stands for; empty when one of its characters stands for none.
std::optional<std::string> ByteLevelBytes(std::string_view token);

}  // namespace bertrand
