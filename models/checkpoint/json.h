#pragma once

// The JSON of checkpoint files (config.json, tokenizer.json, safetensors headers), as a tree.
//
// Parsed strictly, with what transformers writes allowed: integers beyond 64 bits
// (model_max_length 1000000000000000019884624838656), NaN, Infinity, -Infinity, and a UTF-8 BOM.
// Refused, with name and byte offset: duplicate keys (unless SameKeys says otherwise), bad UTF-8,
// lone surrogates, trailing bytes, nesting beyond kMaxDepth, and a file so full of tiny values that
// reading it would take more than kMaxExpansion times its size: the text and the tree together. The
// top must be an object or an array.
//
// A Json is a move-only value that owns its children; reading is thread-safe.

#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bertrand {

class Json {
 public:
  static constexpr int kMaxDepth = 64;
  static constexpr size_t kMaxExpansion = 9;
  enum class Kind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };
  using Member = std::pair<std::string, Json>;

  // Keys that stand twice in one object: an error, or as in Python's dict, where the last value
  // counts, in the first one's place. The latter for files that people edit.
  enum class SameKeys : uint8_t { kRefused, kLastCounts };

  // `name` goes into messages: usually the file's path.
  static absl::StatusOr<Json> Parse(std::string_view text, std::string_view name,
                                    SameKeys same_keys = SameKeys::kRefused);
  // For large files: frees the text once it is read.
  static absl::StatusOr<Json> ParseOwned(std::string text, std::string_view name,
                                         SameKeys same_keys = SameKeys::kRefused);

  Json() = default;
  Json(Json&& other) noexcept;
  Json& operator=(Json&& other) noexcept;
  ~Json();

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
  const std::vector<Json>& elements() const;
  const std::vector<Member>& members() const;

  // The member's value; null when absent or when this is no object. Logarithmic time.
  const Json* Find(std::string_view key) const;
  // Find, where an explicit null counts as absent.
  const Json* FindNonNull(std::string_view key) const;

  // The member's value, of which null stays behind; null when absent or when this is no object. For
  // a reader that frees what it has read.
  Json Take(std::string_view key);

  // "an object", "a string", ...: for messages.
  const char* KindName() const;

 private:
  friend class JsonReader;

  struct Object {
    std::vector<Member> members;
    std::vector<uint32_t> by_key;  // indices of members, sorted by key
  };

  // Small, because a vocabulary has a million of them: the kind says which one is alive.
  union Value {
    bool boolean;
    int64_t integer;
    double number;
    std::string* string;          // owned
    std::vector<Json>* elements;  // owned
    Object* object;               // owned
  };

  Kind kind_ = Kind::kNull;
  bool is_integer_ = false;
  Value value_{};
};

}  // namespace bertrand
