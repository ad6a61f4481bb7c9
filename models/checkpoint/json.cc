#include "models/checkpoint/json.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

#include "kernels/status.h"

namespace bertrand {
namespace {

namespace ondemand = simdjson::ondemand;

// What malloc adds to a small block, for the estimate of the tree's size.
constexpr size_t kBlockOverhead = 16;
// A tree may have that many bytes whatever the text: BPE merges as pairs, without spaces, take 13
// times theirs, and with a vocabulary beside them that much more than allowed.
constexpr size_t kFreeBytes = 4 << 20;
// From here on a value's members are counted before they are read.
constexpr size_t kLargeBytes = 1 << 20;

std::string_view TrimRight(std::string_view token) {
  while (!token.empty() && std::string_view(" \t\r\n").find(token.back()) != token.npos) {
    token.remove_suffix(1);
  }
  return token;
}

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

// What reading may take for the tree, beside the text and simdjson's index of it: four bytes for
// each operator, and for each scalar, before which an operator stands.
size_t TreeBudget(std::string_view text) {
  size_t entries = 0;
  for (const char c : text) {
    entries += c == ',' || c == ':' || c == '[' || c == '{' ? 2 : 0;
    entries += c == ']' || c == '}' ? 1 : 0;
  }
  const size_t whole = Json::kMaxExpansion * text.size();
  return kFreeBytes + whole - std::min(whole, text.size() + sizeof(uint32_t) * entries);
}

// simdjson lets an escaped lone surrogate through as three bytes that are not UTF-8.
bool HasSurrogate(std::string_view text) {
  for (size_t i = text.find('\xED'); i != text.npos; i = text.find('\xED', i + 1)) {
    if (i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) >= 0xA0) return true;
  }
  return false;
}

}  // namespace

// One walk over simdjson's On-Demand tokens that visits every value, so that nothing is left
// unchecked.
class JsonReader {
 public:
  // `text` ends before `capacity` bytes, of which the last SIMDJSON_PADDING say nothing.
  JsonReader(std::string_view text, size_t capacity, std::string_view name)
      : name_(name),
        text_(text),
        capacity_(capacity),
        is_large_(text.size() > kLargeBytes),
        budget_(TreeBudget(text)) {}

