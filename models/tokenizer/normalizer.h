#pragma once

// Text before it is cut into words: the `normalizer` of tokenizer.json.
//
// A NormalizedText carries, for each byte, the piece of source text that it came from, exactly as
// `tokenizers` aligns them. Normalizers are immutable and thread-safe; a NormalizedText belongs to
// one call and is reused.

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint/json.h"

namespace bertrand {

// Bytes [start, end) of the source text.
struct SourceRange {
  uint32_t start = 0, end = 0;
  bool operator==(const SourceRange&) const = default;
};

struct NormalizedText {
  std::string text;
  std::vector<SourceRange> source;  // one for each byte of `text`

  // `source_text` as it is; its first byte is byte `base` of the sequence.
  void Assign(std::string_view source_text, uint32_t base);
  void Clear() {
    text.clear();
    source.clear();
  }
  void Append(char32_t c, SourceRange from);
};

// Canonical decomposition (NFD), one code point after the other. Reordering follows the library's
// bookkeeping: each decomposed code point either replaces the next source code point or is an
// addition that shares the one before; marks are sorted within their run together with that flag,
// and source ranges are then dealt out by position.
class CanonicalDecomposer {
 public:
  void Start(NormalizedText* out);
  void Add(char32_t c, SourceRange from);
  // To be called after the last code point.
  void Flush();

 private:
  struct Part {
    char32_t c;
    uint8_t rank;
    bool replaces;
  };
  NormalizedText* out_ = nullptr;
  std::vector<Part> run_;
  std::vector<SourceRange> sources_;
  size_t next_source_ = 0;
  SourceRange last_;
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // Rewrites *text; *spare is memory to work in. Linear in the text (runs of combining marks are
  // sorted: n log n).
  virtual void Normalize(NormalizedText* text, NormalizedText* spare) const = 0;
};

// The options of `BertNormalizer`, strip_accents resolved.
struct BertNormalizerOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(BertNormalizerOptions options) : options_(options) {}
  void Normalize(NormalizedText* text, NormalizedText* spare) const override;
  const BertNormalizerOptions& options() const { return options_; }

 private:
  BertNormalizerOptions options_;
};

// The steps, each from *text through *spare and back.
void CleanText(NormalizedText* text, NormalizedText* spare);
void IsolateIdeographs(NormalizedText* text, NormalizedText* spare);
void DecomposeCanonically(NormalizedText* text, NormalizedText* spare);
void RemoveNonspacingMarks(NormalizedText* text, NormalizedText* spare);
void LowerCase(NormalizedText* text, NormalizedText* spare);

// Null for `"normalizer": null`. Errors name types that are not supported. `bert`, when not null,
// gets the options if the normalizer is a BertNormalizer.
absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(
    const Json* json, std::optional<BertNormalizerOptions>* bert);

}  // namespace bertrand
