#pragma once

// The device half of kernels/simt/simt.h: raw pointers and PTX one-liners. Included by it alone;
// the contract of every name is there.

#include "kernels/simt/types.h"

// A place in the source: the emulator's reports need it, nvcc drops it.
#define SIMT_HERE ::bertrand::simt::device::Here()

namespace bertrand::simt::inline SIMT_TARGET {

struct Site {};
SIMT_BOTH constexpr Site Here() { return {}; }

template <typename To, typename From>
SIMT_FN To BitCast(const From& value) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, value);
}

// ---- Views ----

template <typename T>
class Global {
 public:
  using Element = T;
  Global() = default;
  SIMT_BOTH Global(T* data, int64_t) : data_(data) {}
  template <typename U, typename = std::enable_if_t<std::is_same_v<const U, T>>>
  SIMT_BOTH Global(const Global<U>& other) : data_(other.data()) {}
  SIMT_BOTH explicit operator bool() const { return data_ != nullptr; }
  SIMT_BOTH T* data() const { return data_; }
  SIMT_FN Global operator+(int64_t offset) const { return {data_ + offset, 0}; }
  SIMT_FN Global Slice(int64_t first, int64_t) const { return {data_ + first, 0}; }

 private:
  T* data_ = nullptr;
};

template <typename T>
class Shared {
 public:
  using Element = T;
  SIMT_FN explicit Shared(T* data) : data_(data) {}
  template <typename U, typename = std::enable_if_t<std::is_same_v<const U, T>>>
  SIMT_FN Shared(const Shared<U>& other) : data_(other.data()) {}
  SIMT_FN T* data() const { return data_; }
  SIMT_FN Shared operator+(int offset) const { return Shared(data_ + offset); }
  SIMT_FN Shared Slice(int first, int) const { return Shared(data_ + first); }

 private:
  T* data_;
};

template <typename U, typename T>
SIMT_FN Global<U> Cast(Global<T> view) {
  return {reinterpret_cast<U*>(view.data()), 0};
}
template <typename U, typename T>
SIMT_FN Shared<U> Cast(Shared<T> view) {
  return Shared<U>(reinterpret_cast<U*>(view.data()));
}

extern __shared__ __align__(1024) char dynamic_shared_memory[];

template <typename Layout, typename Member>
SIMT_FN auto SharedMember(Member Layout::*member) {
  using Element = std::remove_all_extents_t<Member>;
  return Shared<Element>(
      reinterpret_cast<Element*>(&(reinterpret_cast<Layout*>(dynamic_shared_memory)->*member)));
}
template <auto kMember>
SIMT_FN auto SharedArray() {
  return SharedMember(kMember);
}
template <typename Layout, typename T>
SIMT_FN Shared<T> SharedTail(int) {
  return Shared<T>(
      reinterpret_cast<T*>(dynamic_shared_memory + RoundUp(static_cast<int>(sizeof(Layout)), 16)));
}

SIMT_FN uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---- Threads, blocks, barriers ----

SIMT_FN int ThreadIndex() { return static_cast<int>(threadIdx.x); }
SIMT_FN int NumThreads() { return static_cast<int>(blockDim.x); }
SIMT_FN int LaneIndex() { return static_cast<int>(threadIdx.x % 32); }
SIMT_FN int WarpIndex() { return static_cast<int>(threadIdx.x / 32); }
SIMT_FN int NumWarps() { return static_cast<int>(blockDim.x / 32); }
SIMT_FN int BlockIndex() { return static_cast<int>(blockIdx.x); }
SIMT_FN int BlockIndexY() { return static_cast<int>(blockIdx.y); }
SIMT_FN int BlockIndexZ() { return static_cast<int>(blockIdx.z); }
SIMT_FN int NumBlocks() { return static_cast<int>(gridDim.x); }
SIMT_FN int NumBlocksY() { return static_cast<int>(gridDim.y); }
SIMT_FN int NumBlocksZ() { return static_cast<int>(gridDim.z); }
SIMT_FN void SyncThreads(Site = {}) { __syncthreads(); }
SIMT_FN void SyncWarp(Site = {}) { __syncwarp(); }
SIMT_FN void WaitForEarlierKernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Not of the vocabulary: runtime.h's Entry says it for every kernel.
SIMT_FN void LetNextKernelBegin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// ---- Loads, stores, atomics ----

