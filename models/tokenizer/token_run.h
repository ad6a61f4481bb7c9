#pragma once

// The tokens of one text before truncation and special tokens, in memory that is reused.
//
// A TokenRun belongs to one call. Writers call Reserve(n) and then write at ids() + size() up to n
// tokens, so that no token costs a check or an allocation.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/normalizer.h"

namespace bertrand {

// White space around the text of a token that is not the vocabulary's text of its id.
struct SpacedToken {
  size_t index;  // in the run
  SpacesAround spaces;
};

class TokenRun {
 public:
  void Clear(bool want_sources, bool want_words) {
    size_ = 0;
    num_with_words_ = 0;
    num_words_ = 0;
    spaced_.clear();
    want_sources_ = want_sources;
    want_words_ = want_words;
  }
  bool want_sources() const { return want_sources_; }
  size_t size() const { return size_; }

  void Reserve(size_t more) {
    if (size_ + more <= ids_.size()) return;
    ids_.resize(2 * ids_.size() + more + 256);
  }
  // Behind the last token; after writing n ids there, Advance(n).
  int32_t* next_id() { return ids_.data() + size_; }
  void Advance(size_t count) { size_ += count; }
  // With want_sources: one call a token, in order.
  void AddSource(SourceRange range, size_t index) {
    if (index >= sources_.size()) sources_.resize(2 * index + 256);
    sources_[index] = range;
  }
  void Add(int32_t id, SourceRange range) {
    Reserve(1);
    AddReserved(id, range);
  }
  // Within what was reserved.
  void AddReserved(int32_t id, SourceRange range) {
    *next_id() = id;
    if (want_sources_) AddSource(range, size_);
    ++size_;
  }

  // The token that is added next has another text than the model's vocabulary has for its id.
  void MarkSpaced(SpacesAround spaces) { spaced_.push_back({size_, spaces}); }
  const std::vector<SpacedToken>& spaced() const { return spaced_; }

  // To be called at the end of each of the pre-tokenizer's words: the tokens since the last call,
  // if any, are of one word.
  void EndWord() {
    if (!want_words_) return;
    if (words_.size() < size_) words_.resize(2 * size_ + 256);
    while (num_with_words_ < size_) words_[num_with_words_++] = num_words_;
    ++num_words_;
  }

  const int32_t* ids() const { return ids_.data(); }
  // With want_words: the number of each token's word.
  const int32_t* words() const { return words_.data(); }
  const SourceRange* sources() const { return sources_.data(); }

 private:
  size_t size_ = 0, num_with_words_ = 0;
  int32_t num_words_ = 0;
  bool want_sources_ = false, want_words_ = false;
  std::vector<int32_t> ids_, words_;
  std::vector<SourceRange> sources_;
  std::vector<SpacedToken> spaced_;
};

}  // namespace bertrand
