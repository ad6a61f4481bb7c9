#include "models/encoder/distances.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bertrand {
namespace {

constexpr DistanceReach kStored = {.behind = 1023, .ahead = 511};

int64_t LongestDistance(int64_t distance_max) {
  return distance_max > 0 ? distance_max : std::numeric_limits<int64_t>::max();
}

}  // namespace

DistanceReach StoredReach(const EncoderConfig& config) {
  const int64_t longest = LongestDistance(config.distance_max);
  return {std::min(kStored.behind, longest), std::min(kStored.ahead, longest)};
}

bool IsStored(const EncoderConfig& config, const DistanceReach& reach) {
  const int64_t longest = LongestDistance(config.distance_max);
  const DistanceReach stored = StoredReach(config);
  return std::min(reach.behind, longest) <= stored.behind &&
         std::min(reach.ahead, longest) <= stored.ahead;
}

// In float32 where transformers computes in float32: at a distance of 1,000 the rounding of a
// frequency is as much as 1e-4 of an angle.
Sinusoids::Sinusoids(int64_t width, int64_t distance_max) : distance_max_(distance_max) {
  for (int64_t i = 0; i < width; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(width);
    const auto power = static_cast<float>(std::pow(10000.0, double{exponent}));
    frequencies_.push_back(1 / power);
  }
}

void Sinusoids::Row(int64_t ahead, std::span<float> row) const {
  const int64_t longest = LongestDistance(distance_max_);
  const auto distance = static_cast<float>(std::clamp(-ahead, -longest, longest));
  const size_t half = frequencies_.size();
  for (size_t i = 0; i < half; ++i) {
    const float angle = distance * frequencies_[i];
    row[i] = static_cast<float>(std::sin(double{angle}));
    row[half + i] = static_cast<float>(std::cos(double{angle}));
  }
}

}  // namespace bertrand