template <int kBytes>
struct RawOf;
template <>
struct RawOf<1> {
  using Type = unsigned char;
};
template <>
struct RawOf<2> {
  using Type = unsigned short;
};
template <>
struct RawOf<4> {
  using Type = unsigned int;
};
template <>
struct RawOf<8> {
  using Type = uint2;
};
template <>
struct RawOf<16> {
  using Type = uint4;
};

template <Cache kCache, typename Value>
SIMT_FN Value LoadRaw(const void* pointer) {
  using Raw = typename RawOf<sizeof(Value)>::Type;
  const Raw* raw = static_cast<const Raw*>(pointer);
  if constexpr (kCache == Cache::kReadOnly) {
    return BitCast<Value>(__ldg(raw));
  } else if constexpr (kCache == Cache::kStreaming) {
    return BitCast<Value>(__ldcs(raw));
  } else {
    return BitCast<Value>(*raw);
  }
}

template <Cache kCache, typename Value>
SIMT_FN void StoreRaw(void* pointer, const Value& value) {
  using Raw = typename RawOf<sizeof(Value)>::Type;
  Raw* raw = static_cast<Raw*>(pointer);
  if constexpr (kCache == Cache::kStreaming) {
    __stcs(raw, BitCast<Raw>(value));
  } else {
    *raw = BitCast<Raw>(value);
  }
}

template <Cache kCache = Cache::kDefault, typename View>
SIMT_FN std::remove_const_t<typename View::Element> Load(View view, Site = {}) {
  if constexpr (kCache == Cache::kDefault) {
    return *view.data();
  } else {
    return LoadRaw<kCache, std::remove_const_t<typename View::Element>>(view.data());
  }
}

template <Cache kCache = Cache::kDefault, typename View>
SIMT_FN void Store(View view, typename View::Element value, Site = {}) {
  if constexpr (kCache == Cache::kDefault) {
    *view.data() = value;
  } else {
    StoreRaw<kCache>(view.data(), value);
  }
}

template <int kCount, Cache kCache = Cache::kDefault, typename View>
SIMT_FN auto LoadVector(View view, Site = {}) {
  return LoadRaw<kCache, Vector<std::remove_const_t<typename View::Element>, kCount>>(view.data());
}

template <Cache kCache = Cache::kDefault, typename View, int kCount>
SIMT_FN void StoreVector(View view, const Vector<typename View::Element, kCount>& vector,
                         Site = {}) {
  StoreRaw<kCache>(view.data(), vector);
}

template <typename View>
SIMT_FN typename View::Element AtomicAdd(View view, typename View::Element value, Site = {}) {
  return atomicAdd(view.data(), value);
}

template <typename View>
SIMT_FN typename View::Element AtomicMax(View view, typename View::Element value, Site = {}) {
  if constexpr (std::is_same_v<typename View::Element, float>) {
    // Positive floats are ordered as integers are, negative ones the other way round.
    if (__float_as_int(value) >= 0) {
      return __int_as_float(atomicMax(reinterpret_cast<int*>(view.data()), __float_as_int(value)));
    }
    return __uint_as_float(
        atomicMin(reinterpret_cast<unsigned*>(view.data()), __float_as_uint(value)));
  } else {
    return atomicMax(view.data(), value);
  }
}

// ---- Warp collectives ----

inline constexpr unsigned kAllLanes = 0xffffffffu;

