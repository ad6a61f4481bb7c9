#include "kernels/simt/hopper.h"
#include "kernels/simt/tile_checks.h"

namespace bertrand::simt::inline SIMT_TARGET {

absl::StatusOr<TileMap> MakeTileMap(int major, int minor, const void* data, int rows, int columns,
                                    int box_rows) {
  BERTRAND_RETURN_IF_ERROR(CheckTileMap(major, minor, data, rows, 1, columns, box_rows));
  return TileMap{{static_cast<const char*>(data), rows, 0, columns, box_rows}};
}

absl::StatusOr<TileMap> MakeTileMap(int major, int minor, const void* data, int rows, int planes,
                                    int columns, int box_rows) {
  BERTRAND_RETURN_IF_ERROR(CheckTileMap(major, minor, data, rows, planes, columns, box_rows));
  return TileMap{{static_cast<const char*>(data), rows, planes, columns, box_rows}};
}

}  // namespace bertrand::simt::inline SIMT_TARGET
