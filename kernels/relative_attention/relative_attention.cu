#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "kernels/attention/launch_checks.h"
#include "kernels/relative_attention/float_relative_attention.cuh"
#include "kernels/relative_attention/relative_attention.cuh"
#include "kernels/relative_attention/relative_attention.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

constexpr int64_t kMaxRows = int64_t{1} << 30;

absl::Status Refuse(const std::string& what) {
  return InvalidArgument("RelativeAttention: " + what);
}

struct Operand {
  const char* name;
  const TensorView& view;
  std::initializer_list<int64_t> shape;
};

absl::Status CheckOperands(const RelativeAttentionParams& p) {
  const DType dtype = p.qkv.dtype();
  const int64_t tokens = p.qkv.dim(0), heads = p.qkv.dim(2), head_size = p.qkv.dim(3);
  const int64_t num_positions = p.positions.rank() == 3 ? p.positions.dim(0) : 0;
  const Operand operands[] = {{"content_bias", p.content_bias, {heads, head_size}},
                              {"position_bias", p.position_bias, {heads, head_size}},
                              {"segment_bias", p.segment_bias, {heads, head_size}},
                              {"positions", p.positions, {num_positions, heads, head_size}},
                              {"segments", p.segments, {2, heads, head_size}}};
  for (const Operand& operand : operands) {
    if (operand.view.dtype() != dtype || !operand.view.HasShape(operand.shape)) {
      return Refuse(std::string(operand.name) + " is " + operand.view.ToString() + ", qkv is " +
                    p.qkv.ToString());
    }
  }
  if (p.positions.num_elements() > INT32_MAX) {
    return Refuse("positions is " + p.positions.ToString() + "; 2^31 - 1 values at most");
  }
  if (p.center < 0 || p.center >= num_positions) {
    return Refuse("center is " + std::to_string(p.center) + " of " + std::to_string(num_positions));
  }
  if (p.type_ids.dtype() != DType::kInt32 || !p.type_ids.HasShape({tokens})) {
    return Refuse("type_ids is " + p.type_ids.ToString() + ", qkv is " + p.qkv.ToString());
  }
  if (p.rings != nullptr && p.memory_rows && p.memory_rows.dtype() != dtype) {
    return Refuse("memory_rows is " + p.memory_rows.ToString() + ", qkv is " + p.qkv.ToString());
  }
  return absl::OkStatus();
}

absl::Status Check(const RelativeAttentionParams& p) {
  BERTRAND_RETURN_IF_ERROR(CheckAttention("RelativeAttention", p));
  return CheckOperands(p);
}

// Whether `count` values of a head at a time can be read and written.
bool IsChunked(const RelativeAttentionParams& p, int count) {
  for (const TensorView* view : {&p.qkv, &p.content_bias, &p.position_bias, &p.segment_bias,
                                 &p.positions, &p.segments, &p.memory_rows, &p.out}) {
    if (!IsAligned16(*view)) return false;
  }
  return p.qkv.dim(3) % count == 0;
}

template <typename T>
RelativeOperands<T> Operands(const RelativeAttentionParams& p) {
  const int sequences = static_cast<int>(p.cu_seqlens.dim(0) - 1);
  RelativeOperands<T> operands = {};
  operands.qkv = simt::AsGlobal<const T>(p.qkv);
  operands.content_bias = simt::AsGlobal<const T>(p.content_bias);
  operands.position_bias = simt::AsGlobal<const T>(p.position_bias);
  operands.segment_bias = simt::AsGlobal<const T>(p.segment_bias);
  operands.positions = simt::AsGlobal<const T>(p.positions);
  operands.segments = simt::AsGlobal<const T>(p.segments);
  operands.type_ids = simt::AsGlobal<const int32_t>(p.type_ids);
  operands.cu_seqlens = simt::AsGlobal<const int32_t>(p.cu_seqlens);
  operands.memory_rows = simt::AsGlobal<const T>(p.memory_rows);
  if (p.rings != nullptr) operands.rings = simt::Global<const MemoryRing>(p.rings, sequences);
  operands.out = MakeAttentionOutput<T>(p);
  operands.sequences = sequences;
  operands.heads = static_cast<int>(p.qkv.dim(2));
  operands.head_size = static_cast<int>(p.qkv.dim(3));
  operands.width = operands.heads * operands.head_size;
  operands.num_positions = static_cast<int>(p.positions.dim(0));
  operands.center = static_cast<int>(p.center);
  operands.scale = p.scale * kLog2E;
  return operands;
}

template <typename T, int kHeadSize>
absl::Status StartTensor(const RelativeAttentionParams& p, simt::Stream& stream) {
  if constexpr (kHeadSize <= 64) {  // heads of 128 have no registers for two groups a warp
    if (p.tile == AttentionTile::kTall ||
        (p.tile == AttentionTile::kAuto && TallTilesPay(p, stream.device().info()))) {
      using Kernel = TensorRelativeAttentionKernel<T, kHeadSize, 4, 2>;
      return simt::Launch<Kernel>(stream, AttentionShape<Kernel>(p), Operands<T>(p));
    }
  }
  using Kernel = TensorRelativeAttentionKernel<T, kHeadSize, 4, 1>;
  return simt::Launch<Kernel>(stream, AttentionShape<Kernel>(p), Operands<T>(p));
}

