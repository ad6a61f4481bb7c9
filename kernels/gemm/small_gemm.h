#pragma once

// y = activation(x W^T + bias) + residual by our own kernels.
// Shapes: x [m, k], weight [n, k], bias [n] (optional), residual (optional), y [m, n]. Row-major.
// Types: all equal. SmallGemm: f16 | bf16, products on tensor cores. FloatGemm: also f32; products
//   in float, never TF32; also x and weight in float8.
// Requires: SmallGemm: k % 8 == 0, x and weight aligned to 16 bytes. Both: bias, residual and y
//   aligned to 8 bytes (f32: 16) where n % 4 == 0. FloatGemm: any m, n, k > 0.
// Aliasing: y may equal residual, not x. m == 0 does nothing.
// Numerics: float accumulation in an order that depends on the plan alone, so results are the same
//   bits in every run; bias, activation and residual in float before one rounding.
// Cost: SmallGemm is made for m <= 256, where weights are read once and little else:
// small_gemm_plan.h
//   predicts it. Right for any m, but no match for a library's GEMM on large ones.
// Errors: InvalidArgument before any launch. Asynchronous on `stream`; any thread, a stream one.
//
// Splits of k: each split leaves its sums in the workspace and a second kernel adds them, the first
// split first, and finishes. Not the last block of a tile: that needs a counter to be cleared and a
// device-wide fence (about 0.7 us on its own), its one SM reads all the partial sums of a tile (1
// us for 6 splits of 64 x 64) while the others idle, and a kernel in a graph costs 1 us too. And
// the second kernel can go: what follows a split GEMM is LayerNorm, which reads y anyway.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "kernels/backend.h"
#include "kernels/gemm/small_gemm_plan.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

struct GemmParams {
  TensorView x, weight, bias;
  Activation activation = Activation::kNone;
  TensorView residual;
  TensorView y;
  // Where x and weight are float8 (e4m3): what each stands for is its values times its scale,
  // float32 [1] in device memory. The other operands are then equal, f16 | bf16.
  TensorView x_scale, weight_scale;

  bool float8() const { return weight.dtype() == DType::kFloat8; }
  int m() const { return static_cast<int>(x.dim(0)); }
  int n() const { return static_cast<int>(weight.dim(0)); }
  int k() const { return static_cast<int>(weight.dim(1)); }
};

// Shapes and types fit together; sizes below 2^31.
absl::Status CheckGemm(const GemmParams& params);

// Whether SmallGemm's requirements hold. Requires: CheckGemm is OK.
bool SmallGemmSupports(const GemmParams& params);

// workspace: SmallGemmWorkspaceBytes(m, n, plan.splits) bytes, 16-byte aligned; nullptr for one
// split.
absl::Status SmallGemm(const GemmParams& params, const SmallGemmPlan& plan, void* workspace,
                       simt::Stream& stream);

// The first half of SmallGemm with several splits: their sums stay in the workspace as float32
// [splits, m, n], which is returned, and whoever reads them adds them up, in order; bias,
// activation, residual and y are not looked at. Requires: more than one split, n % 4 == 0.
absl::StatusOr<TensorView> SmallGemmSplits(const GemmParams& params, const SmallGemmPlan& plan,
                                           void* workspace, simt::Stream& stream);

absl::Status FloatGemm(const GemmParams& params, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
