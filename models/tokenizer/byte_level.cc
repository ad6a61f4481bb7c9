#include "models/tokenizer/byte_level.h"

#include <array>
#include <cstring>

#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

constexpr char32_t kFirstExtra = 0x100;

constexpr bool StandsForItself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int16_t, 0x180> byte{};
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.byte) byte = -1;
  char32_t extra = kFirstExtra;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char32_t c = StandsForItself(byte) ? byte : extra++;
    alphabet.character[byte] = c;
    alphabet.byte[c] = static_cast<int16_t>(byte);
  }
  return alphabet;
}
constexpr Alphabet kAlphabet = MakeAlphabet();

using Class = uint8_t;
constexpr Class kLetters = 0, kNumbers = 1, kSpaces = 2, kOthers = 3;

constexpr Class ClassOf(uint16_t flags) {
  if (flags & kLetter) return kLetters;
  if (flags & kNumber) return kNumbers;
  return flags & kSpace ? kSpaces : kOthers;
}

// Those of one or two bytes of UTF-8.
constexpr std::array<Class, 0x800> MakeClasses() {
  std::array<Class, 0x800> classes{};
  for (char32_t c = 0; c < classes.size(); ++c) classes[c] = ClassOf(RecordOf(c).flags);
  return classes;
}
constexpr std::array<Class, 0x800> kClasses = MakeClasses();

// The class of the code point at text[at]; *next is behind it.
inline Class ClassAt(std::string_view text, size_t at, size_t* next) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) {
    *next = at + 1;
    return kClasses[byte];
  }
  *next = at;
  const char32_t c = NextCodePoint(text, next);
  return c < kClasses.size() ? kClasses[c] : ClassOf(RecordOf(c).flags);
}

// Behind the letters, or the digits, of ASCII that text[at, end) begins with, but for the last few:
// eight at a time, for words that are long.
size_t SkipAscii(std::string_view text, size_t at, size_t end, Class wanted) {
  constexpr uint64_t kEach = 0x0101010101010101, kTops = 0x80 * kEach;
  if (wanted != kLetters && wanted != kNumbers) return at;
  const uint64_t first = wanted == kLetters ? 'a' : '0', last = wanted == kLetters ? 'z' : '9';
  const uint64_t lower = (wanted == kLetters ? 0x20 : 0) * kEach;
  for (; at + 8 <= end; at += 8) {
    uint64_t bytes;
    std::memcpy(&bytes, text.data() + at, sizeof(bytes));
    if ((bytes & kTops) != 0) break;
    bytes |= lower;
    const uint64_t from = bytes + (0x80 - first) * kEach, behind = bytes + (0x7F - last) * kEach;
    if ((from & ~behind & kTops) != kTops) break;
  }
  return at;
}

size_t EndOfRun(std::string_view text, size_t at, size_t end, Class wanted) {
  size_t next;
  while (at < end && ClassAt(text, at, &next) == wanted) at = next;
  return at;
}

}  // namespace

ByteLevelWords::ByteLevelWords(std::string_view text, size_t at, size_t end)
    : text_(text), end_(end), at_(at), first_(ClassAt(text, at, &behind_)) {
  // The first word may be long; inside Next this would cost short ones.
  const Class wanted = text[at] == ' ' ? kLetters : first_;
  const size_t known = SkipAscii(text, behind_, end, wanted);
  if (known != behind_) behind_ = known - 1;  // where there is one more of the kind
}

size_t ByteLevelWords::Next() {
  if (const size_t length = ContractionLength(text_.substr(0, end_), at_)) {
    at_ += length;
    if (at_ < end_) first_ = ClassAt(text_, at_, &behind_);
    return at_;
  }
  Class wanted = first_;
  size_t next = behind_, behind;
  if (text_[at_] == ' ' && next < end_) {
    const Class after = ClassAt(text_, next, &behind);
    if (after != kSpaces) {
      wanted = after;
      next = behind;
    }
  }
  size_t last = at_;  // of white space
  for (; next < end_; last = next, next = behind) {
    const Class found = ClassAt(text_, next, &behind);
    if (found == wanted) continue;
    // White space leaves its last code point to what follows, unless it is the only one.
    const bool leaves_last = wanted == kSpaces && last > at_;
    at_ = leaves_last ? last : next;
    behind_ = leaves_last ? next : behind;
    first_ = leaves_last ? kSpaces : found;
    return at_;
  }
  return at_ = end_;
}

size_t EndOfSpacedWord(std::string_view text, size_t at, size_t end) {
  size_t next;
  const Class first = ClassAt(text, at, &next);
  return EndOfRun(text, next, end, first);
}

SpacesAround CountSpacesAround(std::string_view text) {
  constexpr char32_t kSpaceCharacter = 0x120;
  const auto is_space = [](char32_t c) { return c == kSpaceCharacter || HasFlag(c, kSpace); };
  SpacesAround spaces;
  for (size_t at = 0; at < text.size() && is_space(NextCodePoint(text, &at));) ++spaces.leading;
  for (size_t end = text.size(); end > 0;) {
    size_t at = end = PreviousBoundary(text, end);
    if (!is_space(NextCodePoint(text, &at))) break;
    ++spaces.trailing;
  }
  return spaces;
}

char32_t ByteLevelCharacter(unsigned char byte) { return kAlphabet.character[byte]; }

std::optional<unsigned char> ByteOfCharacter(char32_t c) {
  if (c >= kAlphabet.byte.size() || kAlphabet.byte[c] < 0) return std::nullopt;
  return static_cast<unsigned char>(kAlphabet.byte[c]);
}

std::optional<std::string> ByteLevelBytes(std::string_view token) {
  std::string bytes;
  size_t at = 0;
  while (at < token.size()) {
    const std::optional<unsigned char> byte = ByteOfCharacter(NextCodePoint(token, &at));
    if (!byte.has_value()) return std::nullopt;
    bytes += static_cast<char>(*byte);
  }
  return bytes;
}

}  // namespace bertrand