template <typename T>
SIMT_FN T ShuffleXor(T value, int mask, Site = {}) {
  return BitCast<T>(__shfl_xor_sync(kAllLanes, BitCast<uint32_t>(value), mask));
}
template <typename T>
SIMT_FN T ShuffleDown(T value, int delta, Site = {}) {
  return BitCast<T>(__shfl_down_sync(kAllLanes, BitCast<uint32_t>(value), delta));
}
template <typename T>
SIMT_FN T ShuffleUp(T value, int delta, Site = {}) {
  return BitCast<T>(__shfl_up_sync(kAllLanes, BitCast<uint32_t>(value), delta));
}
template <typename T>
SIMT_FN T Shuffle(T value, int lane, Site = {}) {
  return BitCast<T>(__shfl_sync(kAllLanes, BitCast<uint32_t>(value), lane));
}
SIMT_FN uint32_t WarpBallot(bool vote, Site = {}) { return __ballot_sync(kAllLanes, vote); }
SIMT_FN bool WarpAny(bool vote, Site = {}) { return __any_sync(kAllLanes, vote) != 0; }
SIMT_FN bool WarpAll(bool vote, Site = {}) { return __all_sync(kAllLanes, vote) != 0; }

// ---- Asynchronous copies ----

// 16 bytes go around the first-level cache; smaller ones cannot.
template <int kBytes, typename T>
SIMT_FN void CopyAsync(Shared<T> to, Global<const T> from, Site = {}) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(to.data())),
                 "l"(from.data()));
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(SharedAddress(to.data())),
                 "l"(from.data()), "n"(kBytes));
  }
}
template <int kBytes, typename T>
SIMT_FN void CopyAsync(Shared<T> to, Global<const T> from, int valid_bytes, Site = {}) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(to.data())),
                 "l"(from.data()), "r"(valid_bytes));
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(SharedAddress(to.data())),
                 "l"(from.data()), "n"(kBytes), "r"(valid_bytes));
  }
}
SIMT_FN void CopyAsyncCommit(Site = {}) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kInFlight>
SIMT_FN void CopyAsyncWait(Site = {}) {
  asm volatile("cp.async.wait_group %0;" ::"n"(kInFlight) : "memory");
}

// ---- Tensor cores ----

struct MmaA {
  uint32_t r[4];
};
struct MmaB {
  uint32_t r[2];
};
struct MmaC {
  float v[4];
};

template <typename T>
SIMT_FN void Mma(MmaC& c, const MmaA& a, const MmaB& b, Site = {}) {
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>);
  if constexpr (std::is_same_v<T, Half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  }
}

template <bool kTransposed, int kMatrices>
SIMT_FN void LoadMatrixRaw(uint32_t (&r)[kMatrices], uint32_t row) {
  static_assert(kMatrices == 1 || kMatrices == 2 || kMatrices == 4);
  if constexpr (kMatrices == 1 && !kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(row));
  } else if constexpr (kMatrices == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(row));
  } else if constexpr (kMatrices == 2 && !kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(row));
  } else if constexpr (kMatrices == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(row));
  } else if constexpr (!kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row));
  }
}

template <int kMatrices, typename T>
SIMT_FN void LoadMatrix(uint32_t (&r)[kMatrices], Shared<T> row, Site = {}) {
  static_assert(sizeof(T) == 2);
  LoadMatrixRaw<false>(r, SharedAddress(row.data()));
}
template <int kMatrices, typename T>
SIMT_FN void LoadMatrixTransposed(uint32_t (&r)[kMatrices], Shared<T> row, Site = {}) {
  static_assert(sizeof(T) == 2);
  LoadMatrixRaw<true>(r, SharedAddress(row.data()));
}

// ---- Arithmetic ----

