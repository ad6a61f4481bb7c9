// The kernels of identity_wrapped.cu over raw pointers and CUDA's own names.

#include <cstdint>

struct alignas(16) Chunk {
  uint32_t words[4];
};
struct Tile {
  alignas(16) uint16_t keys[2][64 * 64];
  float sums[4];
};

extern __shared__ __align__(1024) char memory[];

__device__ __forceinline__ float HalfToFloat(uint16_t bits) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
  return y;
}

struct AxpyParams {
  const float* x;
  float* y;
  float a;
  int count;
};
extern "C" __global__ void Axpy(const __grid_constant__ AxpyParams p) {
  const int i =
      static_cast<int>(blockIdx.x) * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  if (i < p.count) {
    const float x = p.x[i], y = p.y[i];
    p.y[i] = fmaf(p.a, x, y);
  }
}

struct RowSumsParams {
  const uint16_t* x;
  float* sums;
  int width;
};
extern "C" __global__ void RowSums(const __grid_constant__ RowSumsParams p) {
  float* const partial = reinterpret_cast<Tile*>(memory)->sums;
  const int thread = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int i = thread; i < p.width / 8; i += static_cast<int>(blockDim.x)) {
    const uint4 raw = *reinterpret_cast<const uint4*>(
        p.x + static_cast<int64_t>(static_cast<int>(blockIdx.x)) * p.width + 8 * i);
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    float values[8];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      values[2 * j] = HalfToFloat(static_cast<uint16_t>(words[j]));
      values[2 * j + 1] = HalfToFloat(static_cast<uint16_t>(words[j] >> 16));
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += values[j];
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
  if (thread % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (thread == 0) {
    float total = 0;
    for (int w = 0; w < static_cast<int>(blockDim.x / 32); ++w) total += partial[w];
    p.sums[static_cast<int>(blockIdx.x)] = total;
  }
}

struct StreamParams {
  const uint16_t* x;
  uint16_t* y;
  int tiles;
};
extern "C" __global__ void Stream(const __grid_constant__ StreamParams p) {
  uint16_t* const keys = reinterpret_cast<Tile*>(memory)->keys[0];
  const int thread = static_cast<int>(threadIdx.x);
  const auto address = [](const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
  };
  const uint16_t* from = p.x + 8 * thread;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(keys + 8 * thread)),
               "l"(from));
  asm volatile("cp.async.commit_group;" ::: "memory");
  for (int tile = 0; tile < p.tiles; ++tile) {
    const int next = tile + 1;
    from = p.x + next * 4096 + 8 * thread;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     address(keys + next % 2 * 4096 + 8 * thread)),
                 "l"(from), "r"(next < p.tiles ? 16 : 0));
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
    __stcs(reinterpret_cast<uint4*>(p.y + tile * 4096 + 8 * thread),
           *reinterpret_cast<const uint4*>(keys + tile % 2 * 4096 + 8 * (thread ^ 1)));
    __syncthreads();
  }
}

struct ProductsParams {
  const uint16_t* a;
  float* c;
};
extern "C" __global__ void Products(const __grid_constant__ ProductsParams p) {
  uint16_t* const tile = reinterpret_cast<Tile*>(memory)->keys[0];
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int i = lane; i < 512; i += 32) {
    *reinterpret_cast<uint4*>(tile + 8 * i) = __ldg(reinterpret_cast<const uint4*>(p.a + 8 * i));
  }
  __syncwarp();
  float sum[4] = {};
#pragma unroll
  for (int k = 0; k < 64; k += 16) {
    uint32_t l[4], r[2];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(l[0]), "=r"(l[1]), "=r"(l[2]), "=r"(l[3])
                 : "r"(static_cast<uint32_t>(
                     __cvta_generic_to_shared(tile + 64 * (lane % 16) + k + 8 * (lane / 16)))));
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
        : "=r"(r[0]), "=r"(r[1])
        : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(tile + 64 * (k + lane % 16)))));
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(l[0]), "r"(l[1]), "r"(l[2]), "r"(l[3]), "r"(r[0]), "r"(r[1]));
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) p.c[4 * lane + i] = sum[i];
}

struct ActivateParams {
  const float* x;
  uint32_t* y;
};
extern "C" __global__ void Activate(const __grid_constant__ ActivateParams p) {
  const int i =
      static_cast<int>(blockIdx.x) * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  const uint2 raw = *reinterpret_cast<const uint2*>(p.x + 2 * i);
  const float u = __uint_as_float(raw.x), v = __uint_as_float(raw.y);
  float exp2, rsqrt, tanh, log2;
  uint32_t packed;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(exp2) : "f"(u));
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(rsqrt) : "f"(v));
  const float product = exp2 * rsqrt;
  asm("tanh.approx.f32 %0, %1;" : "=f"(tanh) : "f"(u));
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log2) : "f"(v));
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(fmaxf(tanh, log2)), "f"(product));
  p.y[i] = packed;
}

struct HistogramParams {
  const int* x;
  int* bins;
  float* most;
};
extern "C" __global__ void Histogram(const __grid_constant__ HistogramParams p) {
  const int i =
      static_cast<int>(blockIdx.x) * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  const int value = p.x[i];
  atomicAdd(p.bins + value, 1);
  if (__any_sync(0xffffffffu, value > 100)) {
    const float wide = static_cast<float>(value);
    if (__float_as_int(wide) >= 0) {
      atomicMax(reinterpret_cast<int*>(p.most), __float_as_int(wide));
    } else {
      atomicMin(reinterpret_cast<unsigned*>(p.most), __float_as_uint(wide));
    }
  }
}
