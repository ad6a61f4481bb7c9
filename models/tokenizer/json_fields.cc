#include "models/tokenizer/json_fields.h"

#include "kernels/status.h"

namespace bertrand {

absl::Status JsonFields::Wrong(std::string_view key, std::string_view expected) const {
  const Json* value = object_.Find(key);
  std::string message = std::string(where_) + ": `" + std::string(key) + "` must be " +
                        std::string(expected) + ", but it is ";
  message += value == nullptr ? "absent" : value->KindName();
  return InvalidArgument(message);
}

absl::StatusOr<std::string> JsonFields::String(std::string_view key) const {
  const Json* value = object_.Find(key);
  const std::string* text = value == nullptr ? nullptr : value->as_string();
  if (text == nullptr) return Wrong(key, "a string");
  return *text;
}

absl::StatusOr<std::string> JsonFields::String(std::string_view key,
                                               std::string_view value_if_absent) const {
  if (object_.FindNonNull(key) == nullptr) return std::string(value_if_absent);
  return String(key);
}

absl::StatusOr<bool> JsonFields::Bool(std::string_view key) const {
  const Json* value = object_.Find(key);
  const std::optional<bool> flag = value == nullptr ? std::nullopt : value->as_bool();
  if (!flag.has_value()) return Wrong(key, "true or false");
  return *flag;
}

absl::StatusOr<bool> JsonFields::Bool(std::string_view key, bool value_if_absent) const {
  if (object_.FindNonNull(key) == nullptr) return value_if_absent;
  return Bool(key);
}

absl::StatusOr<int32_t> JsonFields::TokenId(std::string_view key) const {
  const Json* value = object_.Find(key);
  if (value == nullptr) return Wrong(key, "a token id");
  return ParseTokenId(*value, std::string(where_) + ": `" + std::string(key) + "`");
}

absl::StatusOr<int64_t> JsonFields::Integer(std::string_view key, int64_t value_if_absent,
                                            int64_t low, int64_t high) const {
  const Json* value = object_.FindNonNull(key);
  if (value == nullptr) return value_if_absent;
  const std::optional<int64_t> number = value->as_int();
  if (!number.has_value() || *number < low || *number > high) {
    return Wrong(key, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return *number;
}

absl::StatusOr<int32_t> ParseTokenId(const Json& json, std::string_view what) {
  const std::optional<int64_t> id = json.as_int();
  if (!id.has_value()) {
    return InvalidArgument(std::string(what) + " must be a token id, but it is " + json.KindName());
  }
  if (*id < 0 || *id > kMaxTokenId) {
    return InvalidArgument(std::string(what) + " is " + std::to_string(*id) +
                           "; token ids go from 0 to " + std::to_string(kMaxTokenId));
  }
  return static_cast<int32_t>(*id);
}

absl::Status NotSupported(std::string_view where, std::string_view type,
                          std::string_view supported) {
  return Unimplemented(std::string(where) + " type \"" + std::string(type) +
                       "\" is not supported by this version; " + std::string(supported));
}

}  // namespace bertrand
