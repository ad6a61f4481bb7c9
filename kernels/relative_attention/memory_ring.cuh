#pragma once

// How a sequence's memory is told to the kernels of relative attention: plain data, written by the
// host (DescribeMemory) and read on the device.

#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// One sequence's memory: `size` rows, oldest first, of rings of `capacity` rows [heads, head_size].
// Row (first + j) % capacity is that of the j-th. size 0: no memory, the rest is not looked at.
struct alignas(16) MemoryRing {
  int64_t keys = 0, values = 0;  // where the rings begin, in values from that of memory_rows
  int32_t first = 0, size = 0, capacity = 0, unused = 0;
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
