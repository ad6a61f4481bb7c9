#pragma once

// Normalised text into words: the `pre_tokenizer` of tokenizer.json.
//
// Immutable and thread-safe; a PreTokenized belongs to one call and is reused.

#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/pattern.h"

namespace bertrand {

// Words, as ranges of a text. Pre-tokenizers cut them further, and some rewrite the text.
class PreTokenized {
 public:
  // One word: text[part.begin, part.end). `text` must outlive the use of this.
  void Start(const NormalizedText& text, WordRange part);

  const NormalizedText& text() const { return *text_; }
  const std::vector<WordRange>& words() const { return words_; }

  // Each word becomes what split(text, word, &words) puts behind *words, in order.
  template <typename Split>
  void Cut(Split split) {
    next_.clear();
    for (const WordRange& word : words_) split(std::string_view(text_->text), word, &next_);
    words_.swap(next_);
  }
  // A new text, made of one word after the other: rewrite(old text, word, &new text) appends to it,
  // and what it appended is that word from then on.
  template <typename Rewriter>
  void Rewrite(Rewriter rewrite) {
    NormalizedText* to = text_ == &buffers_[0] ? &buffers_[1] : &buffers_[0];
    to->Clear();
    to->tracked = text_->tracked;
    for (WordRange& word : words_) {
      const size_t begin = to->text.size();
      rewrite(*text_, word, to);
      word = {begin, to->text.size()};
    }
    text_ = to;
  }

 private:
  const NormalizedText* text_ = nullptr;
  std::array<NormalizedText, 2> buffers_;
  std::vector<WordRange> words_, next_;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Cuts the words of *words. Linear.
  virtual void Apply(PreTokenized* words) const = 0;
};

// What the Pipeline needs to know of the whole pre_tokenizer.
struct PreTokenizerTraits {
  bool is_bert = false;  // exactly BertPreTokenizer
  // Its last step is ByteLevel: words are the bytes of a byte-level model. Empty: it is not.
  struct ByteLevel {
    bool add_prefix_space = true;
    bool use_regex = true;
    bool alone = false;  // there is nothing else
  };
  std::optional<ByteLevel> byte_level;
  // It looks at where words come from: the text's sources must be tracked.
  bool needs_sources = false;
};

// Null for `"pre_tokenizer": null`. Errors name types that are not supported.
absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePreTokenizer(const Json* json,
                                                                PreTokenizerTraits* traits);

std::unique_ptr<PreTokenizer> MakeBertPreTokenizer();
std::unique_ptr<PreTokenizer> MakeByteLevelPreTokenizer(bool add_prefix_space, bool use_regex);
enum class PrependScheme : uint8_t { kAlways, kFirst, kNever };
std::unique_ptr<PreTokenizer> MakeMetaspacePreTokenizer(char32_t replacement, PrependScheme scheme,
                                                        bool split);

// "prepend_scheme" of Metaspace, as pre-tokenizer and as decoder; older files have
// "add_prefix_space".
absl::StatusOr<PrependScheme> ParsePrependScheme(const Json& json, std::string_view where);
// Its "replacement", one code point.
absl::StatusOr<char32_t> ParseReplacement(const Json& json, std::string_view where);

}  // namespace bertrand
