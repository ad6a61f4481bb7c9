#include "models/tokenizer/decoder.h"

#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"

namespace bertrand {
namespace {

// Python's and Rust's str.replace: all occurrences, from the left, not overlapping. One pass.
void ReplaceAll(std::string_view from, std::string_view to, std::string* text) {
  size_t found = text->find(from);
  if (found == std::string::npos) return;
  std::string result;
  size_t done = 0;
  for (; found != std::string::npos; found = text->find(from, done)) {
    result.append(*text, done, found - done);
    result.append(to);
    done = found + from.size();
  }
  result.append(*text, done);
  *text = std::move(result);
}

// transformers' list, and the decoder's, which has one more entry.
void CleanUp(bool is_decoder, std::string* text) {
  if (text->find(' ') == std::string::npos) return;
  ReplaceAll(" .", ".", text);
  ReplaceAll(" ?", "?", text);
  ReplaceAll(" !", "!", text);
  ReplaceAll(" ,", ",", text);
  ReplaceAll(" ' ", "'", text);
  ReplaceAll(" n't", "n't", text);
  ReplaceAll(" 'm", "'m", text);
  if (is_decoder) ReplaceAll(" do not", " don't", text);
  ReplaceAll(" 's", "'s", text);
  ReplaceAll(" 've", "'ve", text);
  ReplaceAll(" 're", "'re", text);
}

class WordPieceDecoder final : public Decoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup)
      : prefix_(std::move(prefix)), cleanup_(cleanup) {}

  void Append(std::string_view token, bool is_first, std::string* text) const override {
    std::string piece;
    if (is_first) {
      piece = token;
    } else if (token.starts_with(prefix_)) {
      piece = token.substr(prefix_.size());
    } else {
      piece = " ";
      piece += token;
    }
    if (cleanup_) CleanUp(true, &piece);
    *text += piece;
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class SpaceDecoder final : public Decoder {
 public:
  void Append(std::string_view token, bool is_first, std::string* text) const override {
    if (!is_first) *text += ' ';
    *text += token;
  }
};

}  // namespace

std::unique_ptr<Decoder> MakeWordPieceDecoder(std::string prefix, bool cleanup) {
  return std::make_unique<WordPieceDecoder>(std::move(prefix), cleanup);
}

absl::StatusOr<std::unique_ptr<Decoder>> ParseDecoder(const Json* json) {
  if (json == nullptr || json->is_null()) return std::make_unique<SpaceDecoder>();
  const JsonFields fields(*json, "decoder");
  std::string type;
  BERTRAND_ASSIGN_OR_RETURN(type, fields.String("type"));
  if (type != "WordPiece") return NotSupported("decoder", type, "WordPiece is");
  std::string prefix;
  bool cleanup;
  BERTRAND_ASSIGN_OR_RETURN(prefix, fields.String("prefix"));
  BERTRAND_ASSIGN_OR_RETURN(cleanup, fields.Bool("cleanup"));
  return MakeWordPieceDecoder(std::move(prefix), cleanup);
}

std::string CleanUpTokenization(std::string text) {
  CleanUp(false, &text);
  return text;
}

}  // namespace bertrand
