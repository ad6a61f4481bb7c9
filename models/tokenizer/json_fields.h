#pragma once

// Members of the objects in tokenizer.json, with one-line errors that say where they are.
//
// A JsonFields borrows the object; it is as thread-safe as Json.

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "models/checkpoint/json.h"

namespace bertrand {

class JsonFields {
 public:
  // `where` is a name for messages ("model").
  JsonFields(const Json& object, std::string_view where) : object_(object), where_(where) {}

  // Errors when the member is absent or of another kind, unless a default is given: then an absent
  // or null member is the default.
  absl::StatusOr<std::string> String(std::string_view key) const;
  absl::StatusOr<std::string> String(std::string_view key, std::string_view value_if_absent) const;
  absl::StatusOr<bool> Bool(std::string_view key) const;
  absl::StatusOr<bool> Bool(std::string_view key, bool value_if_absent) const;
  // A token id: 0 <= id <= kMaxTokenId.
  absl::StatusOr<int32_t> TokenId(std::string_view key) const;
  absl::StatusOr<int64_t> Integer(std::string_view key, int64_t value_if_absent, int64_t low,
                                  int64_t high) const;

 private:
  absl::Status Wrong(std::string_view key, std::string_view expected) const;

  const Json& object_;
  std::string_view where_;
};

// Ids above this are refused, so that tables by id stay small.
inline constexpr int64_t kMaxTokenId = (1 << 24) - 1;

// A token id from a JSON value, or an error that starts with `what`.
absl::StatusOr<int32_t> ParseTokenId(const Json& json, std::string_view what);

// Unimplemented: `where type "type" is not supported by this version; supported`.
absl::Status NotSupported(std::string_view where, std::string_view type,
                          std::string_view supported);

}  // namespace bertrand
