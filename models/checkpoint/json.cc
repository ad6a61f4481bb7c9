#include "models/checkpoint/json.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

#include "kernels/status.h"

namespace bertrand {
namespace {

// What malloc adds to a small block, for the estimate of the tree's size.
constexpr size_t kBlockOverhead = 16;
// A tree may have that many bytes whatever the text: BPE merges as pairs, without spaces, take 13
// times theirs, and with a vocabulary beside them that much more than allowed.
constexpr size_t kFreeBytes = 4 << 20;
// Of a key in a message.
constexpr size_t kShownBytes = 100;
// From here on a value's members are counted before they are read.
constexpr size_t kLargeBytes = 1 << 20;

size_t CountDigits(std::string_view text) {
  size_t count = 0;
  while (count < text.size() && text[count] >= '0' && text[count] <= '9') ++count;
  return count;
}

// RFC 8259's number. `is_integer`: neither fraction nor exponent.
bool IsNumber(std::string_view token, bool* is_integer) {
  if (token.starts_with('-')) token.remove_prefix(1);
  const size_t digits = CountDigits(token);
  if (digits == 0 || (digits > 1 && token[0] == '0')) return false;
  token.remove_prefix(digits);
  *is_integer = token.empty();
  if (token.starts_with('.')) {
    token.remove_prefix(1);
    const size_t fraction = CountDigits(token);
    if (fraction == 0) return false;
    token.remove_prefix(fraction);
  }
  if (!token.empty() && (token[0] == 'e' || token[0] == 'E')) {
    token.remove_prefix(1);
    if (!token.empty() && (token[0] == '+' || token[0] == '-')) token.remove_prefix(1);
    const size_t exponent = CountDigits(token);
    if (exponent == 0) return false;
    token.remove_prefix(exponent);
  }
  return token.empty();
}

// Where bytes stop being UTF-8 (RFC 3629); npos when all are. ASCII bytes are passed over.
size_t FindBadUtf8(std::string_view text) {
  const auto in = [&](size_t at, unsigned low, unsigned high) {
    const auto byte = at < text.size() ? static_cast<unsigned char>(text[at]) : 0u;
    return byte >= low && byte <= high;
  };
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    if (lead < 0x80) {
      ++at;
      continue;
    }
    const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    // Neither overlong, nor a surrogate, nor beyond U+10FFFF.
    const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    bool is_good = lead >= 0xC2 && lead <= 0xF4 && in(at + 1, low, high);
    for (size_t i = 2; i < length; ++i) is_good = is_good && in(at + i, 0x80, 0xBF);
    if (!is_good) return at;
    at += length;
  }
  return std::string_view::npos;
}

void AppendCodePoint(uint32_t c, std::string* out) {
  const auto add = [out](uint32_t byte) { *out += static_cast<char>(byte); };
  if (c < 0x80) return add(c);
  if (c < 0x800) {
    add(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      add(0xE0 | c >> 12);
    } else {
      add(0xF0 | c >> 18);
      add(0x80 | (c >> 12 & 0x3F));
    }
    add(0x80 | (c >> 6 & 0x3F));
  }
  add(0x80 | (c & 0x3F));
}

}  // namespace

// Reads the text once, from left to right, straight into the tree: an index of its tokens would
// take several times the memory of a dense file. (simdjson's did: 6.7 bytes a byte, before the
// tree.) About 200 MB/s, most of it for the tree.
class JsonReader {
 public:
  JsonReader(std::string_view text, std::string_view name, Json::SameKeys same_keys)
      : name_(name),
        text_(text),
        same_keys_(same_keys),
        is_large_(text.size() > kLargeBytes),
        budget_(kFreeBytes + (Json::kMaxExpansion - 1) * text.size()) {}

  absl::StatusOr<Json> Read() {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
    SkipSpace();
    if (Peek() != '{' && Peek() != '[') {
      return Fail(text_.empty() ? "expected an object or an array, the file is empty"
                                : "expected an object or an array");
    }
    Json json;
    BERTRAND_RETURN_IF_ERROR(ReadValue(0, &json));
    SkipSpace();
    if (at_ < text_.size()) return Fail("bytes after the end of the document");
    return json;
  }

 private:
  absl::Status Fail(std::string_view what) const { return Fail(what, at_); }
  absl::Status Fail(std::string_view what, size_t offset) const {
    return InvalidArgument(std::string(name_) + ": not valid JSON at byte " +
                           std::to_string(offset) + ": " + std::string(what));
  }

  // The next byte; 0 behind the end, which stands nowhere in JSON.
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void SkipSpace() {
    while (Peek() == ' ' || Peek() == '\n' || Peek() == '\r' || Peek() == '\t') ++at_;
  }
  bool Accept(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }

