#pragma once

// The table of distances behind relative attention: sinusoid(i - j) W for query i and key j, by row
// `center + j - i` (transformers' modeling_xlnet.py, relative_positional_encoding and k_head_r).
//
// It does not depend on the input. Every block of layers keeps its rows for the usual distances,
// computed at load: a key up to 1,023 tokens before its query or 511 after it, so that sequences of
// 512 tokens, alone or with a memory of as many, cost nothing more than plain attention's terms.
// That is 4.7 MB a layer at base size, 57 MB for twelve. For longer sequences (there is no limit)
// the rows are multiplied anew, layer by layer, into memory that a runner has anyway: with 1,024
// tokens 4 H^2 operations a token beside some 30 H^2; all layers' rows for the longest batch would
// be 300 MB (base size, 4,096 tokens), for what is rare.

#include <cstdint>
#include <span>
#include <vector>

#include "models/config/encoder_config.h"

namespace bertrand {

// How far keys lie from their queries at most, in tokens: behind (j < i) and ahead (j > i).
struct DistanceReach {
  int64_t behind = 0, ahead = 0;

  int64_t num_rows() const { return behind + ahead + 1; }
};

// What the blocks' tables hold. Distances are clamped to config.distance_max.
DistanceReach StoredReach(const EncoderConfig& config);
// Whether a table of what is stored is right for all that `reach` has.
bool IsStored(const EncoderConfig& config, const DistanceReach& reach);

// Values of sinusoids that go to the device in one copy, in whole rows.
inline constexpr size_t kSinusoidsEach = 65536;

// Rows of sinusoids, before they are multiplied.
class Sinusoids {
 public:
  // `width` is even.
  Sinusoids(int64_t width, int64_t distance_max);
  // Of a key `ahead` tokens after its query; negative: before it.
  void Row(int64_t ahead, std::span<float> row) const;

 private:
  const int64_t distance_max_;
  std::vector<float> frequencies_;
};

}  // namespace bertrand
