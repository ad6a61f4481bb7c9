#pragma once

// GPT-2's regular expression and byte-level BPE in one pass over the source text: what nearly all
// byte-level checkpoints have. Equal to the two run one after the other (a test compares them).
//
// Words are cut by the dozen (word_cutter.h), and looked up by the dozen, so that they wait for
// memory together. What is no single token goes to the model.
//
// Immutable and thread-safe; a Memory belongs to one call and is reused.

#include <string_view>
#include <vector>

#include "models/tokenizer/bpe.h"
#include "models/tokenizer/token_run.h"
#include "models/tokenizer/word_cutter.h"

namespace bertrand {

class ByteLevelSplitter {
 public:
  struct Memory {
    std::vector<SourceRange> sources;  // of one word's bytes
    std::vector<std::string_view> long_words;
    ModelScratch model;
  };

  // `model` must outlive this.
  explicit ByteLevelSplitter(const Bpe& model) : model_(model) {}

  // Adds the tokens of text[begin, end) to *run. Requires valid UTF-8. `is_spaced`: the first word,
  // which begins with no white space, is read as if a space stood before it, which comes of its
  // first code point. Returns false when a word needs the unknown token, which the vocabulary does
  // not have.
  bool Tokenize(std::string_view text, size_t begin, size_t end, bool is_spaced, Memory* memory,
                TokenRun* run) const;

 private:
  class Pass;

  const Bpe& model_;
  WordCutter cutter_;
};

}  // namespace bertrand
