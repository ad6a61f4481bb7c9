#include "tests/benchmarks/hostile_texts.h"

#include <algorithm>
#include <array>
#include <random>

#include "kernels/status.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

using Random = std::mt19937;

// Code points [first, first + count), one after the other at random.
std::string RandomOf(char32_t first, char32_t count, size_t size) {
  Random random(1);
  std::string text;
  while (text.size() < size) AppendUtf8(first + random() % count, &text);
  return text;
}

// The texts of tokens, without spaces around them and marks of the model.
std::vector<std::string> TokenTexts(const Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsSpecial(id)) continue;
    const std::string_view token = tokenizer.TokenText(id);
    if (token.empty()) continue;
    const bool is_inner = tokenizer.has_subword_prefix() && token.starts_with("##");
    std::string text =
        is_inner ? std::string(token.substr(2)) : tokenizer.JoinTokens(std::span(&token, 1));
    const size_t begin = std::min(text.find_first_not_of(' '), text.size());
    text.erase(0, begin);
    // Part of a character.
    if (text.empty() || text.find("\uFFFD") != std::string::npos) continue;
    texts.push_back(std::move(text));
  }
  BERTRAND_CHECK(!texts.empty(), "a vocabulary without text");
  return texts;
}

std::string WithoutEnd(std::string_view text) {
  return std::string(text.substr(0, text.empty() ? 0 : PreviousBoundary(text, text.size())));
}

std::string Prefixes(std::string_view text) {
  std::string all;
  for (size_t at = 0; at < text.size();) {
    NextCodePoint(text, &at);
    all += text.substr(0, at);
  }
  return all;
}

std::string TokensEndToEnd(const Tokenizer& tokenizer, size_t size, bool prefixes) {
  const std::vector<std::string> texts = TokenTexts(tokenizer);
  Random random(2);
  std::string text;
  while (text.size() < size) {
    const std::string& token = texts[random() % texts.size()];
    text += prefixes ? Prefixes(token) : token;
  }
  return text;
}

std::string LongestToken(const Tokenizer& tokenizer, size_t size) {
  const std::vector<std::string> texts = TokenTexts(tokenizer);
  const auto longest = std::max_element(texts.begin(), texts.end(),
                                        [](auto& a, auto& b) { return a.size() < b.size(); });
  return Repeat(longest->size() > 1 ? WithoutEnd(*longest) : *longest, size);
}

std::string MarksOfManyClasses(size_t size) {
  constexpr std::array<char32_t, 10> kMarks = {0x300, 0x301, 0x323, 0x327, 0x334,
                                               0x345, 0x35C, 0x5B0, 0x94D, 0x302E};
  Random random(3);
  std::string text = "a";
  while (text.size() < size) AppendUtf8(kMarks[random() % kMarks.size()], &text);
  return text;
}

struct Kind {
  std::string_view name;
  std::string (*make)(const Tokenizer& tokenizer, size_t size);
};
template <char32_t kFirst, char32_t kCount>
std::string Range(const Tokenizer&, size_t size) {
  return RandomOf(kFirst, kCount, size);
}

std::string RandomWords(const Tokenizer&, size_t size) {
  std::string text = RandomOf(U'a', 26, size);
  for (size_t at = 8; at < text.size(); at += 9) text[at] = ' ';
  return text;
}

constexpr Kind kKinds[] = {
    {"one letter", [](auto&, size_t size) { return Repeat("a", size); }},
    {"one letter, a space before each", [](auto&, size_t size) { return Repeat(" a", size); }},
    {"two letters in turn", [](auto&, size_t size) { return Repeat("ab", size); }},
    {"random letters", Range<U'a', 26>},
    {"random words of eight letters", &RandomWords},
    {"random digits", Range<U'0', 10>},
    {"random punctuation", Range<U'!', 15>},
    {"spaces", [](auto&, size_t size) { return Repeat(" ", size); }},
    {"newlines", [](auto&, size_t size) { return Repeat("\n", size); }},
    {"a letter and marks", [](auto&, size_t size) { return "a" + Repeat("\u0301", size); }},
    {"marks alone", [](auto&, size_t size) { return Repeat("\u0301", size); }},
    {"letters with a mark each", [](auto&, size_t size) { return Repeat("e\u0301", size); }},
    {"marks of many classes", [](auto&, size_t size) { return MarksOfManyClasses(size); }},
    {"random ideographs", Range<0x4E00, 0x5000>},
    {"one ideograph", [](auto&, size_t size) { return Repeat("\u4e2d", size); }},
    {"random syllables", Range<0xAC00, 11172>},
    {"random emoji", Range<0x1F300, 0x300>},
    {"joined emoji", [](auto&, size_t size) { return Repeat("\U0001F469\u200D", size); }},
    {"tokens end to end", [](auto& t, size_t size) { return TokensEndToEnd(t, size, false); }},
    {"prefixes of tokens", [](auto& t, size_t size) { return TokensEndToEnd(t, size, true); }},
    {"longest token without its end", &LongestToken},
};

}  // namespace

std::string Repeat(std::string_view unit, size_t size) {
  BERTRAND_CHECK(!unit.empty(), "nothing to repeat");
  std::string text;
  text.reserve(size + unit.size());
  while (text.size() < size) text += unit;
  return text;
}

size_t NumHostileTexts() { return std::size(kKinds); }

HostileText MakeHostileText(const Tokenizer& tokenizer, size_t index, size_t size) {
  return {kKinds[index].name, kKinds[index].make(tokenizer, size)};
}

std::vector<std::string> HostileUnits(const Tokenizer& tokenizer, size_t count) {
  const std::vector<std::string> texts = TokenTexts(tokenizer);
  Random random(4);
  std::vector<std::string> units;
  while (units.size() < count) {
    const std::string& token = texts[random() % texts.size()];
    const std::string& other = texts[random() % texts.size()];
    std::string unit;
    switch (random() % 4) {
      case 0:
        unit = WithoutEnd(token);
        break;
      case 1:
        unit = WithoutEnd(token) + WithoutEnd(other);
        break;
      case 2:
        unit = Prefixes(token);
        break;
      default:
        unit = token + other;
    }
    if (!unit.empty()) units.push_back(std::move(unit));
  }
  return units;
}

}  // namespace bertrand
