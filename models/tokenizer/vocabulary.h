#pragma once

// Tokens by id and ids by token.
//
// Filled once, then immutable and thread-safe. Ids may have gaps, whose text is empty.
//
// Some twenty bytes a token beside its text, since hostile files have millions of tiny ones: texts
// stand behind each other, each with its id and length; an id leads to where its text stands, and a
// hash table of those places leads from a text to its id.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/tokenizer/memory_bound.h"

namespace bertrand {

class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  // For `count` tokens with `text_bytes` together, whose largest id is `max_id`: saves growing.
  void Reserve(size_t count, size_t text_bytes, int64_t max_id);
  // What that takes.
  static size_t ReservedBytes(size_t count, size_t text_bytes, int64_t max_id);

  // Errors when the token or the id is there already. Requires 0 <= id <= kMaxTokenId.
  absl::Status Add(std::string_view token, int32_t id);
  // Adds or takes over the id: what had the id before keeps leading to it by name.
  void Replace(std::string_view token, int32_t id);
  // Replace, after which an id that the token had before has none.
  void Move(std::string_view token, int32_t id);

  std::optional<int32_t> Find(std::string_view token) const;
  // Empty for ids without a token.
  std::string_view Text(int64_t id) const;
  bool Has(int64_t id) const {
    return id >= 0 && id < size() && by_id_[static_cast<size_t>(id)] != kNone;
  }
  // The largest id + 1.
  int64_t size() const { return static_cast<int64_t>(by_id_.size()); }
  // The number of tokens, which is what `tokenizers` calls the vocabulary's size; it counts those
  // of a Unigram model that are there twice.
  int64_t num_tokens() const { return static_cast<int64_t>(num_texts_) + num_repeated_; }
  void CountRepeated() { ++num_repeated_; }
  size_t memory_bytes() const {
    return texts_.capacity() + (by_id_.capacity() + table_.capacity()) * sizeof(uint32_t);
  }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};

  std::string_view TextAt(uint32_t place) const;
  int32_t IdAt(uint32_t place) const;
  // Where in table_ the text is, or would be.
  size_t Slot(std::string_view token) const;
  void Rehash(size_t num_slots);

  // Each text behind its id and its length, as uint32_t. A vector, since moving it moves no text.
  std::vector<char> texts_;
  std::vector<uint32_t> by_id_;  // places in texts_
  std::vector<uint32_t> table_;  // places in texts_; open addressing
  size_t num_texts_ = 0;
  int64_t num_repeated_ = 0;
};

// From an object token -> id.
absl::StatusOr<Vocabulary> ParseVocabulary(const Json& json);

// From vocab.txt, as transformers reads it: a line a token, its number the id, of equal lines the
// last one; \r\n and \r end lines too. InvalidArgument where it takes more than `memory_max` bytes.
absl::StatusOr<Vocabulary> ParseVocabText(std::string_view text,
                                          size_t memory_max = kNoMemoryBound);

}  // namespace bertrand