SIMT_FN float Min(float a, float b) { return fminf(a, b); }
SIMT_FN float Max(float a, float b) { return fmaxf(a, b); }
SIMT_FN int Min(int a, int b) { return a < b ? a : b; }
SIMT_FN int Max(int a, int b) { return a > b ? a : b; }
SIMT_FN float Abs(float x) { return fabsf(x); }
SIMT_FN float Fma(float a, float b, float c) { return fmaf(a, b, c); }
SIMT_FN int FloatAsInt(float x) { return __float_as_int(x); }
SIMT_FN float IntAsFloat(int x) { return __int_as_float(x); }
SIMT_FN float Sqrt(float x) { return sqrtf(x); }
SIMT_FN float Divide(float a, float b) { return a / b; }
SIMT_FN float Erf(float x) { return erff(x); }
SIMT_FN float TanhExact(float x) { return tanhf(x); }
SIMT_FN float Exp(float x) { return expf(x); }
SIMT_FN float Log(float x) { return logf(x); }
SIMT_FN float Log1p(float x) { return log1pf(x); }

SIMT_FN float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
SIMT_FN float Log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
SIMT_FN float Rsqrt(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
SIMT_FN float Reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
SIMT_FN float Tanh(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// ---- Conversions ----

template <typename T>
SIMT_FN uint32_t Pack(float low, float high) {
  uint32_t packed;
  if constexpr (std::is_same_v<T, Half>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  } else {
    static_assert(std::is_same_v<T, BFloat16>);
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  }
  return packed;
}

SIMT_FN float ToFloat(float value) { return value; }
SIMT_FN float ToFloat(Half value) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(value.bits));
  return y;
}
SIMT_FN float ToFloat(BFloat16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}
// Scaling puts the exponent right, subnormals included.
SIMT_FN float ToFloat(Float8 value) {
  const uint32_t magnitude = value.bits & 0x7fu, sign = (value.bits & 0x80u) << 24;
  if (magnitude == 0x7f) return __uint_as_float(sign | 0x7fc00000u);
  const float scaled = __uint_as_float(magnitude << 20) * 0x1p120f;
  return __uint_as_float(__float_as_uint(scaled) | sign);
}

template <typename T>
SIMT_FN void Unpack(uint32_t packed, float& low, float& high) {
  if constexpr (std::is_same_v<T, Half>) {
    low = ToFloat(Half{static_cast<uint16_t>(packed)});
    high = ToFloat(Half{static_cast<uint16_t>(packed >> 16)});
  } else {
    static_assert(std::is_same_v<T, BFloat16>);
    low = __uint_as_float(packed << 16);
    high = __uint_as_float(packed & 0xffff0000u);
  }
}

// Two e4m3 values, `low` in the lower byte. Before sm_89 there is no instruction for it.
SIMT_FN uint16_t PackFloat8(float low, float high) {
#if __CUDA_ARCH__ >= 890
  uint16_t packed;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(packed) : "f"(high), "f"(low));
  return packed;
#else
  uint32_t bits[2];
  const float values[2] = {low, high};
  SIMT_UNROLL
  for (int i = 0; i < 2; ++i) {
    const float magnitude = fminf(fabsf(values[i]), 448.0f);
    uint32_t rounded;
    if (magnitude < 0x1p-6f) {  // subnormal: multiples of 2^-9
      rounded = static_cast<uint32_t>(__float2int_rn(magnitude * 512.0f));
    } else {
      const uint32_t wide = __float_as_uint(magnitude);
      rounded = (wide + 0x7ffffu + ((wide >> 20) & 1u) - (120u << 23)) >> 20;
    }
    if (values[i] != values[i]) rounded = 0x7f;
    bits[i] = rounded | ((__float_as_uint(values[i]) >> 24) & 0x80u);
  }
  return static_cast<uint16_t>(bits[0] | (bits[1] << 8));
#endif
}

template <typename T>
SIMT_FN T FromFloat(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else if constexpr (std::is_same_v<T, Float8>) {
    return Float8{static_cast<uint8_t>(PackFloat8(value, 0.0f))};
  } else if constexpr (std::is_same_v<T, Half>) {
    Half half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
    return half;
  } else {
    static_assert(std::is_same_v<T, BFloat16>);
    BFloat16 half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
    return half;
  }
}

}  // namespace bertrand::simt::inline SIMT_TARGET