  absl::Status Charge(size_t size_bytes) {
    if (size_bytes > budget_) return Fail("too many tiny values for a file of this size");
    budget_ -= size_bytes;
    return absl::OkStatus();
  }

  absl::Status ReadValue(int depth, Json* json) {
    if (depth > Json::kMaxDepth) {
      return Fail("nested deeper than " + std::to_string(Json::kMaxDepth) + " levels");
    }
    switch (Peek()) {
      case '{':
        return ReadObject(depth, json);
      case '[':
        return ReadArray(depth, json);
      case '"': {
        std::string text;
        BERTRAND_RETURN_IF_ERROR(ReadString(&text));
        BERTRAND_RETURN_IF_ERROR(Charge(kBlockOverhead));
        json->value_.string = new std::string(std::move(text));
        json->kind_ = Json::Kind::kString;
        return absl::OkStatus();
      }
      default:
        return ReadScalar(json);
    }
  }

  absl::Status ReadScalar(Json* json) {
    const size_t begin = at_;
    const size_t end = std::min(text_.find_first_of(",]} \t\r\n", begin), text_.size());
    const std::string_view token = text_.substr(begin, end - begin);
    at_ = end;
    if (token == "null") return absl::OkStatus();
    if (token == "true" || token == "false") {
      json->kind_ = Json::Kind::kBool;
      json->value_.boolean = token == "true";
      return absl::OkStatus();
    }
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    json->kind_ = Json::Kind::kNumber;
    if (token == "NaN") {
      json->value_.number = std::numeric_limits<double>::quiet_NaN();
    } else if (token == "Infinity" || token == "-Infinity") {
      json->value_.number = token[0] == '-' ? -kInfinity : kInfinity;
    } else if (!ReadNumber(token, json)) {
      json->kind_ = Json::Kind::kNull;
      return Fail("neither a value nor a number", begin);
    }
    return absl::OkStatus();
  }

  static bool ReadNumber(std::string_view token, Json* json) {
    bool is_integer = false;
    if (!IsNumber(token, &is_integer)) return false;
    const char* end = token.data() + token.size();
    if (is_integer) {
      int64_t integer = 0;
      if (std::from_chars(token.data(), end, integer).ec == std::errc()) {
        json->is_integer_ = true;
        json->value_.integer = integer;
        return true;
      }
    }
    // Out of range leaves the value alone: 1e400 is infinite, 1e-400 is 0, as in Python.
    double number = 0;
    if (std::from_chars(token.data(), end, number).ec == std::errc::result_out_of_range) {
      const bool tiny = token.find("e-") != token.npos || token.find("E-") != token.npos;
      number = tiny ? 0.0 : std::numeric_limits<double>::infinity();
      if (token[0] == '-') number = -number;
    }
    json->value_.number = number;
    return true;
  }

  // The value of four hexadecimal digits; empty when they are none.
  std::optional<uint32_t> ReadHex() {
    uint32_t value = 0;
    const char* const begin = text_.data() + at_;
    if (text_.size() - at_ < 4) return std::nullopt;
    const auto parsed = std::from_chars(begin, begin + 4, value, 16);
    if (parsed.ec != std::errc() || parsed.ptr != begin + 4) return std::nullopt;
    at_ += 4;
    return value;
  }

