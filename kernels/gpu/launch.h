#pragma once

// What launchers of row-wise kernels share: the element type at run time, and what rows' addresses
// allow. Host code; pure functions.

#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/gpu/row_access.cuh"
#include "kernels/simt/runtime.h"
#include "kernels/status.h"
#include "kernels/tensor.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// visit(T{}) with the type of `dtype`'s elements; InvalidArgument unless it is a floating type that
// kernels store.
template <typename Visit>
absl::Status WithType(const char* op, DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::kFloat32:
      return visit(float{});
    case DType::kFloat16:
      return visit(simt::Half{});
    case DType::kBFloat16:
      return visit(simt::BFloat16{});
    default:
      return InvalidArgument(std::string(op) + " of " + Name(dtype));
  }
}

// Whether every row of these operands, and the `column`-th element in it, begins at a multiple of
// `bytes`. Absent operands do.
inline bool RowsAligned(size_t bytes, std::initializer_list<TensorView> operands,
                        int64_t column = 0) {
  for (const TensorView& operand : operands) {
    if (!operand) continue;
    const auto row_bytes =
        static_cast<size_t>(operand.dim(operand.rank() - 1)) * SizeOf(operand.dtype());
    if (reinterpret_cast<uintptr_t>(operand.data()) % bytes != 0 || row_bytes % bytes != 0 ||
        static_cast<size_t>(column) * SizeOf(operand.dtype()) % bytes != 0) {
      return false;
    }
  }
  return true;
}

// Blocks for `count` items of which a block takes `per_block`.
inline simt::LaunchShape Blocks(int64_t count, int per_block) {
  return {{static_cast<int>((count + per_block - 1) / per_block)}};
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
