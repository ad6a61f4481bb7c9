#include "models/tokenizer/sure_cuts.h"

#include <algorithm>
#include <bit>

namespace bertrand {

void SureCuts::Build(const std::vector<std::string>& tokens) {
  // Most sets of bytes occur in several tokens, so that about one bit in ten is set.
  constexpr size_t kBitsPerToken = 16, kMinBits = 1024, kMaxBits = size_t{1} << 22;
  const size_t num_bits =
      std::clamp(std::bit_ceil(kBitsPerToken * tokens.size()), kMinBits, kMaxBits);
  bits_.assign(num_bits / 64, 0);
  shift_ = 32 - std::countr_zero(num_bits);
  for (const std::string& token : tokens) {
    const auto bytes = [&](size_t at, size_t count) {
      uint32_t number = 0;
      std::memcpy(&number, token.data() + at, count);
      return number;
    };
    if (token.size() == 2) Add(kWhole, bytes(0, 2));
    if (token.size() > 2) {
      Add(kFirst, bytes(0, 3));
      Add(kLast, bytes(token.size() - 3, 3) << 8);
    }
    for (size_t at = 0; at + 4 <= token.size(); ++at) Add(kInside, bytes(at, 4));
  }
}

}  // namespace bertrand