template <typename T, int kHeadSize>
absl::Status StartFloat(const RelativeAttentionParams& p, simt::Stream& stream) {
  using Kernel = FloatRelativeAttentionKernel<T, kHeadSize>;
  return simt::Launch<Kernel>(stream, AttentionShape<Kernel>(p), {Operands<T>(p), IsChunked(p, 4)});
}

// The launch table. Registers of a thread as ptxas of CUDA 13.0 gives them for sm_80 / 86 / 90a
// (the most of the types), none spilled; shared memory; blocks that an SM of A100 / L4 / H100
// holds.
//
//   tensor   32, 4 warps   109 / 111 / 111   16 KiB   4 / 4 / 4
//   tensor   32, 4 x 2     184 / 186 / 202   24 KiB   2 / 2 / 2    (4 warps of two groups)
//   tensor   64, 4 warps   152 / 154 / 154   32 KiB   3 / 3 / 3
//   tensor   64, 4 x 2     254 / 255 / 255   48 KiB   2 / 2 / 2
//   tensor  128, 4 warps   238 / 240 / 238   64 KiB   2 / 1 / 2
//   float    32            204 / 206 / 214   44 KiB   2 / 2 / 2
//   float    64            212 / 214 / 216   73 KiB   2 / 1 / 2
//   float   128            186 / 188 / 186   90 KiB   1 / 1 / 2
//   float   256            168 / 171 / 170   86 KiB   1 / 1 / 2
template <typename T>
absl::Status StartForHeadSize(const RelativeAttentionParams& p, simt::Stream& stream) {
  const int64_t head_size = p.qkv.dim(3);
  if constexpr (!std::is_same_v<T, float>) {
    if (IsChunked(p, 8) && head_size <= 128) {
      if (head_size <= 32) return StartTensor<T, 32>(p, stream);
      if (head_size <= 64) return StartTensor<T, 64>(p, stream);
      return StartTensor<T, 128>(p, stream);
    }
  }
  if (head_size <= 32) return StartFloat<T, 32>(p, stream);
  if (head_size <= 64) return StartFloat<T, 64>(p, stream);
  if (head_size <= 128) return StartFloat<T, 128>(p, stream);
  return StartFloat<T, 256>(p, stream);
}

}  // namespace

absl::Status RelativeAttention(const RelativeAttentionParams& params, simt::Stream& stream) {
  BERTRAND_RETURN_IF_ERROR(Check(params));
  if (params.qkv.dim(0) == 0 || params.cu_seqlens.dim(0) == 1) return absl::OkStatus();
  switch (params.qkv.dtype()) {
    case DType::kFloat32:
      return StartForHeadSize<float>(params, stream);
    case DType::kFloat16:
      return StartForHeadSize<simt::Half>(params, stream);
    case DType::kBFloat16:
      return StartForHeadSize<simt::BFloat16>(params, stream);
    default:
      return Refuse("qkv is " + params.qkv.ToString());
  }
}

absl::StatusOr<TensorView> DescribeMemory(std::span<const AttentionMemory> memory,
                                          std::span<MemoryRing> rings) {
  BERTRAND_CHECK(memory.size() == rings.size(), "as many rings as memories");
  uintptr_t lowest = UINTPTR_MAX, end = 0;
  DType dtype = DType::kFloat32;
  for (const AttentionMemory& ring : memory) {
    if (ring.size == 0) continue;
    if (lowest == UINTPTR_MAX) dtype = ring.keys.dtype();
    const int64_t capacity = ring.keys.rank() == 3 ? ring.keys.dim(0) : 0;
    if (ring.keys.dtype() != dtype || ring.values.dtype() != dtype ||
        !ring.values.HasShape({capacity, ring.keys.dim(1), ring.keys.dim(2)}) ||
        !IsAligned16(ring.keys) || !IsAligned16(ring.values)) {
      return Refuse("a memory of keys " + ring.keys.ToString() + " and values " +
                    ring.values.ToString() + ", expected 16-byte aligned " + Name(dtype));
    }
    if (ring.size < 0 || ring.size > capacity || ring.first < 0 || ring.first >= capacity ||
        capacity > kMaxRows) {
      return Refuse("a memory of " + std::to_string(ring.size) + " rows from " +
                    std::to_string(ring.first) + " on in a ring of " + std::to_string(capacity));
    }
    for (const TensorView* view : {&ring.keys, &ring.values}) {
      const uintptr_t address = reinterpret_cast<uintptr_t>(view->data());
      lowest = std::min(lowest, address);
      end = std::max(end, address + view->size_bytes());
    }
  }
  const size_t size = SizeOf(dtype);
  const auto offset = [lowest, size](const TensorView& view) {
    return static_cast<int64_t>((reinterpret_cast<uintptr_t>(view.data()) - lowest) / size);
  };
  for (size_t i = 0; i < memory.size(); ++i) {
    rings[i] = {};
    if (memory[i].size == 0) continue;
    rings[i] = {offset(memory[i].keys), offset(memory[i].values),
                static_cast<int32_t>(memory[i].first), static_cast<int32_t>(memory[i].size),
                static_cast<int32_t>(memory[i].keys.dim(0))};
  }
  if (end == 0) return TensorView();
  return TensorView(reinterpret_cast<void*>(lowest), dtype,
                    {static_cast<int64_t>((end - lowest) / size)});
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