  // What follows a backslash.
  absl::Status ReadEscape(std::string* text) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
    const char name = Peek();
    const size_t known = kNames.find(name);
    if (name != 'u' && (known == kNames.npos || name == '\0')) {
      return Fail("an unknown escape in a string");
    }
    ++at_;
    if (name != 'u') {
      *text += kValues[known];
      return absl::OkStatus();
    }
    std::optional<uint32_t> unit = ReadHex();
    if (!unit.has_value()) return Fail("\\u without four hexadecimal digits");
    if (*unit >= 0xD800 && *unit < 0xDC00 && text_.substr(at_).starts_with("\\u")) {
      at_ += 2;
      const std::optional<uint32_t> low = ReadHex();
      const bool is_low = low.has_value() && *low >= 0xDC00 && *low < 0xE000;
      if (is_low) unit = 0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00);
    }
    if (*unit >= 0xD800 && *unit < 0xE000) return Fail("a lone surrogate in a string");
    AppendCodePoint(*unit, text);
    return absl::OkStatus();
  }

  // Behind the quote that opens the string: the bytes up to the one that closes it or escapes.
  size_t EndOfPlain() const {
    size_t end = at_;
    while (end < text_.size() && text_[end] != '"' && text_[end] != '\\' &&
           static_cast<unsigned char>(text_[end]) >= 0x20) {
      ++end;
    }
    return end;
  }

  absl::Status ReadString(std::string* text) {
    if (!Accept('"')) return Fail("expected a string");
    const size_t begin = at_;
    for (;;) {
      const size_t end = EndOfPlain();
      const std::string_view plain = text_.substr(at_, end - at_);
      if (const size_t bad = FindBadUtf8(plain); bad != plain.npos) {
        return Fail("a string that is not UTF-8", at_ + bad);
      }
      // Most strings have no escape, and so no growing.
      text->append(plain);
      at_ = end;
      if (Accept('"')) break;
      if (!Accept('\\'))
        return Fail(end == text_.size() ? "a string without its end"
                                        : "a control character in a string");
      BERTRAND_RETURN_IF_ERROR(ReadEscape(text));
    }
    if (text->capacity() > 2 * text->size()) text->shrink_to_fit();
    constexpr size_t kInside = 15;  // bytes that need no block
    const size_t block = at_ - begin > kInside ? text->capacity() + kBlockOverhead : 0;
    return Charge(sizeof(std::string) + block);
  }

  // Elements of the array or object whose first value is next: growing to an unknown size would
  // take twice the memory for a while. What is not well-formed may be counted wrongly.
  size_t CountElements() const {
    size_t count = 1;
    int depth = 0;
    for (size_t i = at_; i < text_.size(); ++i) {
      const char c = text_[i];
      if (c == '"') {
        for (++i; i < text_.size() && text_[i] != '"'; ++i) i += text_[i] == '\\' ? 1 : 0;
      } else if (c == '[' || c == '{') {
        if (++depth > Json::kMaxDepth) break;  // refused before it gets here
      } else if (c == ']' || c == '}') {
        if (depth-- == 0) break;
      } else if (c == ',' && depth == 0) {
        ++count;
      }
    }
    return count;
  }

  absl::Status ReadArray(int depth, Json* json) {
    ++at_;
    BERTRAND_RETURN_IF_ERROR(Charge(sizeof(std::vector<Json>) + kBlockOverhead));
    json->value_.elements = new std::vector<Json>;
    json->kind_ = Json::Kind::kArray;
    std::vector<Json>& elements = *json->value_.elements;
    SkipSpace();
    if (Accept(']')) return absl::OkStatus();
    if (is_large_) {
      const size_t count = CountElements();
      BERTRAND_RETURN_IF_ERROR(Charge(count * sizeof(Json) + kBlockOverhead));
      elements.reserve(count);
    }
    do {
      SkipSpace();
      if (!is_large_) BERTRAND_RETURN_IF_ERROR(Charge(sizeof(Json)));
      BERTRAND_RETURN_IF_ERROR(ReadValue(depth + 1, &elements.emplace_back()));
      SkipSpace();
    } while (Accept(','));
    if (!Accept(']')) return Fail("expected , or ] in an array");
    if (!is_large_) elements.shrink_to_fit();
    return absl::OkStatus();
  }

  absl::Status ReadObject(int depth, Json* json) {
    ++at_;
    BERTRAND_RETURN_IF_ERROR(Charge(sizeof(Json::Object) + kBlockOverhead));
    json->value_.object = new Json::Object;
    json->kind_ = Json::Kind::kObject;
    auto& members = json->value_.object->members;
    SkipSpace();
    if (Accept('}')) return absl::OkStatus();
    constexpr size_t kMemberBytes = sizeof(Json) + sizeof(uint32_t);  // beside its key
    if (is_large_) {
      const size_t count = CountElements();
      BERTRAND_RETURN_IF_ERROR(Charge(count * kMemberBytes + 2 * kBlockOverhead));
      members.reserve(count);
    }
    do {
      SkipSpace();
      Json::Member& member = members.emplace_back();
      BERTRAND_RETURN_IF_ERROR(ReadString(&member.first));
      if (!is_large_) BERTRAND_RETURN_IF_ERROR(Charge(kMemberBytes));
      SkipSpace();
      if (!Accept(':')) return Fail("expected : behind a key");
      SkipSpace();
      BERTRAND_RETURN_IF_ERROR(ReadValue(depth + 1, &member.second));
      SkipSpace();
    } while (Accept(','));
    if (!Accept('}')) return Fail("expected , or } in an object");
    if (!is_large_) members.shrink_to_fit();
    return IndexKeys(json->value_.object);
  }

  // `by_key` is sorted, equal keys in the file's order.
  absl::Status JoinSameKeys(Json::Object* object) {
    auto& members = object->members;
    std::vector<bool> is_first(members.size());
    for (size_t i = 0; i < members.size();) {
      Json::Member& first = members[object->by_key[i]];
      is_first[object->by_key[i]] = true;
      for (++i; i < members.size() && members[object->by_key[i]].first == first.first; ++i) {
        first.second = std::move(members[object->by_key[i]].second);
      }
    }
    size_t kept = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      if (!is_first[i]) continue;
      if (kept != i) members[kept] = std::move(members[i]);
      ++kept;
    }
    members.erase(members.begin() + static_cast<std::ptrdiff_t>(kept), members.end());
    return IndexKeys(object);
  }

  absl::Status IndexKeys(Json::Object* object) {
    auto& members = object->members;
    object->by_key.resize(members.size());
    std::iota(object->by_key.begin(), object->by_key.end(), 0u);
    std::sort(object->by_key.begin(), object->by_key.end(), [&](uint32_t a, uint32_t b) {
      return std::tie(members[a].first, a) < std::tie(members[b].first, b);
    });
    for (size_t i = 1; i < members.size(); ++i) {
      const std::string& key = members[object->by_key[i]].first;
      if (key == members[object->by_key[i - 1]].first) {
        if (same_keys_ == Json::SameKeys::kLastCounts) return JoinSameKeys(object);
        const std::string_view shown = std::string_view(key).substr(0, kShownBytes);
        return Fail("the key \"" + std::string(shown.substr(0, FindBadUtf8(shown))) +
                    "\" stands twice in one object");
      }
    }
    return absl::OkStatus();
  }

  std::string_view name_;
  std::string_view text_;
  Json::SameKeys same_keys_;
  size_t at_ = 0;
  bool is_large_;  // sizes are counted before the values are read
  size_t budget_;
};

