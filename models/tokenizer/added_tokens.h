#pragma once

// Tokens that are found in the text itself before the model sees it: `added_tokens` of
// tokenizer.json.
//
// Those with `normalized` false are looked for in the source text, the others in the normalised
// text (their own text is normalised too). Of several that fit, the leftmost wins, then the
// longest, then the first special one, then the first.
//
// Filled by Add and Build while loading, then immutable and thread-safe.

#include <absl/status/status.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "models/tokenizer/double_array.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/vocabulary.h"

namespace bertrand {

struct AddedToken {
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space to its left
  bool rstrip = false;
  bool normalized = true;
  bool special = false;
  bool operator==(const AddedToken&) const = default;
};

// Bytes [begin, end) of a text; id < 0: not an added token.
struct AddedMatch {
  size_t begin, end;
  int32_t id;
};

// A set of strings to find: leftmost, then longest. A text is scanned once; at most the longest
// pattern's length is read again after each candidate.
class PatternSet {
 public:
  // Of equal patterns the first counts. Patterns are not empty. Errors: DoubleArray::Build's.
  absl::Status Build(const std::vector<std::pair<std::string, int32_t>>& patterns);
  bool empty() const { return num_first_ == 0; }
  // The next match in text[from...); false when there is none.
  bool Find(std::string_view text, size_t from, AddedMatch* match) const;

 private:
  size_t NextCandidate(std::string_view text, size_t from) const;

  DoubleArray states_;  // `first`: 1 + the id of the pattern that ends here, or 0
  std::array<bool, 256> first_byte_{};
  int num_first_ = 0;
  unsigned char only_first_ = 0;
};

class AddedTokens {
  struct WhiteSpace {
    size_t begin = 0, end = 0;
  };

 public:
  // As `tokenizers` does when it reads a file: a token of the vocabulary keeps its id, others are
  // numbered on from the vocabulary's size, whatever id the file says and even where a vocabulary
  // with holes has that id. `model` is the model's vocabulary.
  void Add(const AddedToken& token, const Vocabulary& model);
  // Makes the sets of patterns. Errors when a token's text is empty once normalised.
  absl::Status Build(const Normalizer* normalizer);

  std::optional<int32_t> Find(std::string_view content) const;
  const AddedToken* Get(int64_t id) const;
  bool IsSpecial(std::string_view content) const {
    return special_.count(std::string(content)) != 0;
  }
  bool Contains(const AddedToken& token) const;
  // The largest id + 1, or 0.
  int64_t size() const { return max_id_ + 1; }
  const std::unordered_map<int32_t, AddedToken>& by_id() const { return by_id_; }

  bool has_raw() const { return !raw_.empty(); }
  bool has_normalized() const { return !normalized_.empty(); }

  // Cuts `text` into added tokens and what lies between, in order, and calls visit(AddedMatch) for
  // each part that is not empty.
  template <typename Visit>
  void Split(bool normalized, std::string_view text, Visit visit) const;

 private:
  // Widens or refuses a match (single_word, lstrip, rstrip); `after` is the end of the part before,
  // *white the last white space that rstrip has taken, which is not read again.
  bool Adjust(std::string_view text, size_t after, WhiteSpace* white, AddedMatch* match) const;

  std::vector<AddedToken> specials_, others_;  // in the order of looking
  std::unordered_set<std::string> special_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<int32_t, AddedToken> by_id_;
  int64_t max_id_ = -1;
  int64_t num_new_ = 0;  // tokens that the model's vocabulary does not have
  PatternSet raw_, normalized_;
};

template <typename Visit>
void AddedTokens::Split(bool normalized, std::string_view text, Visit visit) const {
  const PatternSet& patterns = normalized ? normalized_ : raw_;
  size_t done = 0, from = 0;
  AddedMatch match;
  WhiteSpace white;
  while (patterns.Find(text, from, &match)) {
    from = match.end;  // as found: the search goes on inside white space that rstrip takes
    if (!Adjust(text, done, &white, &match)) continue;
    // White space that the match before took: the library drops what is empty, and panics beyond.
    if (match.begin >= match.end) continue;
    if (done < match.begin) visit(AddedMatch{done, match.begin, -1});
    visit(match);
    done = match.end;
  }
  // Different from `done < size`: after an overlap by rstrip this is what the library does.
  if (done != text.size()) visit(AddedMatch{done, text.size(), -1});
}

}  // namespace bertrand
