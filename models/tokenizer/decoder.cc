#include "models/tokenizer/decoder.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/pattern.h"
#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

using DecoderOr = absl::StatusOr<std::unique_ptr<Decoder>>;
using Pieces = std::vector<std::string>;

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
  void Decode(Pieces* pieces) const override {
    bool is_first = true;
    for (std::string& piece : *pieces) {
      if (is_first) {
        is_first = false;
      } else if (piece.starts_with(prefix_)) {
        piece.erase(0, prefix_.size());
      } else {
        piece.insert(0, 1, ' ');
      }
      if (cleanup_) CleanUp(true, &piece);
    }
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class SpaceDecoder final : public Decoder {
 public:
  void Decode(Pieces* pieces) const override {
    for (size_t i = 1; i < pieces->size(); ++i) (*pieces)[i].insert(0, 1, ' ');
  }
};

class ByteLevelDecoder final : public Decoder {
 public:
  void Decode(Pieces* pieces) const override {
    std::string bytes;
    for (const std::string& piece : *pieces) bytes += ByteLevelBytes(piece).value_or(piece);
    pieces->assign(1, FromUtf8Lossy(bytes));
  }
};

class MetaspaceDecoder final : public Decoder {
 public:
  MetaspaceDecoder(char32_t replacement, bool drop_first) : drop_first_(drop_first) {
    AppendUtf8(replacement, &replacement_);
  }
  void Decode(Pieces* pieces) const override {
    bool is_first = true;
    for (std::string& piece : *pieces) {
      ReplaceAll(replacement_, is_first && drop_first_ ? "" : " ", &piece);
      is_first = false;
    }
  }

 private:
  std::string replacement_;
  bool drop_first_;
};

// The end-of-word suffix becomes a space, and vanishes from the last token.
class BpeDecoder final : public Decoder {
 public:
  explicit BpeDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  void Decode(Pieces* pieces) const override {
    if (suffix_.empty()) return;
    for (size_t i = 0; i < pieces->size(); ++i) {
      ReplaceAll(suffix_, i + 1 == pieces->size() ? "" : " ", &(*pieces)[i]);
    }
  }

 private:
  std::string suffix_;
};

class ReplaceDecoder final : public Decoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void Decode(Pieces* pieces) const override {
    for (std::string& piece : *pieces) {
      std::string result;
      size_t done = 0;
      WordRange match;
      while (pattern_.Find(piece, done, piece.size(), &match)) {
        result.append(piece, done, match.begin - done).append(content_);
        done = match.end;
      }
      piece = result.append(piece, done);
    }
  }
  uint64_t MaxGrowth() const override { return pattern_.MaxGrowth(content_); }

 private:
  Pattern pattern_;
  std::string content_;
};

// Up to `start` characters at the beginning of each token vanish, and up to `stop` at its end.
class StripDecoder final : public Decoder {
 public:
  StripDecoder(std::string content, size_t start, size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  void Decode(Pieces* pieces) const override {
    for (std::string& piece : *pieces) {
      std::string_view rest = piece;
      for (size_t i = 0; i < start_ && rest.starts_with(content_); ++i) {
        rest.remove_prefix(content_.size());
      }
      for (size_t i = 0; i < stop_ && rest.ends_with(content_); ++i) {
        rest.remove_suffix(content_.size());
      }
      piece = std::string(rest);
    }
  }

 private:
  std::string content_;
  size_t start_, stop_;
};

class FuseDecoder final : public Decoder {
 public:
  void Decode(Pieces* pieces) const override {
    std::string all;
    for (const std::string& piece : *pieces) all += piece;
    pieces->assign(1, std::move(all));
  }
};

// Runs of tokens like <0x41> become the bytes' text, or a U+FFFD for each byte.
class ByteFallbackDecoder final : public Decoder {
 public:
  void Decode(Pieces* pieces) const override {
    Pieces result;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (!FindInvalidUtf8(bytes).has_value()) {
        result.push_back(bytes);
      } else {
        result.insert(result.end(), bytes.size(), "\xEF\xBF\xBD");
      }
      bytes.clear();
    };
    for (std::string& piece : *pieces) {
      if (const std::optional<char> byte = ByteOf(piece)) {
        bytes += *byte;
      } else {
        flush();
        result.push_back(std::move(piece));
      }
    }
    flush();
    *pieces = std::move(result);
  }

 private:
  static std::optional<char> ByteOf(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
    int value = 0;
    for (const char c : piece.substr(3, 2)) {
      const char lower = static_cast<char>(c | 32);
      if (c >= '0' && c <= '9') {
        value = 16 * value + (c - '0');
      } else if (lower >= 'a' && lower <= 'f') {
        value = 16 * value + (lower - 'a' + 10);
      } else {
        return std::nullopt;
      }
    }
    return static_cast<char>(value);
  }
};

class SequenceDecoder final : public Decoder {
 public:
  explicit SequenceDecoder(std::vector<std::unique_ptr<Decoder>> steps)
      : steps_(std::move(steps)) {}
  void Decode(Pieces* pieces) const override {
    for (const auto& step : steps_) step->Decode(pieces);
  }
  uint64_t MaxGrowth() const override {
    uint64_t growth = 1;
    for (const auto& step : steps_) growth = MultipliedGrowth(growth, step->MaxGrowth());
    return growth;
  }

