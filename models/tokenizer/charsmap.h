#pragma once

// The normaliser Precompiled: SentencePiece's `precompiled_charsmap`, as `tokenizers` applies it.
//
// The map is a trie (darts-clone's double array) from strings to offsets in a text of results, each
// ended by NUL. A grapheme cluster of less than six bytes is looked up as a whole, and the
// *shortest* key that begins it replaces all of it; otherwise each of its code points is looked up
// alone, in the same way. What a result's code points are aligned with follows from their number
// alone.
//
// A damaged map cannot be read beyond its end: a step out of it leads nowhere.
//
// Immutable and thread-safe.

#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/normalizer.h"

namespace bertrand {

class Charsmap final : public Normalizer {
 public:
  // From the map's bytes; InvalidArgument when they cannot be one.
  static absl::StatusOr<std::unique_ptr<Charsmap>> Create(std::string_view bytes);

  void Normalize(NormalizedText* text, NormalizedText* spare) const override;
  uint64_t MaxGrowth() const override { return longest_result_; }

 private:
  Charsmap() = default;
  std::optional<std::string_view> Find(std::string_view text) const;
  bool LeavesAlone(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string results_;
  std::array<bool, 128> ascii_stays_{};
  size_t longest_result_ = 1;  // in bytes
};

// Base64 with padding, as tokenizer.json has the map; empty when it is not valid.
std::optional<std::string> DecodeBase64(std::string_view text);

}  // namespace bertrand