absl::StatusOr<Json> Json::Parse(std::string_view text, std::string_view name, SameKeys same_keys) {
  return JsonReader(text, name, same_keys).Read();
}

absl::StatusOr<Json> Json::ParseOwned(std::string text, std::string_view name, SameKeys same_keys) {
  return JsonReader(text, name, same_keys).Read();
}

Json::Json(Json&& other) noexcept
    : kind_(std::exchange(other.kind_, Kind::kNull)),
      is_integer_(other.is_integer_),
      value_(other.value_) {}

Json& Json::operator=(Json&& other) noexcept {
  std::swap(kind_, other.kind_);
  std::swap(is_integer_, other.is_integer_);
  std::swap(value_, other.value_);
  return *this;
}

Json::~Json() {
  if (kind_ == Kind::kString) delete value_.string;
  if (kind_ == Kind::kArray) delete value_.elements;
  if (kind_ == Kind::kObject) delete value_.object;
}

std::optional<bool> Json::as_bool() const {
  if (kind_ != Kind::kBool) return std::nullopt;
  return value_.boolean;
}

std::optional<int64_t> Json::as_int() const {
  if (kind_ != Kind::kNumber || !is_integer_) return std::nullopt;
  return value_.integer;
}

std::optional<double> Json::as_number() const {
  if (kind_ != Kind::kNumber) return std::nullopt;
  return is_integer_ ? static_cast<double>(value_.integer) : value_.number;
}

const std::string* Json::as_string() const {
  return kind_ == Kind::kString ? value_.string : nullptr;
}

const std::vector<Json>& Json::elements() const {
  static const std::vector<Json> kNone;
  return kind_ == Kind::kArray ? *value_.elements : kNone;
}

const std::vector<Json::Member>& Json::members() const {
  static const std::vector<Member> kNone;
  return kind_ == Kind::kObject ? value_.object->members : kNone;
}

const Json* Json::Find(std::string_view key) const {
  if (kind_ != Kind::kObject) return nullptr;
  const auto& members = value_.object->members;
  const auto& by_key = value_.object->by_key;
  const auto found = std::lower_bound(
      by_key.begin(), by_key.end(), key,
      [&](uint32_t index, std::string_view wanted) { return members[index].first < wanted; });
  if (found == by_key.end() || members[*found].first != key) return nullptr;
  return &members[*found].second;
}

const Json* Json::FindNonNull(std::string_view key) const {
  const Json* json = Find(key);
  return json && !json->is_null() ? json : nullptr;
}

Json Json::Take(std::string_view key) {
  const Json* const found = Find(key);
  return found == nullptr ? Json() : std::move(*const_cast<Json*>(found));
}

const char* Json::KindName() const {
  constexpr const char* kNames[] = {"null",     "true or false", "a number",
                                    "a string", "an array",      "an object"};
  return kNames[static_cast<size_t>(kind_)];
}

}  // namespace bertrand