 private:
  std::vector<std::unique_ptr<Decoder>> steps_;
};

DecoderOr ParseSequence(const Json& json) {
  const Json* list = json.Find("decoders");
  if (list == nullptr || !list->is_array()) {
    return InvalidArgument("decoder: `decoders` must be an array");
  }
  std::vector<std::unique_ptr<Decoder>> steps;
  for (const Json& element : list->elements()) {
    if (element.is_null()) return InvalidArgument("decoder: `decoders` has a null");
    std::unique_ptr<Decoder> step;
    BERTRAND_ASSIGN_OR_RETURN(step, ParseDecoder(&element));
    steps.push_back(std::move(step));
  }
  return std::make_unique<SequenceDecoder>(std::move(steps));
}

DecoderOr ParseStrip(const JsonFields& fields) {
  std::string content;
  BERTRAND_ASSIGN_OR_RETURN(content, fields.String("content"));
  if (CountCodePoints(content) != 1) {
    return InvalidArgument("decoder: Strip: `content` must be one character");
  }
  constexpr int64_t kMost = 1 << 30;
  int64_t start, stop;
  BERTRAND_ASSIGN_OR_RETURN(start, fields.Integer("start", 0, 0, kMost));
  BERTRAND_ASSIGN_OR_RETURN(stop, fields.Integer("stop", 0, 0, kMost));
  return std::make_unique<StripDecoder>(std::move(content), static_cast<size_t>(start),
                                        static_cast<size_t>(stop));
}

DecoderOr ParseReplace(const Json& json, const JsonFields& fields) {
  std::string content;
  BERTRAND_ASSIGN_OR_RETURN(content, fields.String("content"));
  absl::StatusOr<Pattern> pattern = Pattern::Parse(json.Find("pattern"), "decoder: Replace");
  if (!pattern.ok()) return pattern.status();
  return std::make_unique<ReplaceDecoder>(*std::move(pattern), std::move(content));
}

DecoderOr ParseMetaspace(const Json& json) {
  char32_t replacement;
  BERTRAND_ASSIGN_OR_RETURN(replacement, ParseReplacement(json, "decoder: Metaspace"));
  PrependScheme scheme;
  BERTRAND_ASSIGN_OR_RETURN(scheme, ParsePrependScheme(json, "decoder: Metaspace"));
  return MakeMetaspaceDecoder(replacement, scheme != PrependScheme::kNever);
}

}  // namespace

std::unique_ptr<Decoder> MakeWordPieceDecoder(std::string prefix, bool cleanup) {
  return std::make_unique<WordPieceDecoder>(std::move(prefix), cleanup);
}

std::unique_ptr<Decoder> MakeByteLevelDecoder() { return std::make_unique<ByteLevelDecoder>(); }

std::unique_ptr<Decoder> MakeMetaspaceDecoder(char32_t replacement, bool drop_first) {
  return std::make_unique<MetaspaceDecoder>(replacement, drop_first);
}

DecoderOr ParseDecoder(const Json* json) {
  if (json == nullptr || json->is_null()) return std::make_unique<SpaceDecoder>();
  const JsonFields fields(*json, "decoder");
  std::string type;
  BERTRAND_ASSIGN_OR_RETURN(type, fields.String("type"));
  if (type == "WordPiece") {
    std::string prefix;
    bool cleanup;
    BERTRAND_ASSIGN_OR_RETURN(prefix, fields.String("prefix"));
    BERTRAND_ASSIGN_OR_RETURN(cleanup, fields.Bool("cleanup"));
    return MakeWordPieceDecoder(std::move(prefix), cleanup);
  }
  if (type == "BPEDecoder") {
    std::string suffix;
    BERTRAND_ASSIGN_OR_RETURN(suffix, fields.String("suffix"));
    return std::make_unique<BpeDecoder>(std::move(suffix));
  }
  if (type == "ByteLevel") return MakeByteLevelDecoder();
  if (type == "Metaspace") return ParseMetaspace(*json);
  if (type == "ByteFallback") return std::make_unique<ByteFallbackDecoder>();
  if (type == "Fuse") return std::make_unique<FuseDecoder>();
  if (type == "Strip") return ParseStrip(fields);
  if (type == "Replace") return ParseReplace(*json, fields);
  if (type == "Sequence") return ParseSequence(*json);
  return NotSupported("decoder", type,
                      "BPEDecoder, ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Sequence, "
                      "Strip and WordPiece are");
}

std::string CleanUpTokenization(std::string text) {
  CleanUp(false, &text);
  return text;
}

std::string FromUtf8Lossy(std::string_view bytes) {
  std::string text;
  size_t done = 0;
  while (const std::optional<size_t> invalid = FindInvalidUtf8(bytes.substr(done))) {
    const size_t at = done + *invalid;
    text.append(bytes, done, at - done);
    text += "\xEF\xBF\xBD";
    // The bytes that could still have begun a code point go together.
    size_t length = 1;
    const auto lead = static_cast<unsigned char>(bytes[at]);
    const size_t whole = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    while (lead >= 0xC2 && length < whole && at + length < bytes.size() &&
           IsUtf8Prefix(bytes.substr(at, length + 1))) {
      ++length;
    }
    done = at + length;
  }
  return text.append(bytes, done);
}

}  // namespace bertrand
