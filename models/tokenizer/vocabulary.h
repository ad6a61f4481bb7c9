#pragma once

// Tokens by id and ids by token.
//
// Filled once, then immutable and thread-safe. Ids may have gaps, whose text is empty.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/checkpoint/json.h"

namespace bertrand {

class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  // Errors when the token or the id is there already. Requires 0 <= id <= kMaxTokenId.
  absl::Status Add(std::string_view token, int32_t id);
  // Adds or takes over the id: what had the id before keeps leading to it by name.
  void Replace(std::string_view token, int32_t id);

  std::optional<int32_t> Find(std::string_view token) const;
  // Empty for ids without a token.
  std::string_view Text(int64_t id) const;
  bool Has(int64_t id) const {
    return id >= 0 && id < size() && by_id_[static_cast<size_t>(id)].data() != nullptr;
  }
  // The largest id + 1.
  int64_t size() const { return static_cast<int64_t>(by_id_.size()); }
  // The number of tokens, which is what `tokenizers` calls the vocabulary's size; it counts those
  // of a Unigram model that are there twice.
  int64_t num_tokens() const { return static_cast<int64_t>(ids_.size()) + num_repeated_; }
  void CountRepeated() { ++num_repeated_; }

 private:
  std::string_view Own(std::string_view token);

  std::deque<std::string> texts_;  // a deque: its strings never move
  std::vector<std::string_view> by_id_;
  std::unordered_map<std::string_view, int32_t> ids_;
  int64_t num_repeated_ = 0;
};

// From an object token -> id.
absl::StatusOr<Vocabulary> ParseVocabulary(const Json& json);

// From vocab.txt, as transformers reads it: a line a token, its number the id, of equal lines the
// last one; \r\n and \r end lines too.
absl::StatusOr<Vocabulary> ParseVocabText(std::string_view text);

}  // namespace bertrand
