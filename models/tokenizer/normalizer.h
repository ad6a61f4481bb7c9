#pragma once

// Text before it is cut into words: the `normalizer` of tokenizer.json.
//
// A NormalizedText carries, for each byte, the piece of source text that it came from, exactly as
// `tokenizers` aligns them. Normalizers are immutable and thread-safe; a NormalizedText belongs to
// one call and is reused.

#include <absl/status/statusor.h>

#include <cstdint>
#include <limits>
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
  std::vector<SourceRange> source;  // one for each byte of `text`; empty where not tracked
  uint32_t base = 0;                // where the part that it was made of begins
  bool tracked = true;

  // `source_text` as it is; its first byte is byte `base` of the sequence.
  void Assign(std::string_view source_text, uint32_t base, bool tracked = true);
  // Bytes [begin, end) of `text`, which are at least one. Not tracked: an empty range.
  SourceRange SourceOf(size_t begin, size_t end) const {
    return tracked ? SourceRange{source[begin].start, source[end - 1].end} : SourceRange{};
  }
  void Swap(NormalizedText* other) {
    text.swap(other->text);
    source.swap(other->source);
  }
  void Clear() {
    text.clear();
    source.clear();
  }
  void Append(char32_t c, SourceRange from);
};

// Rewrites a text in the terms that `tokenizers` aligns texts in: the new code points in order,
// each with a `change`: 0 replaces the next old code point and has its source; a positive one is an
// addition, with the source of the old code point before; -n replaces one and removes the n that
// follow. Nothing says that the new code point has to do with the one that it replaces.
class TextRewriter {
 public:
  // *spare becomes the new text; Finish exchanges the two.
  TextRewriter(NormalizedText* text, NormalizedText* spare) : text_(*text), spare_(*spare) {
    spare_.Clear();
    spare_.tracked = text_.tracked;
  }
  void Add(char32_t c, int64_t change);
  void Finish() { text_.Swap(&spare_); }

 private:
  NormalizedText& text_;
  NormalizedText& spare_;
  size_t at_ = 0;  // the next old code point
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
  // Rewrites *text; *spare is memory to work in. Linear in the text.
  virtual void Normalize(NormalizedText* text, NormalizedText* spare) const = 0;
  // How many bytes may come of one at most, apart from what Unicode's own forms and cases add; see
  // kMaxGrowth. Saturates.
  virtual uint64_t MaxGrowth() const { return 1; }
};

// Replacements one after the other can double a text forty times: a file of 4 KB asks for more
// memory than there is. The precompiled map of XLM-R's files, whose longest result has 33 bytes,
// and a replacement of spaces behind it make 66.
inline constexpr uint64_t kMaxGrowth = 256;

// The product, which stays at the largest number.
inline uint64_t MultipliedGrowth(uint64_t a, uint64_t b) {
  return a > std::numeric_limits<uint64_t>::max() / b ? std::numeric_limits<uint64_t>::max()
                                                      : a * b;
}

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

// The steps, each from *text through *spare and back. ApplyForm: NFD, NFKD, NFC, NFKC.
void ApplyForm(bool compatible, bool compose, NormalizedText* text, NormalizedText* spare);
void CleanText(NormalizedText* text, NormalizedText* spare);
void IsolateIdeographs(NormalizedText* text, NormalizedText* spare);
void DecomposeCanonically(NormalizedText* text, NormalizedText* spare);
void RemoveNonspacingMarks(NormalizedText* text, NormalizedText* spare);
void LowerCase(NormalizedText* text, NormalizedText* spare);

using NormalizerList = std::vector<std::unique_ptr<Normalizer>>;
std::unique_ptr<Normalizer> MakeSequenceNormalizer(NormalizerList steps);

// Null for `"normalizer": null`. Errors name types that are not supported. `bert`, when not null,
// gets the options if the normalizer is a BertNormalizer.
absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(
    const Json* json, std::optional<BertNormalizerOptions>* bert);

}  // namespace bertrand
