#pragma once

// What the launchers of both kinds of attention check and cut alike. Host code; pure functions.

#include <cstdint>
#include <string>

#include "kernels/attention/attention_output.cuh"
#include "kernels/attention/row_tile.cuh"
#include "kernels/simt/runtime.h"
#include "kernels/status.h"
#include "kernels/tensor.h"

namespace bertrand::gpu::inline SIMT_TARGET {

inline constexpr float kLog2E = 1.4426950408889634f;

inline bool IsAligned16(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.data()) % 16 == 0;
}

// qkv [tokens, 3, heads, head_size], cu_seqlens, scale, and out with its scale, of either kind's
// params; `op` begins the message.
template <typename Params>
absl::Status CheckAttention(const char* op, const Params& p) {
  const auto refuse = [op](const std::string& text) {
    return InvalidArgument(std::string(op) + ": " + text);
  };
  if (p.qkv.rank() != 4 || p.qkv.dim(1) != 3 || p.qkv.dim(2) < 1) {
    return refuse("qkv is " + p.qkv.ToString() + ", expected [tokens,3,heads,head_size]");
  }
  const int64_t tokens = p.qkv.dim(0), heads = p.qkv.dim(2), head_size = p.qkv.dim(3);
  if (head_size < 1 || head_size > 256) {
    return refuse("qkv is " + p.qkv.ToString() + "; head_size is 1 to 256");
  }
  if (p.qkv.num_elements() > INT32_MAX) {
    return refuse("qkv is " + p.qkv.ToString() + "; 2^31 - 1 values at most");
  }
  const bool narrow = p.out.dtype() == DType::kFloat8;
  if ((p.out.dtype() != p.qkv.dtype() && !narrow) || !p.out.HasShape({tokens, heads, head_size})) {
    return refuse("out is " + p.out.ToString() + ", qkv is " + p.qkv.ToString());
  }
  if (narrow && (SizeOf(p.qkv.dtype()) != 2 || head_size % 8 != 0 || !IsAligned16(p.qkv) ||
                 !IsAligned16(p.out) || p.out_scale.dtype() != DType::kFloat32 ||
                 p.out_scale.num_elements() != 1)) {
    return refuse("out is " + p.out.ToString() + ", its scale " + p.out_scale.ToString() +
                  ", qkv is " + p.qkv.ToString() +
                  "; float8 wants aligned 16-bit heads of a multiple of 8, and float32[1]");
  }
  if (p.cu_seqlens.dtype() != DType::kInt32 || p.cu_seqlens.rank() != 1 ||
      p.cu_seqlens.dim(0) < 1) {
    return refuse("cu_seqlens is " + p.cu_seqlens.ToString() + ", expected int32[sequences + 1]");
  }
  if (!(p.scale > 0)) return refuse("scale is " + std::to_string(p.scale) + ", expected > 0");
  return absl::OkStatus();
}

// Requires: CheckAttention.
template <typename T, typename Params>
AttentionOutput<T> MakeAttentionOutput(const Params& p) {
  if (p.out.dtype() == DType::kFloat8) {
    return {{}, simt::AsGlobal<simt::Float8>(p.out), simt::AsGlobal<const float>(p.out_scale)};
  }
  return {simt::AsGlobal<T>(p.out), {}, {}};
}

// A block for each tile of rows and head.
template <typename Kernel, typename Params>
simt::LaunchShape AttentionShape(const Params& p) {
  const int64_t tiles = NumRowTiles(p.qkv.dim(0), p.cu_seqlens.dim(0) - 1, Kernel::kRows);
  return {{static_cast<int>(tiles * p.qkv.dim(2))}};
}

// Whether blocks of 128 rows, two groups of 16 a warp, pay: they read as much of keys and values as
// those of 64 rows do, for twice the rows. They do where sequences fill three quarters of them and
// each multiprocessor gets the two blocks that it has registers for; with fewer, those of 64 rows
// are spread over more of the device.
template <typename Params>
bool TallTilesPay(const Params& p, const simt::DeviceInfo& device) {
  const int64_t tokens = p.qkv.dim(0), sequences = p.cu_seqlens.dim(0) - 1;
  return tokens >= 96 * sequences &&
         tokens / 128 * p.qkv.dim(2) >= 2 * int64_t{device.multiprocessors};
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
