#pragma once

// The JSON of checkpoint files (config.json, tokenizer.json, safetensors headers), as a tree.
//
// Parsed strictly, with what transformers writes allowed: integers beyond 64 bits
// (model_max_length 1000000000000000019884624838656), NaN, Infinity, -Infinity, and a UTF-8 BOM.
// Refused, with file and byte offset: duplicate keys, bad UTF-8, lone surrogates, trailing bytes,
// nesting beyond kMaxDepth. Memory is at most a small multiple of the file's size.
//
// A Json is a value that owns its children; reading is thread-safe.

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bertrand {

class Json {
 public:
  static constexpr int kMaxDepth = 64;
  enum class Kind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };
  using Member = std::pair<std::string, Json>;

  // `name` goes into messages: usually the file's path.
  static absl::StatusOr<Json> Parse(std::string_view text, std::string_view name);

  Json() = default;
  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_bool() const { return kind_ == Kind::kBool; }
  bool is_number() const { return kind_ == Kind::kNumber; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_array() const { return kind_ == Kind::kArray; }
  bool is_object() const { return kind_ == Kind::kObject; }

  // The value when the kind fits, else empty. as_int: numbers written without fraction and exponent
  // that fit int64; as_number: any number, NaN and infinities too.
  std::optional<bool> as_bool() const;
  std::optional<int64_t> as_int() const;
  std::optional<double> as_number() const;
  const std::string* as_string() const;

  // Elements of an array, members of an object in file order; empty for other kinds.
  const std::vector<Json>& elements() const { return elements_; }
  const std::vector<Member>& members() const { return members_; }

  // The member's value; null when absent or when this is no object. Objects of many members are
  // looked up through a sorted index, in logarithmic time.
  const Json* Find(std::string_view key) const;
  // Find, where an explicit null counts as absent.
  const Json* FindNonNull(std::string_view key) const;

  // "an object", "a string", ...: for messages.
  const char* KindName() const;

 private:
  friend class JsonReader;

  Kind kind_ = Kind::kNull;
  bool bool_ = false;
  std::string text_;  // of a string: its value; of a number: as written
  std::vector<Json> elements_;
  std::vector<Member> members_;
  std::vector<uint32_t> by_key_;  // members_ indices sorted by key
};

}  // namespace bertrand
