#include "models/tokenizer/pattern.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

constexpr std::string_view kMeta = "\\^$.|?*+()[]{}";

// Literal characters, some of them escaped; false when there is anything else.
bool Unescape(std::string_view regex, std::string* text) {
  for (size_t i = 0; i < regex.size(); ++i) {
    if (regex[i] == '\\') {
      const bool punctuation = i + 1 < regex.size() &&
                               static_cast<unsigned char>(regex[i + 1]) < 0x80 &&
                               HasFlag(static_cast<char32_t>(regex[i + 1]), kPunctuation);
      if (!punctuation) return false;
      *text += regex[++i];
    } else if (kMeta.find(regex[i]) != std::string_view::npos) {
      return false;
    } else {
      *text += regex[i];
    }
  }
  return !text->empty();
}

// A class at the start of the expression: its flag, whether it is negated, and its length.
struct ClassName {
  std::string_view text;
  int flag;
  bool negated;
};
constexpr ClassName kClasses[] = {{"\\s", kSpace, false},       {"\\S", kSpace, true},
                                  {"\\p{L}", kLetter, false},   {"\\P{L}", kLetter, true},
                                  {"\\p{N}", kNumber, false},   {"\\P{N}", kNumber, true},
                                  {"[^\\s]", kSpace, true},     {"[\\s]", kSpace, false},
                                  {"[\\p{L}]", kLetter, false}, {"[\\p{N}]", kNumber, false}};

// `+` or `{n,}`, and nothing behind it.
bool ParseQuantifier(std::string_view text, size_t* min_count) {
  *min_count = 1;
  if (text == "+") return true;
  if (text.size() < 4 || text[0] != '{' || !text.ends_with(",}")) return false;
  const char* const end = text.data() + text.size() - 2;
  const auto parsed = std::from_chars(text.data() + 1, end, *min_count);
  return parsed.ec == std::errc() && parsed.ptr == end && *min_count > 0;
}

}  // namespace

Pattern Pattern::Literal(std::string text) {
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

bool Pattern::ParseRegex(std::string_view regex) {
  if (regex == kByteLevelRegex) {
    kind_ = Kind::kByteLevel;
    return true;
  }
  if (Unescape(regex, &literal_)) return true;
  size_t length = 0;
  for (const ClassName& name : kClasses) {
    if (!regex.starts_with(name.text)) continue;
    length = name.text.size();
    flag_ = name.flag;
    negated_ = name.negated;
  }
  if (length == 0) {
    // One character, perhaps escaped.
    if (regex.empty()) return false;
    size_t at = regex[0] == '\\' ? 1 : 0;
    if (at >= regex.size()) return false;
    const size_t begin = at;
    code_point_ = NextCodePoint(regex, &at);
    std::string unescaped;
    if (!Unescape(regex.substr(0, at), &unescaped)) return false;
    length = at;
    if (unescaped != regex.substr(begin, at - begin)) return false;
  }
  kind_ = regex.size() == length ? Kind::kOne : Kind::kRun;
  return kind_ == Kind::kOne || ParseQuantifier(regex.substr(length), &min_count_);
}

absl::StatusOr<Pattern> Pattern::Parse(const Json* json, std::string_view where) {
  const Json* literal = json == nullptr ? nullptr : json->Find("String");
  const Json* regex = json == nullptr ? nullptr : json->Find("Regex");
  const Json* value = literal != nullptr ? literal : regex;
  const std::string* text = value == nullptr ? nullptr : value->as_string();
  if (text == nullptr) {
    return InvalidArgument(std::string(where) + ": `pattern` must have a String or a Regex");
  }
  if (text->empty()) return InvalidArgument(std::string(where) + ": `pattern` is empty");
  Pattern pattern;
  if (literal != nullptr) {
    pattern.literal_ = *text;
  } else if (!pattern.ParseRegex(*text)) {
    return NotSupported(std::string(where) + ": regular expression of", *text,
                        "a literal, \\s, \\p{L}, \\p{N} or a character, alone or with + or {n,}, "
                        "and GPT-2's are");
  }
  return pattern;
}

bool Pattern::Matches(char32_t c) const {
  if (flag_ == 0) return c == code_point_;
  return ((RecordOf(c).flags & flag_) != 0) != negated_;
}

uint64_t Pattern::MaxGrowth(std::string_view content) const {
  const size_t shortest = kind_ == Kind::kLiteral ? literal_.size() : min_count_;
  return std::max<uint64_t>(1, content.size() / shortest + (content.size() % shortest != 0));
}

bool Pattern::Find(std::string_view text, size_t from, size_t end, WordRange* match) const {
  if (kind_ == Kind::kLiteral) {
    const size_t found = text.substr(0, end).find(literal_, from);
    if (found == std::string_view::npos) return false;
    *match = {found, found + literal_.size()};
    return true;
  }
  if (kind_ == Kind::kByteLevel) {
    if (from >= end) return false;
    *match = {from, NextByteLevelWord(text, from, end)};
    return true;
  }
  size_t at = from;
  while (at < end) {
    const size_t begin = at;
    size_t count = 0, next = at;
    while (next < end && Matches(NextCodePoint(text, &next))) {
      at = next;
      ++count;
      if (kind_ == Kind::kOne) break;
    }
    if (count >= min_count_) {
      *match = {begin, at};
      return true;
    }
    at = next;  // behind what did not match
  }
  return false;
}

}  // namespace bertrand
