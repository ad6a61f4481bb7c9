#pragma once

// y = activation(x W^T + bias) + residual on Hopper's own tensor-core path (wgmma fed by the copy
// engine), with the epilogue in registers: what cuBLASLt lacks is the exact GELU in it.
// Shapes, types, aliasing, numerics as small_gemm.h; no splits, no workspace.
// Requires: a device of capability 9.0; f16 | bf16; n and k multiples of 8; all operands aligned to
//   16 bytes; activation none or, without a residual, the erf GELU (the library fuses the others
//   itself). Any m.
// Numerics: float accumulation. GELU is x Phi(x) with Phi's tail as 2^polynomial, within 2^-17 of
//   itself everywhere: far below the result's rounding, and closer than 1 + erf(x) in the tails.
// Cost: compute-bound from m of a few hundred; docs/gemm.md predicts it.
// Errors: InvalidArgument before any launch, FailedPrecondition on another device. Asynchronous on
//   `stream`; any thread, a stream one.
//
// No GPU has run it yet, so nothing chooses it untimed: Gemm::Tune alone does, after comparing it
// with FloatGemm.

#include <absl/status/status.h>

#include "kernels/gemm/hopper_tile.cuh"
#include "kernels/gemm/small_gemm.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// Whether HopperGemm's requirements hold. Requires: CheckGemm is OK.
bool HopperGemmSupports(const simt::DeviceInfo& device, const GemmParams& params);

// `tile`: an index of kHopperTileColumns.
absl::Status HopperGemm(const GemmParams& params, int tile, simt::Stream& stream);

}  // namespace bertrand::gpu::inline SIMT_TARGET
