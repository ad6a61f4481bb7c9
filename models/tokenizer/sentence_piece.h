#pragma once

// SentencePiece's model files (spiece.model, sentencepiece.bpe.model): protobuf's wire format, read
// here, for the few fields that a tokenizer is made of (sentencepiece_model.proto).
//
// A pure function, thread-safe. The result is at most five times as large as the file, in which its
// pieces' texts stay.

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bertrand {

struct SentencePieceModel {
  enum class Type : uint8_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  struct Piece {
    std::string_view text;  // in the file
    float score = 0;
    Type type = Type::kNormal;
  };
  std::vector<Piece> pieces;
  int64_t model_type = 1;  // 1: unigram, 2: BPE
  int64_t unk_id = 0;
  std::string precompiled_charsmap;
};

// InvalidArgument when the bytes are no such message, with the offset, or when a piece is empty,
// which SentencePiece refuses, too.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes);

}  // namespace bertrand
