#pragma once

// GPT-2's regular expression (byte_level.h) over 64 bytes at a time: the places where words begin,
// as bits. Cutting word by word, each would wait for the end of the one before.
//
// Compiled for each instruction set; the best one this machine can run is chosen when a WordCutter
// is made (hwy::SetSupportedTargetsForTest narrows the choice). Immutable and thread-safe.

#include <cstddef>
#include <cstdint>

namespace bertrand {

// The way for one instruction set.
struct CutKernel {
  const char* target;  // its name
  uint64_t (*cut)(const char* bytes, size_t size);
};
const CutKernel& ChooseCutKernel();

class WordCutter {
 public:
  static constexpr size_t kWindow = 64;

  // `bytes` is where a word begins, `size` > 0 the bytes from there to the text's end; kWindow
  // bytes can be read in any case. The result's bit i: a word begins at byte i, or the text ends
  // there. Bit 0 is set. The words between two bits are whole, the place of the last bit is where
  // to go on; where that is bit 0, the word there is longer, or one that needs Unicode's tables.
  uint64_t Cut(const char* bytes, size_t size) const { return cut_(bytes, size); }

 private:
  decltype(CutKernel::cut) cut_ = ChooseCutKernel().cut;
};

}  // namespace bertrand
