#include "models/tokenizer/graphemes.h"

#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// What the rules need to know of the cluster so far.
class Cluster {
 public:
  explicit Cluster(char32_t first) { Take(RecordOf(first).grapheme); }

  // Adds a code point, or returns false when it begins the next cluster.
  bool Add(char32_t c) {
    const uint8_t grapheme = RecordOf(c).grapheme;
    if (IsBoundary(grapheme)) return false;
    Take(grapheme);
    return true;
  }

 private:
  static uint8_t ClassOf(uint8_t grapheme) { return grapheme & kGraphemeClassMask; }

  // The rules by their numbers, GB3 to GB13.
  bool IsBoundary(uint8_t grapheme) const {
    const uint8_t before = ClassOf(last_), after = ClassOf(grapheme);
    if (before == kGraphemeCr && after == kGraphemeLf) return false;  // 3
    const auto controls = [](uint8_t c) {
      return c == kGraphemeControl || c == kGraphemeCr || c == kGraphemeLf;
    };
    if (controls(before) || controls(after)) return true;  // 4, 5
    const bool vowel_or_tail = after == kGraphemeVowel || after == kGraphemeTail;
    if (before == kGraphemeLead && (after == kGraphemeLead || after == kGraphemeVowel ||
                                    after == kGraphemeLv || after == kGraphemeLvt)) {
      return false;  // 6
    }
    if ((before == kGraphemeLv || before == kGraphemeVowel) && vowel_or_tail) return false;  // 7
    if ((before == kGraphemeLvt || before == kGraphemeTail) && after == kGraphemeTail) {
      return false;  // 8
    }
    if (after == kGraphemeExtend || after == kGraphemeZwj || after == kGraphemeSpacingMark) {
      return false;  // 9, 9a
    }
    if (before == kGraphemePrepend) return false;                  // 9b
    if (linked_ && (grapheme & kConjunctConsonant)) return false;  // 9c
    return !(joined_picture_ && after == kGraphemePicture);        // 11
  }

  void Take(uint8_t grapheme) {
    const uint8_t kind = ClassOf(grapheme);
    joined_picture_ = picture_ && kind == kGraphemeZwj;
    picture_ = kind == kGraphemePicture || (picture_ && kind == kGraphemeExtend);
    if (grapheme & kConjunctConsonant) {
      consonant_ = true;
      linked_ = false;
    } else if (consonant_ && (grapheme & kConjunctLinker)) {
      linked_ = true;
    } else if ((grapheme & kConjunctExtend) == 0) {
      consonant_ = linked_ = false;
    }
    last_ = grapheme;
  }

  uint8_t last_ = 0;
  bool picture_ = false;         // ends with a picture and Extend*
  bool joined_picture_ = false;  // and a ZWJ behind them
  bool consonant_ = false;       // ends with a consonant, linkers and extenders
  bool linked_ = false;          // and at least one linker
};

}  // namespace

size_t GraphemeEnd(std::string_view text, size_t at) {
  Cluster cluster(NextCodePoint(text, &at));
  while (at < text.size()) {
    size_t next = at;
    if (!cluster.Add(NextCodePoint(text, &next))) break;
    at = next;
  }
  return at;
}

}  // namespace bertrand
