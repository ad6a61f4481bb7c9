#include "models/tokenizer/unicode.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <optional>

#include "models/tokenizer/tokenizer.h"

namespace bertrand {
namespace {

// The length of the well-formed sequence at `at` (Unicode 15, table 3-7), or 0.
size_t SequenceLength(const unsigned char* at, size_t available) {
  const unsigned lead = at[0];
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (available < length) return 0;
  unsigned low = 0x80, high = 0xBF;  // of the second byte
  if (lead == 0xE0) low = 0xA0;      // overlong
  if (lead == 0xED) high = 0x9F;     // surrogates
  if (lead == 0xF0) low = 0x90;      // overlong
  if (lead == 0xF4) high = 0x8F;     // beyond U+10FFFF
  if (at[1] < low || at[1] > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((at[i] & 0xC0) != 0x80) return 0;
  }
  return length;
}

// Hangul syllables, by arithmetic.
constexpr char32_t kSyllable = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTail = 0x11A7;
constexpr char32_t kLeads = 19, kVowels = 21, kTails = 28;

size_t DecomposeSyllable(char32_t c, char32_t* out) {
  const char32_t syllable = c - kSyllable;
  out[0] = kLead + syllable / (kVowels * kTails);
  out[1] = kVowel + syllable % (kVowels * kTails) / kTails;
  out[2] = kTail + syllable % kTails;
  return out[2] == kTail ? 2 : 3;
}

size_t CopySequence(char32_t c, uint16_t index, char32_t* out) {
  if (index == 0) {
    out[0] = c;
    return 1;
  }
  const std::u32string_view sequence = SequenceAt(index);
  std::copy(sequence.begin(), sequence.end(), out);
  return sequence.size();
}

}  // namespace

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    // To the next byte with its top bit set, eight at a time.
    uint64_t top_bits = 0;
    for (; i + 8 <= text.size(); i += 8) {
      std::memcpy(&top_bits, bytes + i, sizeof(top_bits));
      top_bits &= 0x8080808080808080u;
      if (top_bits != 0) break;
    }
    if (top_bits != 0) i += static_cast<size_t>(std::countr_zero(top_bits)) / 8;
    while (i < text.size() && bytes[i] < 0x80) ++i;
    if (i == text.size()) break;
    do {
      const bool is_two = i + 1 < text.size() && bytes[i] >= 0xC2 && bytes[i] < 0xE0 &&
                          (bytes[i + 1] & 0xC0) == 0x80;
      if (is_two) {
        i += 2;
        continue;
      }
      const size_t length = SequenceLength(bytes + i, text.size() - i);
      if (length == 0) return i;
      i += length;
    } while (i < text.size() && bytes[i] >= 0x80);
  }
  return std::nullopt;
}

size_t Decompose(char32_t c, char32_t* out) {
  const CodePointRecord& record = RecordOf(c);
  if (record.flags & kHangulSyllable) return DecomposeSyllable(c, out);
  return CopySequence(c, record.decomposition, out);
}

size_t DecomposeCompatibly(char32_t c, char32_t* out) {
  const CodePointRecord& record = RecordOf(c);
  if (record.flags & kHangulSyllable) return DecomposeSyllable(c, out);
  return CopySequence(c, record.compatibility, out);
}

char32_t Compose(char32_t first, char32_t second) {
  if (first - kLead < kLeads && second - kVowel < kVowels) {
    return kSyllable + ((first - kLead) * kVowels + (second - kVowel)) * kTails;
  }
  if (first - kSyllable < kLeads * kVowels * kTails && (first - kSyllable) % kTails == 0 &&
      second - kTail - 1 < kTails - 1) {
    return first + (second - kTail);
  }
  using Row = const char32_t[3];
  const Row* const begin = std::begin(unicode_tables::kCompositions);
  const Row* const end = std::end(unicode_tables::kCompositions);
  const Row* const found = std::partition_point(
      begin, end, [&](Row& row) { return row[0] != first ? row[0] < first : row[1] < second; });
  return found != end && (*found)[0] == first && (*found)[1] == second ? (*found)[2] : 0;
}

size_t WriteUtf8(char32_t c, char* out) {
  if (c < 0x80) {
    out[0] = static_cast<char>(c);
    return 1;
  }
  if (c < 0x800) {
    out[0] = static_cast<char>(0xC0 | c >> 6);
    out[1] = static_cast<char>(0x80 | (c & 63));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = static_cast<char>(0xE0 | c >> 12);
    out[1] = static_cast<char>(0x80 | (c >> 6 & 63));
    out[2] = static_cast<char>(0x80 | (c & 63));
    return 3;
  }
  out[0] = static_cast<char>(0xF0 | c >> 18);
  out[1] = static_cast<char>(0x80 | (c >> 12 & 63));
  out[2] = static_cast<char>(0x80 | (c >> 6 & 63));
  out[3] = static_cast<char>(0x80 | (c & 63));
  return 4;
}

void AppendUtf8(char32_t c, std::string* out) {
  char buffer[4];
  out->append(buffer, WriteUtf8(c, buffer));
}

bool IsUtf8Prefix(std::string_view bytes) {
  // A lead byte admits any continuation that some second byte admits, so a few tries decide.
  for (const char second : {'\x80', '\x90', '\xA0'}) {
    std::string whole(bytes);
    if (whole.size() == 1) whole += second;
    while (whole.size() < 4) whole += '\x80';
    const auto* at = reinterpret_cast<const unsigned char*>(whole.data());
    if (SequenceLength(at, whole.size()) > bytes.size()) return true;
  }
  return false;
}

size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

}  // namespace bertrand
