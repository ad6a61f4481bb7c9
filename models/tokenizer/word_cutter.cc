#include "models/tokenizer/word_cutter.h"

#include <algorithm>
#include <bit>

#include "models/tokenizer/byte_level.h"

// Vectors of no compile-time size are left out; arm64 runs NEON.
#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/tokenizer/word_cutter.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h: compiled once per target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kWindow = WordCutter::kWindow;

using Tag = hn::CappedTag<uint8_t, kWindow>;

// Of each byte of a window.
struct Classes {
  uint64_t letters = 0, digits = 0, spaces = 0;  // in ASCII
  uint64_t wide = 0;                             // not ASCII
  uint64_t blanks = 0, apostrophes = 0;          // ' ' and '\''
};

template <class Mask>
HWY_INLINE uint64_t BitsOf(Mask mask) {
  uint64_t bits = 0;
  hn::StoreMaskBits(Tag(), mask, reinterpret_cast<uint8_t*>(&bits));
  return bits;
}

HWY_INLINE Classes Classify(const char* window) {
  const Tag tag;
  const size_t lanes = hn::Lanes(tag);
  const auto of = [&](char c) HWY_ATTR { return hn::Set(tag, static_cast<uint8_t>(c)); };
  Classes classes;
  for (size_t i = 0; i < kWindow; i += lanes) {
    const auto bytes = hn::LoadU(tag, reinterpret_cast<const uint8_t*>(window) + i);
    const auto within = [&](auto b, char first, char last) HWY_ATTR {
      const auto from = hn::Sub(b, of(first));
      return hn::Eq(hn::Min(from, of(static_cast<char>(last - first))), from);
    };
    const auto lower = hn::Or(bytes, of(' '));
    const auto blank = hn::Eq(bytes, of(' '));
    classes.letters |= BitsOf(within(lower, 'a', 'z')) << i;
    classes.digits |= BitsOf(within(bytes, '0', '9')) << i;
    classes.spaces |= BitsOf(hn::Or(within(bytes, '\t', '\r'), blank)) << i;
    classes.blanks |= BitsOf(blank) << i;
    classes.apostrophes |= BitsOf(hn::Eq(bytes, of('\''))) << i;
    classes.wide |= BitsOf(hn::Ne(hn::And(bytes, of('\x80')), hn::Zero(tag))) << i;
  }
  return classes;
}

uint64_t Cut(const char* window, size_t size) {
  Classes classes = Classify(window);
  uint64_t known = ~uint64_t{0} >> 1;  // bits that are not decided by what is outside
  uint64_t end = 0;
  if (size < kWindow) {
    // What is behind the text counts as white space.
    end = uint64_t{1} << size;
    known = end | (end - 1);
    classes.letters &= end - 1;
    classes.digits &= end - 1;
    classes.wide &= end - 1;
    classes.spaces |= ~(end - 1);
  }
  const uint64_t spaces = classes.spaces, letters = classes.letters, digits = classes.digits;
  const uint64_t others = ~(letters | digits | spaces | classes.wide);
  const uint64_t goes_on = (letters & letters << 1) | (digits & digits << 1) |
                           (others & others << 1) | classes.blanks << 1;
  // Of white space the first, and the last one before what is none.
  uint64_t starts = (~spaces & ~goes_on) | (spaces & ~(spaces << 1 & spaces >> 1)) | end;
  // A space is known if what is before and behind it is, and anything may be behind ASCII.
  const uint64_t first_wide = classes.wide & -classes.wide;
  if (first_wide != 0) known &= first_wide > 1 ? (first_wide >> 1) - 1 : 0;
  starts |= 1;
  for (uint64_t rest = classes.apostrophes & starts & known; rest != 0; rest &= rest - 1) {
    const auto at = static_cast<size_t>(std::countr_zero(rest));
    if (end == 0 && at + kMaxContraction >= kWindow) {
      known &= (uint64_t{2} << at) - 1;
      break;
    }
    const size_t length = ContractionLength({window, std::min(size, kWindow)}, at);
    if (length == 0) continue;
    const uint64_t behind = uint64_t{1} << (at + length);
    starts = (starts & ~(behind - (uint64_t{2} << at))) | behind;
  }
  return (starts & known) | 1;
}

const CutKernel& Kernel() {
  static const CutKernel kKernel = {hwy::TargetName(HWY_TARGET), &Cut};
  return kKernel;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bertrand {

HWY_EXPORT(Kernel);

const CutKernel& ChooseCutKernel() { return HWY_DYNAMIC_DISPATCH(Kernel)(); }

}  // namespace bertrand
#endif
