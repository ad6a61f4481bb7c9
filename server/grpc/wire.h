#pragma once

// What must be known of a message before, or instead of, parsing it: protobuf's parser allocates
// for whatever the bytes promise (two million empty inputs fit 4 MB), and says only "no" to bad
// UTF-8. These walk the wire format without allocating. Pure functions.
//
// Source: protobuf's encoding, https://protobuf.dev/programming-guides/encoding.

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bertrand {

// Calls of Next give the fields of one message, in the order of the wire.
class WireReader {
 public:
  enum class Type : uint8_t {
    kVarint = 0,
    kFixed64 = 1,
    kBytes = 2,
    kGroupBegin = 3,
    kGroupEnd = 4,
    kFixed32 = 5
  };

  explicit WireReader(std::string_view message) : message_(message) {}

  // False at the end, and when the message is malformed.
  bool Next();
  bool malformed() const { return malformed_; }
  size_t position() const { return position_; }

  uint32_t field() const { return field_; }
  Type type() const { return type_; }
  // Of kBytes: strings, messages, packed numbers.
  std::string_view bytes() const { return bytes_; }

 private:
  bool ReadVarint(uint64_t* value);
  bool Fail();

  const std::string_view message_;
  size_t position_ = 0;
  bool malformed_ = false;
  uint32_t field_ = 0;
  Type type_ = Type::kVarint;
  std::string_view bytes_;
};

// How often a length-delimited field occurs. InvalidArgument with the byte offset when malformed.
absl::StatusOr<int64_t> CountField(std::string_view message, uint32_t field);

// The last occurrence of a string field; empty when it is absent.
absl::StatusOr<std::string_view> ReadStringField(std::string_view message, uint32_t field);

// Why `message` cannot be parsed as `type`: InvalidArgument that names the field and byte of the
// first bad UTF-8 ("inputs[3].text: invalid UTF-8 at byte 17"), or the offset at which it is
// malformed.
absl::Status ExplainParseFailure(std::string_view message,
                                 const google::protobuf::Descriptor* type);

}  // namespace bertrand
