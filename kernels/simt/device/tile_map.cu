#include <cuda_runtime.h>

#include "kernels/simt/hopper.h"
#include "kernels/simt/tile_checks.h"

namespace bertrand::simt::inline SIMT_TARGET {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// The driver's function, without linking the driver.
Encode FindEncode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &result);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<Encode>(function);
}

// Of `dimensions` sizes, the innermost first; rows are the last.
absl::StatusOr<TileMap> EncodeTileMap(const void* data, cuuint32_t dimensions,
                                      const cuuint64_t* sizes, int box_rows) {
  static const Encode encode = FindEncode();
  if (encode == nullptr) return FailedPrecondition("the driver has no cuTensorMapEncodeTiled");
  TileMap map;
  cuuint64_t stride_bytes[2] = {sizes[0] * 2};
  if (dimensions == 3) stride_bytes[1] = stride_bytes[0] * sizes[1];
  cuuint32_t box[3] = {kTileColumns, 1, 1};
  box[dimensions - 1] = static_cast<cuuint32_t>(box_rows);
  const cuuint32_t steps[3] = {1, 1, 1};
  // 16 bits are 16 bits: what is copied, and the zeros beyond, are the same for float16 and
  // bfloat16.
  const CUresult result =
      encode(&map.map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, dimensions, const_cast<void*>(data), sizes,
             stride_bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  // The host's arithmetic: the device is well.
  if (result != CUDA_SUCCESS) {
    return FailedPrecondition("cuTensorMapEncodeTiled: error " +
                              std::to_string(static_cast<int>(result)));
  }
  return map;
}

}  // namespace

absl::StatusOr<TileMap> MakeTileMap(int major, int minor, const void* data, int rows, int columns,
                                    int box_rows) {
  BERTRAND_RETURN_IF_ERROR(CheckTileMap(major, minor, data, rows, 1, columns, box_rows));
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  return EncodeTileMap(data, 2, sizes, box_rows);
}

absl::StatusOr<TileMap> MakeTileMap(int major, int minor, const void* data, int rows, int planes,
                                    int columns, int box_rows) {
  BERTRAND_RETURN_IF_ERROR(CheckTileMap(major, minor, data, rows, planes, columns, box_rows));
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(planes),
                               static_cast<cuuint64_t>(rows)};
  return EncodeTileMap(data, 3, sizes, box_rows);
}

}  // namespace bertrand::simt::inline SIMT_TARGET
