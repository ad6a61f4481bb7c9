#include "server/grpc/wire.h"

#include <absl/strings/str_cat.h>

#include <map>

#include "kernels/status.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr int kNestingMax = 32;

absl::Status Malformed(size_t position) {
  return InvalidArgument(absl::StrCat("malformed protobuf message at byte ", position));
}

std::string FieldPath(const std::string& parent, const FieldDescriptor& field, int64_t index) {
  std::string path = parent.empty() ? std::string(field.name()) : parent + "." + field.name();
  if (field.is_repeated()) absl::StrAppend(&path, "[", index, "]");
  return path;
}

// The first bad string of a message, depth first.
absl::Status FindBadText(std::string_view message, const Descriptor* type, const std::string& path,
                         int nesting) {
  if (nesting > kNestingMax) return InvalidArgument("protobuf message nested too deep");
  std::map<uint32_t, int64_t> counts;
  WireReader reader(message);
  while (reader.Next()) {
    const FieldDescriptor* field = type->FindFieldByNumber(static_cast<int>(reader.field()));
    if (field == nullptr || reader.type() != WireReader::Type::kBytes) continue;
    const int64_t index = counts[reader.field()]++;
    if (field->type() == FieldDescriptor::TYPE_STRING) {
      if (const auto offset = FindInvalidUtf8(reader.bytes()); offset.has_value()) {
        return InvalidArgument(
            absl::StrCat(FieldPath(path, *field, index), ": invalid UTF-8 at byte ", *offset));
      }
    } else if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      BERTRAND_RETURN_IF_ERROR(FindBadText(reader.bytes(), field->message_type(),
                                           FieldPath(path, *field, index), nesting + 1));
    }
  }
  if (!reader.malformed()) return absl::OkStatus();
  return Annotate(Malformed(reader.position()), path.empty() ? type->name() : path);
}

}  // namespace

bool WireReader::Fail() {
  malformed_ = true;
  return false;
}

bool WireReader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (position_ >= message_.size()) return Fail();
    const auto byte = static_cast<uint8_t>(message_[position_++]);
    *value |= static_cast<uint64_t>(byte & 0x7F) << (shift < 64 ? shift : 63);
    if (byte < 0x80) return true;
  }
  return Fail();
}

bool WireReader::Next() {
  if (malformed_ || position_ == message_.size()) return false;
  uint64_t tag = 0, length = 0;
  if (!ReadVarint(&tag)) return false;
  field_ = static_cast<uint32_t>(tag >> 3);
  if ((tag >> 32) != 0 || field_ == 0) return Fail();
  type_ = static_cast<Type>(tag & 7);
  switch (type_) {
    case Type::kVarint:
      return ReadVarint(&length);
    case Type::kFixed64:
      length = 8;
      break;
    case Type::kFixed32:
      length = 4;
      break;
    case Type::kBytes:
      if (!ReadVarint(&length)) return false;
      break;
    case Type::kGroupBegin:  // deprecated; its fields are passed over like ours, which is harmless
    case Type::kGroupEnd:
      return true;
    default:
      return Fail();
  }
  if (length > message_.size() - position_) return Fail();
  bytes_ = message_.substr(position_, length);
  position_ += length;
  return true;
}

absl::StatusOr<int64_t> CountField(std::string_view message, uint32_t field) {
  int64_t count = 0;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.field() == field && reader.type() == WireReader::Type::kBytes) ++count;
  }
  if (reader.malformed()) return Malformed(reader.position());
  return count;
}

absl::StatusOr<std::string_view> ReadStringField(std::string_view message, uint32_t field) {
  std::string_view value;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.field() == field && reader.type() == WireReader::Type::kBytes) {
      value = reader.bytes();
    }
  }
  if (reader.malformed()) return Malformed(reader.position());
  return value;
}

absl::Status ExplainParseFailure(std::string_view message, const Descriptor* type) {
  BERTRAND_RETURN_IF_ERROR(FindBadText(message, type, "", 0));
  return InvalidArgument(absl::StrCat("not a message of type ", type->full_name()));
}

}  // namespace bertrand
