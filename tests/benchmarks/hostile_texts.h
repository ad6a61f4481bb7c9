#pragma once

// Texts that take a tokenizer long, if it lets them: each of `size` bytes or a few more, and
// what of it depends on the vocabulary is made for the tokenizer's.

#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace bertrand {

struct HostileText {
  std::string_view name;
  std::string text;
};
// One at a time, since they are large: 0 <= index < NumHostileTexts().
size_t NumHostileTexts();
HostileText MakeHostileText(const Tokenizer& tokenizer, size_t index, size_t size);

// Short strings to be repeated, made of the vocabulary's tokens: a token, its prefixes, it without
// its end, two of them. Which of them is the worst, only a trial says.
std::vector<std::string> HostileUnits(const Tokenizer& tokenizer, size_t count);
std::string Repeat(std::string_view unit, size_t size);

}  // namespace bertrand
