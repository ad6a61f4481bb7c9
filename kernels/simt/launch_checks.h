#pragma once

// What both halves of the runtime do alike: the limits of a launch. Included by
// device/runtime.cu and host/runtime.cc alone.

#include <string>

#include "kernels/simt/runtime.h"
#include "kernels/status.h"

namespace bertrand::simt::inline SIMT_TARGET {

inline absl::Status CheckLaunch(const DeviceInfo& info, const KernelEntry& kernel,
                                const LaunchShape& shape) {
  const Grid& grid = shape.grid;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.y > 65535 || grid.z > 65535) {
    return InvalidArgument(std::string(kernel.name) + ": a grid of " + std::to_string(grid.x) +
                           " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) +
                           " blocks; 1 to 2147483647 x 65535 x 65535 can be launched");
  }
  // The driver keeps 4 KiB for parameters on every device.
  if (kernel.params_bytes > 4096) {
    return InvalidArgument(std::string(kernel.name) + ": " + std::to_string(kernel.params_bytes) +
                           " bytes of parameters; 4096 are the most");
  }
  const size_t shared_bytes = kernel.shared_bytes + static_cast<size_t>(shape.tail_bytes);
  if (shape.tail_bytes < 0 || shared_bytes > info.shared_bytes_per_block) {
    return InvalidArgument(std::string(kernel.name) + ": " + std::to_string(shared_bytes) +
                           " bytes of shared memory; " + info.name + " has " +
                           std::to_string(info.shared_bytes_per_block) + " for a block");
  }
  return absl::OkStatus();
}

// The layout's end is rounded up when there is a tail (SharedTail).
inline size_t SharedBytes(const KernelEntry& kernel, const LaunchShape& shape) {
  if (shape.tail_bytes == 0) return kernel.shared_bytes;
  return static_cast<size_t>(RoundUp(static_cast<int>(kernel.shared_bytes), 16) + shape.tail_bytes);
}

}  // namespace bertrand::simt::inline SIMT_TARGET
