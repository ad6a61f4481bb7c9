#pragma once

// What loading a tokenizer may allocate: ten times its files, and a fixed amount. Whoever makes
// tables in proportion to a vocabulary asks before, since a file of millions of tiny tokens would
// take thirty times its size: refused, such a file costs nothing.
//
// The fixed amount is for real vocabularies: tables take some two hundred bytes a token, more than
// ten times a vocab.txt of single Chinese characters.
//
// Pure functions, thread-safe.

#include <absl/status/status.h>

#include <cstddef>
#include <limits>
#include <string>

#include "kernels/status.h"

namespace bertrand {

inline constexpr size_t kNoMemoryBound = std::numeric_limits<size_t>::max();
inline constexpr size_t kFreeMemoryBytes = size_t{32} << 20;

inline size_t MemoryBoundOf(size_t file_bytes) { return 10 * file_bytes + kFreeMemoryBytes; }

// InvalidArgument when `bytes` are more than `bytes_max`.
inline absl::Status CheckMemory(size_t bytes, size_t bytes_max) {
  if (bytes <= bytes_max) return absl::OkStatus();
  return InvalidArgument("its tables would take " + std::to_string(bytes) + " bytes; more than " +
                         std::to_string(bytes_max) +
                         ", ten times the files and a fixed amount, are not spent on them");
}

}  // namespace bertrand
