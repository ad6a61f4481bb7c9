#pragma once

// Short strings to ids, by one look-up: what most words of ordinary text are.
//
// Strings of up to kMaxBytes are kept as two numbers. One that finds no place within kMaxProbes is
// left out, so a look-up is bounded whatever is in the table; callers go on without it.
//
// Filled once, then immutable and thread-safe.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace bertrand {

class WordTable {
 public:
  static constexpr size_t kMaxBytes = 16;

  // For `count` strings.
  void Reserve(size_t count);
  // Requires 0 < text.size(); longer ones than kMaxBytes are left out.
  void Add(std::string_view text, int32_t id);

  // -1: not there.
  int32_t Find(std::string_view text) const;
  // The same; kMaxBytes bytes must be readable at text.data(), whatever its size.
  int32_t FindPadded(std::string_view text) const;

 private:
  struct Place {
    uint64_t low = 0, high = 0;  // the bytes, zeros behind them
    int32_t id = 0;
    uint32_t size = 0;  // 0: a free place
  };
  static constexpr size_t kMaxProbes = 4;

  size_t PlaceOf(uint64_t low, uint64_t high) const;
  int32_t FindNumbers(uint64_t low, uint64_t high, size_t size) const;

  std::vector<Place> places_;  // a power of two, and kMaxProbes more
  int shift_ = 63;
};

}  // namespace bertrand
