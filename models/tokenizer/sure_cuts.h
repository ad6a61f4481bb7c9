#pragma once

// Where long words can be cut before they are merged: between two bytes that lie side by side
// inside no token together with those around them. What is merged on one side of such a place has
// nothing to do with the other side.
//
// A token that lay across would have one before it or begin there, and one behind it or end there:
// four sets of up to four bytes, kept as bits at their hashes. Where bits are set by others, a
// place is not found, which does no harm.
//
// Built once, then immutable and thread-safe.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace bertrand {

class SureCuts {
 public:
  // Of the tokens that merges make.
  void Build(const std::vector<std::string>& tokens);

  // Whether word[0, at) and the rest can be merged apart. Requires 2 <= at and at + 2 <= size.
  bool IsCut(std::string_view word, size_t at) const {
    const uint32_t four = BytesAround(word, at);
    return !Has(kInside, four) && IsBetween(four);
  }
  // The last one in word[from, to], or 0. Requires as above, and kAtOnce + 1 <= from.
  size_t FindLast(std::string_view word, size_t from, size_t to) const {
    for (size_t last = to; last >= from; last -= kAtOnce) {
      // Most places are inside tokens; which, no branch could foresee.
      uint32_t open = 0;
      for (size_t i = 0; i < kAtOnce; ++i) {
        open |= static_cast<uint32_t>(!Has(kInside, BytesAround(word, last - i))) << i;
      }
      for (; open != 0; open &= open - 1) {
        const size_t at = last - static_cast<size_t>(std::countr_zero(open));
        if (at < from) return 0;
        if (IsBetween(BytesAround(word, at))) return at;
      }
    }
    return 0;
  }
  static constexpr size_t kAtOnce = 8;

 private:
  // Multipliers: four bytes inside a token, its first three, its last three, a token of two. The
  // first byte is the lowest one.
  static constexpr uint32_t kInside = 0x9E3779B1, kFirst = 0x85EBCA77, kLast = 0xC2B2AE3D,
                            kWhole = 0x27D4EB2F;

  static uint32_t BytesAround(std::string_view word, size_t at) {
    uint32_t four;
    std::memcpy(&four, word.data() + at - 2, sizeof(four));
    return four;
  }
  bool IsBetween(uint32_t four) const {
    return !(Has(kFirst, four >> 8) | Has(kLast, four << 8) | Has(kWhole, four >> 8 & 0xFFFF));
  }
  uint32_t PlaceOf(uint32_t multiplier, uint32_t bytes) const {
    return (bytes ^ bytes >> 15) * multiplier >> shift_;
  }
  bool Has(uint32_t multiplier, uint32_t bytes) const {
    const uint32_t place = PlaceOf(multiplier, bytes);
    return (bits_[place / 64] >> (place % 64) & 1) != 0;
  }
  void Add(uint32_t multiplier, uint32_t bytes) {
    const uint32_t place = PlaceOf(multiplier, bytes);
    bits_[place / 64] |= uint64_t{1} << (place % 64);
  }

  std::vector<uint64_t> bits_;
  int shift_ = 0;
};

}  // namespace bertrand
