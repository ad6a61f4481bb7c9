#pragma once

// Short strings to ids, by one look-up: what most words of ordinary text are.
//
// Strings of up to kMaxBytes are kept as two numbers, the length in the last byte, three on a cache
// line with their ids. A line is searched without a branch, since which of the three a word is
// cannot be predicted; strings that find no room on theirs go to the next lines. One that finds
// none within kMaxLines is left out, so a look-up is bounded whatever is in the table; callers go
// on without it. Frequent strings should be added first: they are found on the first line.
//
// Filled once, then immutable and thread-safe.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace bertrand {

class WordTable {
 private:
  struct Line;

 public:
  static constexpr size_t kMaxBytes = 15;
  static constexpr size_t kReadableBytes = 16;

  // A string of 1 to kMaxBytes bytes as two numbers: its bytes, zeros behind them, its length.
  struct Key {
    uint64_t low = 0, high = 0;  // all zero: none
    bool operator==(const Key&) const = default;
  };
  // None for strings that are longer. `readable`: kReadableBytes bytes can be read at text.data().
  static Key KeyOf(std::string_view text, bool readable) {
    if (text.size() > kMaxBytes) return {};
    if (readable) return Pack(text.data(), text.size());
    std::array<char, kReadableBytes> padded{};
    std::memcpy(padded.data(), text.data(), text.size());
    return Pack(padded.data(), text.size());
  }

  // A look-up in two halves, between which its memory is on its way; -1: not there.
  struct Probe {
    Key key;
    const Line* line;
  };
  Probe Start(Key key) const {
    const Line* const line = LineOf(key);
    __builtin_prefetch(line);
    return {key, line};
  }
  static int32_t Finish(const Probe& probe) {
    const int32_t id = probe.line->Find(probe.key);
    return id >= 0 || !probe.line->is_full() ? id : FindBehind(probe);
  }

  // For `count` strings; fewer are found in a table that may take `memory_max` bytes only.
  void Reserve(size_t count, size_t memory_max = ~size_t{0});
  // Requires 0 < text.size(); longer ones than kMaxBytes are left out.
  void Add(std::string_view text, int32_t id);

  // -1: not there. `readable` as above.
  int32_t Find(std::string_view text, bool readable) const {
    const Key key = KeyOf(text, readable);
    return Finish({key, LineOf(key)});
  }

 private:
  static_assert(std::endian::native == std::endian::little, "Pack masks the upper bytes");
  static constexpr size_t kLineBytes = 64, kKeysOfLine = 3, kMaxLines = 4;

  static constexpr Key kFree{0, ~uint64_t{0}};  // no string's
  struct alignas(kLineBytes) Line {
    std::array<Key, kKeysOfLine> keys{kFree, kFree, kFree};
    // ids[1 + i] is that of keys[i]; ids[0] is what is found when none is equal.
    std::array<int32_t, 1 + kKeysOfLine> ids{-1, -1, -1, -1};

    bool is_full() const { return ids[kKeysOfLine] >= 0; }
    int32_t Find(Key key) const {
      size_t found = 0;
      for (size_t i = 0; i < kKeysOfLine; ++i) {
        const uint64_t different = (keys[i].low ^ key.low) | (keys[i].high ^ key.high);
        found += different == 0 ? i + 1 : 0;
      }
      return ids[found];
    }
  };
  static_assert(sizeof(Line) == kLineBytes);

  // The first `size` bytes of the 16 at `text`; no branch, since lengths cannot be predicted.
  static Key Pack(const char* text, uint64_t size) {
    uint64_t low, high;
    std::memcpy(&low, text, sizeof(low));
    std::memcpy(&high, text + sizeof(low), sizeof(high));
    return {low & kMasks[size + 8], (high & kMasks[size]) | size << 56};
  }
  // Of a number that is n bytes into a string of s bytes: which of its bytes belong to the string,
  // at index s - n + 8.
  static constexpr std::array<uint64_t, kMaxBytes + 9> MakeMasks() {
    std::array<uint64_t, kMaxBytes + 9> masks{};
    for (size_t i = 9; i < masks.size(); ++i) {
      masks[i] = i >= 16 ? ~uint64_t{0} : (uint64_t{1} << (8 * (i - 8))) - 1;
    }
    return masks;
  }
  static const std::array<uint64_t, kMaxBytes + 9> kMasks;

  // Two odd constants of many bits; the upper bits of the product are the mixed ones.
  static uint64_t Hash(Key key) {
    return (key.low ^ std::rotl(key.high * 0x9E3779B97F4A7C15u, 29)) * 0xD6E8FEB86659FD93u;
  }
  const Line* LineOf(Key key) const { return &lines_[static_cast<size_t>(Hash(key) >> shift_)]; }
  static int32_t FindBehind(const Probe& probe);

  // A power of two, and kMaxLines more.
  std::vector<Line> lines_ = std::vector<Line>(2 + kMaxLines);
  int shift_ = 63;
};

inline constexpr std::array<uint64_t, WordTable::kMaxBytes + 9> WordTable::kMasks = MakeMasks();

}  // namespace bertrand
