#include "models/tokenizer/word_table.h"

#include <bit>
#include <cstring>
#include <utility>

namespace bertrand {
namespace {

static_assert(std::endian::native == std::endian::little, "LoadPadded masks the upper bytes");

// The first `size` <= 16 bytes at `at`, of which 16 can be read, as two numbers.
std::pair<uint64_t, uint64_t> LoadPadded(const char* at, size_t size) {
  uint64_t low, high;
  std::memcpy(&low, at, sizeof(low));
  std::memcpy(&high, at + sizeof(low), sizeof(high));
  const auto keep = [](uint64_t word, size_t bytes) {  // bytes < 8
    return word & ((uint64_t{1} << (8 * bytes)) - 1);
  };
  if (size < 8) return {keep(low, size), 0};
  return {low, size == 16 ? high : keep(high, size - 8)};
}

std::pair<uint64_t, uint64_t> Load(std::string_view text) {
  char padded[WordTable::kMaxBytes] = {};
  std::memcpy(padded, text.data(), text.size());
  return LoadPadded(padded, text.size());
}

}  // namespace

void WordTable::Reserve(size_t count) {
  const size_t size = std::bit_ceil(2 * count + 2);
  shift_ = 64 - std::countr_zero(size);
  places_.assign(size + kMaxProbes, Place{});
}

size_t WordTable::PlaceOf(uint64_t low, uint64_t high) const {
  // Two odd constants of many bits; the upper bits of the product are the mixed ones.
  const uint64_t mixed = (low ^ std::rotl(high * 0x9E3779B97F4A7C15u, 29)) * 0xD6E8FEB86659FD93u;
  return static_cast<size_t>(mixed >> shift_);
}

void WordTable::Add(std::string_view text, int32_t id) {
  if (text.size() > kMaxBytes) return;
  const auto [low, high] = Load(text);
  Place* place = &places_[PlaceOf(low, high)];
  Place* const end = place + kMaxProbes;
  while (place != end && place->size != 0) ++place;
  if (place != end) *place = {low, high, id, static_cast<uint32_t>(text.size())};
}

int32_t WordTable::FindNumbers(uint64_t low, uint64_t high, size_t size) const {
  const Place* place = &places_[PlaceOf(low, high)];
  for (size_t i = 0; i < kMaxProbes && place[i].size != 0; ++i) {
    if (place[i].low == low && place[i].high == high && place[i].size == size) return place[i].id;
  }
  return -1;
}

int32_t WordTable::Find(std::string_view text) const {
  if (text.size() > kMaxBytes || places_.empty()) return -1;
  const auto [low, high] = Load(text);
  return FindNumbers(low, high, text.size());
}

int32_t WordTable::FindPadded(std::string_view text) const {
  if (text.size() > kMaxBytes || places_.empty()) return -1;
  const auto [low, high] = LoadPadded(text.data(), text.size());
  return FindNumbers(low, high, text.size());
}

}  // namespace bertrand