  absl::StatusOr<Json> Read() {
    ondemand::document document;
    const simdjson::padded_string_view padded(text_.data(), text_.size(), capacity_);
    if (auto error = parser_.iterate(padded).get(document)) return Fail(error, 0);
    // Where the document stands, for messages.
    document_ = &document;
    ondemand::value root;
    if (auto error = document.get_value().get(root)) return Fail(error);
    Json json;
    BERTRAND_RETURN_IF_ERROR(ReadValue(root, 0, &json));
    // Out of bounds is how simdjson says that nothing is left.
    if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) {
      return Fail("bytes after the end of the document");
    }
    return json;
  }

 private:
  absl::Status Fail(std::string_view what, size_t offset) const {
    return InvalidArgument(std::string(name_) + ": not valid JSON at byte " +
                           std::to_string(offset) + ": " + std::string(what));
  }
  absl::Status Fail(std::string_view what) const {
    const char* at = nullptr;
    const bool known = document_ && !document_->current_location().get(at);
    return Fail(what, known ? static_cast<size_t>(at - text_.data()) : text_.size());
  }
  absl::Status Fail(simdjson::error_code error) const {
    return Fail(simdjson::error_message(error));
  }
  absl::Status Fail(simdjson::error_code error, size_t offset) const {
    return Fail(simdjson::error_message(error), offset);
  }

  absl::Status Charge(size_t size_bytes) {
    if (size_bytes > budget_) return Fail("too many tiny values for a file of this size");
    budget_ -= size_bytes;
    return absl::OkStatus();
  }

  absl::Status ReadValue(ondemand::value value, int depth, Json* json) {
    if (depth > Json::kMaxDepth) {
      return Fail("nested deeper than " + std::to_string(Json::kMaxDepth) + " levels");
    }
    const std::string_view token = TrimRight(value.raw_json_token());
    switch (token.empty() ? '\0' : token[0]) {
      case '{':
        return ReadObject(value, depth, json);
      case '[':
        return ReadArray(value, depth, json);
      case '"':
        return ReadString(value, json);
      default:
        return ReadScalar(token, json);
    }
  }

  absl::Status ReadScalar(std::string_view token, Json* json) {
    if (token == "null") return absl::OkStatus();
    if (token == "true" || token == "false") {
      json->kind_ = Json::Kind::kBool;
      json->value_.boolean = token == "true";
      return absl::OkStatus();
    }
    json->kind_ = Json::Kind::kNumber;
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (token == "NaN") {
      json->value_.number = std::numeric_limits<double>::quiet_NaN();
    } else if (token == "Infinity" || token == "-Infinity") {
      json->value_.number = token[0] == '-' ? -kInfinity : kInfinity;
    } else {
      return ReadNumber(token, json);
    }
    return absl::OkStatus();
  }

  absl::Status ReadNumber(std::string_view token, Json* json) {
    bool is_integer = false;
    if (!IsNumber(token, &is_integer)) {
      json->kind_ = Json::Kind::kNull;
      return Fail("neither a value nor a number");
    }
    const char* end = token.data() + token.size();
    if (is_integer) {
      int64_t integer = 0;
      if (std::from_chars(token.data(), end, integer).ec == std::errc()) {
        json->is_integer_ = true;
        json->value_.integer = integer;
        return absl::OkStatus();
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
    return absl::OkStatus();
  }

  absl::Status Unescape(simdjson::simdjson_result<std::string_view>&& result, std::string* text) {
    std::string_view view;
    if (auto error = std::move(result).get(view)) return Fail(error);
    if (HasSurrogate(view)) return Fail("a lone surrogate in a string");
    // simdjson keeps a copy.
    BERTRAND_RETURN_IF_ERROR(Charge(sizeof(std::string) + view.size() +
                                    (view.size() > 15 ? view.size() + kBlockOverhead : 0)));
    text->assign(view);
    return absl::OkStatus();
  }

  absl::Status ReadString(ondemand::value value, Json* json) {
    std::string text;
    BERTRAND_RETURN_IF_ERROR(Unescape(value.get_string(), &text));
    BERTRAND_RETURN_IF_ERROR(Charge(kBlockOverhead));
    json->value_.string = new std::string(std::move(text));
    json->kind_ = Json::Kind::kString;
    return absl::OkStatus();
  }

  absl::Status ReadArray(ondemand::value value, int depth, Json* json) {
    ondemand::array array;
    if (auto error = value.get_array().get(array)) return Fail(error);
    BERTRAND_RETURN_IF_ERROR(Charge(sizeof(std::vector<Json>) + kBlockOverhead));
    json->value_.elements = new std::vector<Json>;
    json->kind_ = Json::Kind::kArray;
    // Growing to an unknown size would take twice the memory for a while.
    size_t count = 0;
    if (is_large_) {
      if (auto error = array.count_elements().get(count)) return Fail(error);
      BERTRAND_RETURN_IF_ERROR(Charge(count * sizeof(Json)));
      json->value_.elements->reserve(count);
    }
    for (auto element : array) {
      ondemand::value child;
      if (auto error = element.get(child)) return Fail(error);
      if (!is_large_) BERTRAND_RETURN_IF_ERROR(Charge(sizeof(Json)));
      BERTRAND_RETURN_IF_ERROR(ReadValue(child, depth + 1, &json->value_.elements->emplace_back()));
    }
    if (!is_large_) json->value_.elements->shrink_to_fit();
    return absl::OkStatus();
  }

  absl::Status ReadObject(ondemand::value value, int depth, Json* json) {
    ondemand::object object;
    if (auto error = value.get_object().get(object)) return Fail(error);
    BERTRAND_RETURN_IF_ERROR(Charge(sizeof(Json::Object) + kBlockOverhead));
    json->value_.object = new Json::Object;
    json->kind_ = Json::Kind::kObject;
    auto& members = json->value_.object->members;
    constexpr size_t kMemberBytes = sizeof(Json) + sizeof(uint32_t);  // beside its key
    size_t count = 0;
    if (is_large_) {
      if (auto error = object.count_fields().get(count)) return Fail(error);
      BERTRAND_RETURN_IF_ERROR(Charge(count * kMemberBytes));
      members.reserve(count);
    }
    for (auto field : object) {
      Json::Member& member = members.emplace_back();
      BERTRAND_RETURN_IF_ERROR(Unescape(field.unescaped_key(), &member.first));
      if (!is_large_) BERTRAND_RETURN_IF_ERROR(Charge(kMemberBytes));
      ondemand::value child;
      if (auto error = field.value().get(child)) return Fail(error);
      BERTRAND_RETURN_IF_ERROR(ReadValue(child, depth + 1, &member.second));
    }
    if (!is_large_) members.shrink_to_fit();
    return IndexKeys(json->value_.object);
  }

  absl::Status IndexKeys(Json::Object* object) {
    auto& members = object->members;
    object->by_key.resize(members.size());
    std::iota(object->by_key.begin(), object->by_key.end(), 0u);
    std::sort(object->by_key.begin(), object->by_key.end(),
              [&](uint32_t a, uint32_t b) { return members[a].first < members[b].first; });
    for (size_t i = 1; i < members.size(); ++i) {
      const std::string& key = members[object->by_key[i]].first;
      if (key == members[object->by_key[i - 1]].first) {
        return Fail("the key \"" + key.substr(0, 100) + "\" stands twice in one object");
      }
    }
    return absl::OkStatus();
  }

  std::string_view name_;
  std::string_view text_;
  size_t capacity_;
  bool is_large_;  // sizes are counted before the values are read
  simdjson::ondemand::parser parser_;
  ondemand::document* document_ = nullptr;
  size_t budget_;
};

absl::StatusOr<Json> Json::Parse(std::string_view text, std::string_view name) {
  std::string padded;
  padded.reserve(text.size() + simdjson::SIMDJSON_PADDING);
  padded.append(text);
  return ParseOwned(std::move(padded), name);
}

absl::StatusOr<Json> Json::ParseOwned(std::string owned, std::string_view name) {
  const size_t size = owned.size();
  owned.resize(size + simdjson::SIMDJSON_PADDING);
  std::string_view text(owned.data(), size);
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == text.npos || (text[first] != '{' && text[first] != '[')) {
    return InvalidArgument(std::string(name) + ": not valid JSON at byte " +
                           std::to_string(first == text.npos ? text.size() : first) +
                           ": expected an object or an array" +
                           (text.empty() ? ", the file is empty" : ""));
  }
  return JsonReader(text, text.size() + simdjson::SIMDJSON_PADDING, name).Read();
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
