#include "models/tokenizer/charsmap.h"

#include <algorithm>
#include <cstring>

#include "kernels/status.h"
#include "models/tokenizer/graphemes.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

constexpr size_t kLongestCluster = 5;
// Unicode's longest compatibility decomposition has 33 bytes. A damaged map's results could have
// millions, for each code point of a text: those count as none.
constexpr size_t kLongestResult = 1024;

// A unit of the trie, as darts-clone packs it.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FF; }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

// The units to a rewriter, where the change of the last one can still grow: a replacement by fewer
// code points adds what it removes to its last one, or to whatever came before if it is empty.
class Replacer {
 public:
  explicit Replacer(TextRewriter* out) : out_(*out) {}
  void Keep(char32_t c) { Add(c, 0); }
  void Replace(std::string_view before, std::string_view after) {
    const auto more = static_cast<int64_t>(CountCodePoints(after)) -
                      static_cast<int64_t>(CountCodePoints(before));
    int64_t replacing = static_cast<int64_t>(CountCodePoints(after)) - std::max<int64_t>(more, 0);
    for (size_t at = 0; at < after.size(); --replacing) {
      Add(NextCodePoint(after, &at), replacing > 0 ? 0 : 1);
    }
    if (more < 0 && pending_) change_ += more;
  }
  void Finish() {
    if (pending_) out_.Add(c_, change_);
    out_.Finish();
  }

 private:
  void Add(char32_t c, int64_t change) {
    if (pending_) out_.Add(c_, change_);
    pending_ = true;
    c_ = c;
    change_ = change;
  }
  TextRewriter& out_;
  bool pending_ = false;
  char32_t c_ = 0;
  int64_t change_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Charsmap>> Charsmap::Create(std::string_view bytes) {
  uint32_t trie_bytes = 0;
  if (bytes.size() < sizeof(trie_bytes)) {
    return InvalidArgument("precompiled_charsmap: " + std::to_string(bytes.size()) +
                           " bytes are too few");
  }
  std::memcpy(&trie_bytes, bytes.data(), sizeof(trie_bytes));
  bytes.remove_prefix(sizeof(trie_bytes));
  if (trie_bytes > bytes.size() || trie_bytes % 4 != 0 || trie_bytes == 0) {
    return InvalidArgument("precompiled_charsmap: its trie should have " +
                           std::to_string(trie_bytes) + " bytes, and " +
                           std::to_string(bytes.size()) + " are there");
  }
  std::unique_ptr<Charsmap> map(new Charsmap);
  map->units_.resize(trie_bytes / 4);
  std::memcpy(map->units_.data(), bytes.data(), trie_bytes);
  map->results_ = bytes.substr(trie_bytes);
  if (const auto invalid = FindInvalidUtf8(map->results_)) {
    return InvalidArgument("precompiled_charsmap: byte " + std::to_string(*invalid) +
                           " of its results is not UTF-8");
  }
  for (size_t begin = 0; begin < map->results_.size();) {
    const size_t end = std::min(map->results_.find('\0', begin), map->results_.size());
    map->longest_result_ = std::max(map->longest_result_, std::min(end - begin, kLongestResult));
    begin = end + 1;
  }
  for (unsigned char c = 0; c < 128; ++c) {
    const char byte = static_cast<char>(c);
    // A carriage return may be one cluster with what follows.
    map->ascii_stays_[c] = c != '\r' && !map->Find({&byte, 1}).has_value();
  }
  return map;
}

// The result of the shortest key that begins `text`. One that does not begin a code point (which a
// damaged map may have) counts as none.
std::optional<std::string_view> Charsmap::Find(std::string_view text) const {
  size_t at = Offset(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) return std::nullopt;
    at ^= byte;
    if (at >= units_.size() || Label(units_[at]) != byte) return std::nullopt;
    const uint32_t unit = units_[at];
    at ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    if (at >= units_.size()) return std::nullopt;
    const size_t begin = Value(units_[at]);
    if (begin > results_.size()) return std::nullopt;
    const bool inside =
        begin < results_.size() && (static_cast<unsigned char>(results_[begin]) & 0xC0) == 0x80;
    if (inside) return std::nullopt;
    const size_t found = std::string_view(results_).substr(begin, kLongestResult + 1).find('\0');
    const size_t end = found == std::string_view::npos ? results_.size() : begin + found;
    if (end - begin > kLongestResult) return std::nullopt;
    return std::string_view(results_).substr(begin, end - begin);
  }
  return std::nullopt;
}

bool Charsmap::LeavesAlone(std::string_view text) const {
  return std::all_of(text.begin(), text.end(), [this](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x80 && ascii_stays_[byte];
  });
}

void Charsmap::Normalize(NormalizedText* text, NormalizedText* spare) const {
  if (LeavesAlone(text->text)) return;
  const std::string_view old = text->text;
  TextRewriter rewriter(text, spare);
  Replacer replacer(&rewriter);
  const auto stays = [&](size_t at) {
    const auto byte = static_cast<unsigned char>(old[at]);
    return byte < 0x80 && ascii_stays_[byte];
  };
  size_t at = 0;
  while (at < old.size()) {
    // An ASCII character before another one is a cluster.
    if (stays(at) && (at + 1 == old.size() || static_cast<unsigned char>(old[at + 1]) < 0x80)) {
      replacer.Keep(static_cast<unsigned char>(old[at++]));
      continue;
    }
    const size_t end = GraphemeEnd(old, at);
    if (end - at <= kLongestCluster) {
      const std::string_view cluster = old.substr(at, end - at);
      if (const auto result = Find(cluster)) {
        replacer.Replace(cluster, *result);
        at = end;
        continue;
      }
    }
    while (at < end) {
      const size_t begin = at;
      const char32_t c = NextCodePoint(old, &at);
      const std::string_view one = old.substr(begin, at - begin);
      if (const auto result = Find(one)) {
        replacer.Replace(one, *result);
      } else {
        replacer.Keep(c);
      }
    }
  }
  replacer.Finish();
}

std::optional<std::string> DecodeBase64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<int8_t, 256> value_of;
  value_of.fill(-1);
  for (size_t i = 0; i < kDigits.size(); ++i) {
    value_of[static_cast<unsigned char>(kDigits[i])] = static_cast<int8_t>(i);
  }
  if (text.size() % 4 != 0) return std::nullopt;
  size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 3);
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : text) {
    const int8_t value = value_of[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    num_bits += 6;
    if (num_bits < 8) continue;
    num_bits -= 8;
    bytes += static_cast<char>(bits >> num_bits & 0xFF);
  }
  return bytes;
}

}  // namespace bertrand
