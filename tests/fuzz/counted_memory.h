#pragma once

// How much memory a piece of code takes: with counted_memory.cc among a program's sources, every
// `operator new` of it is counted. Works under sanitizers, which keep what is freed and so cannot
// be asked otherwise. One at a time, and no other threads meanwhile.

#include <cstddef>

namespace bertrand {

class CountedMemory {
 public:
  CountedMemory();  // from now on
  // The most that was allocated at once since then, beside what was before.
  size_t peak_bytes() const;

 private:
  size_t before_;
};

}  // namespace bertrand
