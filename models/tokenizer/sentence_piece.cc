#include "models/tokenizer/sentence_piece.h"

#include <cstring>
#include <optional>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {
namespace {

// One field of a message: a number for varints and fixed ones, bytes for the others.
struct Field {
  uint32_t number = 0;
  uint64_t value = 0;
  std::string_view bytes;
  bool has_bytes = false;
};

// Reads a message field by field.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : bytes_(bytes) {}
  bool at_end() const { return at_ == bytes_.size(); }
  size_t at() const { return at_; }

  // Empty when the bytes are no field.
  std::optional<Field> Next() {
    const std::optional<uint64_t> tag = Varint();
    if (!tag.has_value() || *tag >> 3 == 0 || *tag >> 32 != 0) return std::nullopt;
    Field field;
    field.number = static_cast<uint32_t>(*tag >> 3);
    switch (*tag & 7) {
      case 0: {
        const std::optional<uint64_t> value = Varint();
        if (!value.has_value()) return std::nullopt;
        field.value = *value;
        return field;
      }
      case 1:
        return Fixed(8, field);
      case 2: {
        const std::optional<uint64_t> size = Varint();
        if (!size.has_value() || *size > bytes_.size() - at_) return std::nullopt;
        field.bytes = bytes_.substr(at_, *size);
        field.has_bytes = true;
        at_ += *size;
        return field;
      }
      case 5:
        return Fixed(4, field);
      default:  // groups, which the format has not had for long
        return std::nullopt;
    }
  }

 private:
  std::optional<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }
  std::optional<Field> Fixed(size_t size, Field field) {
    if (size > bytes_.size() - at_) return std::nullopt;
    std::memcpy(&field.value, bytes_.data() + at_, size);
    at_ += size;
    return field;
  }

  std::string_view bytes_;
  size_t at_ = 0;
};

absl::Status Damaged(std::string_view what, size_t offset) {
  return InvalidArgument("it is no SentencePiece model: " + std::string(what) +
                         " is damaged at its byte " + std::to_string(offset));
}

// Calls visit(field) for each field of a message.
template <typename Visit>
absl::Status ForEachField(std::string_view what, std::string_view bytes, Visit visit) {
  FieldReader reader(bytes);
  while (!reader.at_end()) {
    const size_t start = reader.at();
    const std::optional<Field> field = reader.Next();
    if (!field.has_value()) return Damaged(what, start);
    BERTRAND_RETURN_IF_ERROR(visit(*field));
  }
  return absl::OkStatus();
}

absl::Status ParsePiece(std::string_view bytes, size_t index, SentencePieceModel* model) {
  const std::string what = "piece " + std::to_string(index);
  SentencePieceModel::Piece piece;
  BERTRAND_RETURN_IF_ERROR(ForEachField(what, bytes, [&](const Field& field) {
    if (field.number == 1 && field.has_bytes) {
      if (FindInvalidUtf8(field.bytes).has_value()) {
        return InvalidArgument("the text of " + what + " is not UTF-8");
      }
      piece.text = field.bytes;
    } else if (field.number == 2 && !field.has_bytes) {
      std::memcpy(&piece.score, &field.value, sizeof(piece.score));
      // Neither NaN nor infinite.
      if (!(piece.score - piece.score == 0)) {
        return InvalidArgument("the score of " + what + " is not a finite number");
      }
    } else if (field.number == 3 && !field.has_bytes) {
      if (field.value < 1 || field.value > 6) {
        return InvalidArgument("the type of " + what + " is " + std::to_string(field.value) +
                               "; there are 1 to 6");
      }
      piece.type = static_cast<SentencePieceModel::Type>(field.value);
    }
    return absl::OkStatus();
  }));
  if (piece.text.empty()) return InvalidArgument(what + " is empty");
  model->pieces.push_back(piece);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes) {
  SentencePieceModel model;
  // A piece that is not empty has three bytes at least, and two for being one.
  constexpr size_t kPieceBytes = 5;
  size_t num_pieces = 0;
  BERTRAND_RETURN_IF_ERROR(ForEachField("it", bytes, [&](const Field& field) {
    num_pieces += field.number == 1 && field.has_bytes && field.bytes.size() + 2 >= kPieceBytes;
    return absl::OkStatus();
  }));
  model.pieces.reserve(num_pieces);
  BERTRAND_RETURN_IF_ERROR(ForEachField("it", bytes, [&](const Field& field) -> absl::Status {
    if (!field.has_bytes) return absl::OkStatus();
    if (field.number == 1) {
      if (static_cast<int64_t>(model.pieces.size()) > kMaxTokenId) {
        return InvalidArgument("more than " + std::to_string(kMaxTokenId) + " pieces");
      }
      return ParsePiece(field.bytes, model.pieces.size(), &model);
    }
    if (field.number == 2) {
      return ForEachField("trainer_spec", field.bytes, [&](const Field& option) {
        if (option.number == 3) model.model_type = static_cast<int64_t>(option.value);
        // An int32: negative ones are written as 64 bits.
        if (option.number == 40) model.unk_id = static_cast<int64_t>(option.value);
        return absl::OkStatus();
      });
    }
    if (field.number == 3) {
      return ForEachField("normalizer_spec", field.bytes, [&](const Field& option) {
        if (option.number == 2 && option.has_bytes) model.precompiled_charsmap = option.bytes;
        return absl::OkStatus();
      });
    }
    return absl::OkStatus();
  }));
  if (model.pieces.empty()) return InvalidArgument("it is no SentencePiece model: no pieces");
  return model;
}

}  // namespace bertrand
