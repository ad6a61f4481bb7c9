#pragma once

// What both halves of MakeTileMap (hopper.h) check. Included by device/tile_map.cu and
// host/tile_map.cc alone.

#include <absl/status/status.h>

#include <cstdint>
#include <string>

#include "kernels/simt/types.h"
#include "kernels/status.h"

namespace bertrand::simt::inline SIMT_TARGET {

inline absl::Status CheckTileMap(int major, int minor, const void* data, int rows, int planes,
                                 int columns, int box_rows) {
  if (major != 9 || minor != 0) {
    return FailedPrecondition("tile loads are for devices of capability 9.0; this one has " +
                              std::to_string(major) + "." + std::to_string(minor));
  }
  const bool aligned = reinterpret_cast<uintptr_t>(data) % 16 == 0 && columns % 8 == 0;
  if (!aligned || rows < 1 || planes < 1 || columns < 1 || box_rows < 1 || box_rows > 256) {
    return InvalidArgument("a tile map of [" + std::to_string(rows) + "," +
                           std::to_string(columns) + "] in boxes of " + std::to_string(box_rows) +
                           " rows: rows are multiples of 16 bytes, boxes of at most 256 rows");
  }
  return absl::OkStatus();
}

}  // namespace bertrand::simt::inline SIMT_TARGET
