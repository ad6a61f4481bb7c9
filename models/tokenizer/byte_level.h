#pragma once

// GPT-2's byte level: the characters that stand for bytes in a vocabulary, and the regular
// expression that cuts a text into words. Inside Bertrand words stay bytes; only vocabularies are
// written in those characters.
//
// All functions are pure and thread-safe.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bertrand {

inline constexpr std::string_view kByteLevelRegex =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

// One word after the other: the expression matches everywhere, so that words follow each other
// without gaps. Each code point is looked at once or twice, but white space: linear in a word and
// the white space behind it. The text must outlive this.
class ByteLevelWords {
 public:
  // From text[at] on to `end`, at < end.
  ByteLevelWords(std::string_view text, size_t at, size_t end);
  // The end of the next word. Requires that the one before has not reached `end`.
  size_t Next();

 private:
  const std::string_view text_;
  const size_t end_;
  size_t at_;      // where the next word begins,
  uint8_t first_;  // the class of the code point there,
  size_t behind_;  // and where that one ends, or a later one of the same word
};

// The end of the word that begins at text[at], at < end.
inline size_t NextByteLevelWord(std::string_view text, size_t at, size_t end) {
  return ByteLevelWords(text, at, end).Next();
}

// The bytes of 's 't 'm 'd 're 've 'll at text[at], or 0.
inline constexpr size_t kMaxContraction = 3;
inline size_t ContractionLength(std::string_view text, size_t at) {
  if (text[at] != '\'' || at + 1 >= text.size()) return 0;
  const char first = text[at + 1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (at + 2 >= text.size()) return 0;
  const char second = text[at + 2];
  return ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l') ? 3
                                                                                              : 0;
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
