#pragma once

// The emulator's half of kernels/simt/simt.h: every access is checked, every collective performed.
// Included by it alone; the contract of every name is there.

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/simt/host/checks.h"
#include "kernels/simt/host/collective.h"
#include "kernels/simt/host/convert.h"
#include "kernels/simt/types.h"

namespace bertrand::simt::inline SIMT_TARGET {

using emulator::Site;

template <typename To, typename From>
inline To BitCast(const From& value) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &value, sizeof(to));
  return to;
}

// ---- Views ----

// Moves an address without regard to what it points to: bounds are checked at the access.
template <typename T>
inline T* Move(T* data, int64_t offset) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(data) +
                              static_cast<uintptr_t>(offset) * sizeof(T));
}

// The part of `bounds` that [data, data + count) covers.
template <typename T>
inline emulator::Bounds Narrow(const emulator::Bounds& bounds, T* data, int64_t count) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const auto lowest = reinterpret_cast<uintptr_t>(bounds.begin);
  const uintptr_t from = begin > lowest ? begin : lowest;
  uintptr_t to = begin + static_cast<uintptr_t>(count) * sizeof(T);
  if (to > lowest + bounds.bytes) to = lowest + bounds.bytes;
  if (count < 0 || to < from) to = from;
  return {reinterpret_cast<const char*>(from), to - from};
}

template <typename T, bool kIsShared>
class View {
 public:
  using Element = T;
  static constexpr bool kShared = kIsShared;

  View() = default;
  View(T* data, const emulator::Bounds& bounds) : data_(data), bounds_(bounds) {}
  explicit operator bool() const { return data_ != nullptr; }
  T* data() const { return data_; }
  const char* address() const { return reinterpret_cast<const char*>(data_); }
  const emulator::Bounds& bounds() const { return bounds_; }

 protected:
  T* data_ = nullptr;
  emulator::Bounds bounds_;
};

template <typename T>
class Global : public View<T, false> {
 public:
  using View<T, false>::View;
  Global(T* data, int64_t count)
      : View<T, false>(
            data, {reinterpret_cast<const char*>(data), static_cast<size_t>(count) * sizeof(T)}) {
    if (!emulator::arena.Contains(data, this->bounds_.bytes)) this->bounds_.bytes = 0;
  }
  template <typename U, typename = std::enable_if_t<std::is_same_v<const U, T>>>
  Global(const Global<U>& other) : View<T, false>(other.data(), other.bounds()) {}
  Global operator+(int64_t offset) const { return {Move(this->data_, offset), this->bounds_}; }
  Global Slice(int64_t first, int64_t count) const {
    T* const data = Move(this->data_, first);
    return {data, Narrow(this->bounds_, data, count)};
  }
};

template <typename T>
class Shared : public View<T, true> {
 public:
  using View<T, true>::View;
  template <typename U, typename = std::enable_if_t<std::is_same_v<const U, T>>>
  Shared(const Shared<U>& other) : View<T, true>(other.data(), other.bounds()) {}
  Shared operator+(int offset) const { return {Move(this->data_, offset), this->bounds_}; }
  Shared Slice(int first, int count) const {
    T* const data = Move(this->data_, first);
    return {data, Narrow(this->bounds_, data, count)};
  }
};

template <typename U, typename T>
inline Global<U> Cast(Global<T> view) {
  return {reinterpret_cast<U*>(view.data()), view.bounds()};
}
template <typename U, typename T>
inline Shared<U> Cast(Shared<T> view) {
  return {reinterpret_cast<U*>(view.data()), view.bounds()};
}

inline emulator::Bounds SharedMemory() {
  return {emulator::context.shared_base, emulator::context.shared_bytes};
}

template <typename Layout, typename Member>
inline auto SharedMember(Member Layout::*member) {
  using Element = std::remove_all_extents_t<Member>;
  auto* const data = reinterpret_cast<Element*>(
      &(reinterpret_cast<Layout*>(emulator::context.shared_base)->*member));
  return Shared<Element>(
      data, Narrow(SharedMemory(), data, static_cast<int64_t>(sizeof(Member) / sizeof(Element))));
}
template <auto kMember>
inline auto SharedArray() {
  return SharedMember(kMember);
}
template <typename Layout, typename T>
inline Shared<T> SharedTail(int count) {
  auto* const data = reinterpret_cast<T*>(emulator::context.shared_base +
                                          RoundUp(static_cast<int>(sizeof(Layout)), 16));
  return Shared<T>(data, Narrow(SharedMemory(), data, count));
}

// ---- Threads, blocks, barriers ----

inline int ThreadIndex() { return emulator::context.thread_index; }
inline int NumThreads() { return emulator::context.num_threads; }
inline int LaneIndex() { return static_cast<int>(emulator::context.lane); }
inline int WarpIndex() { return emulator::context.warp_index; }
inline int NumWarps() { return emulator::context.num_threads / 32; }
inline int BlockIndex() { return emulator::context.block[0]; }
inline int BlockIndexY() { return emulator::context.block[1]; }
inline int BlockIndexZ() { return emulator::context.block[2]; }
inline int NumBlocks() { return emulator::context.grid[0]; }
inline int NumBlocksY() { return emulator::context.grid[1]; }
inline int NumBlocksZ() { return emulator::context.grid[2]; }
inline void SyncThreads(Site site = SIMT_HERE) { emulator::BlockBarrier(site); }
inline void WaitForEarlierKernels() { emulator::WaitForEarlierKernels(); }
inline void SyncWarp(Site site = SIMT_HERE) {
  emulator::Collective(emulator::kSyncWarp, 0, nullptr, site);
}

// ---- Loads, stores, atomics ----

template <Cache kCache = Cache::kDefault, typename V>
inline std::remove_const_t<typename V::Element> Load(const V& view, Site site = SIMT_HERE) {
  static_assert(!V::kShared || kCache == Cache::kDefault);
  std::remove_const_t<typename V::Element> value;
  if constexpr (kCache == Cache::kReadOnly) {
    emulator::CheckReadOnly({view.address(), view.bounds(), sizeof(value), false, site});
  }
  emulator::OnLoad<sizeof(value), V::kShared>(view.address(), view.bounds(), site);
  std::memcpy(&value, view.data(), sizeof(value));
  return value;
}

template <Cache kCache = Cache::kDefault, typename V>
inline void Store(const V& view, typename V::Element value, Site site = SIMT_HERE) {
  static_assert(kCache == Cache::kDefault || (!V::kShared && kCache == Cache::kStreaming));
  emulator::OnStore<sizeof(value), V::kShared>(view.address(), view.bounds(), site);
  std::memcpy(view.data(), &value, sizeof(value));
}

template <int kCount, Cache kCache = Cache::kDefault, typename V>
inline auto LoadVector(const V& view, Site site = SIMT_HERE) {
  static_assert(!V::kShared || kCache == Cache::kDefault);
  Vector<std::remove_const_t<typename V::Element>, kCount> vector;
  if constexpr (kCache == Cache::kReadOnly) {
    emulator::CheckReadOnly({view.address(), view.bounds(), sizeof(vector), false, site});
  }
  emulator::OnLoad<sizeof(vector), V::kShared>(view.address(), view.bounds(), site);
  std::memcpy(&vector, view.data(), sizeof(vector));
  return vector;
}

template <Cache kCache = Cache::kDefault, typename V, int kCount>
inline void StoreVector(const V& view, const Vector<typename V::Element, kCount>& vector,
                        Site site = SIMT_HERE) {
  static_assert(kCache == Cache::kDefault || (!V::kShared && kCache == Cache::kStreaming));
  emulator::OnStore<sizeof(vector), V::kShared>(view.address(), view.bounds(), site);
  std::memcpy(view.data(), &vector, sizeof(vector));
}

template <typename V, typename Change>
inline typename V::Element Atomic(const V& view, Change change, const Site& site) {
  using T = typename V::Element;
  static_assert(sizeof(T) == 4);
  emulator::OnAtomic({view.address(), view.bounds(), sizeof(T), V::kShared, site});
  T old, changed;
  std::memcpy(&old, view.data(), sizeof(T));
  changed = change(old);
  std::memcpy(view.data(), &changed, sizeof(T));
  return old;
}
template <typename V>
inline typename V::Element AtomicAdd(const V& view, typename V::Element value,
                                     Site site = SIMT_HERE) {
  using T = typename V::Element;
  return Atomic(
      view, [value](T old) { return static_cast<T>(old + value); }, site);
}
template <typename V>
inline typename V::Element AtomicMax(const V& view, typename V::Element value,
                                     Site site = SIMT_HERE) {
  using T = typename V::Element;
  return Atomic(
      view, [value](T old) { return old < value ? value : old; }, site);
}

// ---- Warp collectives ----

template <typename T>
inline T Exchange(const emulator::Operation& operation, T value, int immediate, int lane,
                  const Site& site) {
  emulator::WordArgument argument{BitCast<uint32_t>(value), 0, lane};
  emulator::Collective(operation, immediate, &argument, site);
  return BitCast<T>(argument.out);
}
template <typename T>
inline T ShuffleXor(T value, int mask, Site site = SIMT_HERE) {
  return Exchange(emulator::kShuffleXor, value, mask, 0, site);
}
template <typename T>
inline T ShuffleDown(T value, int delta, Site site = SIMT_HERE) {
  return Exchange(emulator::kShuffleDown, value, delta, 0, site);
}
template <typename T>
inline T ShuffleUp(T value, int delta, Site site = SIMT_HERE) {
  return Exchange(emulator::kShuffleUp, value, delta, 0, site);
}
template <typename T>
inline T Shuffle(T value, int lane, Site site = SIMT_HERE) {
  return Exchange(emulator::kShuffle, value, 0, lane, site);
}
inline uint32_t WarpBallot(bool vote, Site site = SIMT_HERE) {
  return Exchange(emulator::kBallot, static_cast<uint32_t>(vote), 0, 0, site);
}
inline bool WarpAny(bool vote, Site site = SIMT_HERE) { return WarpBallot(vote, site) != 0; }
inline bool WarpAll(bool vote, Site site = SIMT_HERE) {
  return WarpBallot(vote, site) == 0xffffffffu;
}

// ---- Asynchronous copies ----

template <int kBytes, typename T>
inline void CopyAsync(const Shared<T>& to, const Global<const T>& from, int valid_bytes,
                      Site site = SIMT_HERE) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  emulator::StartCopy(to.address(), to.bounds().begin, to.bounds().bytes, from.address(),
                      from.bounds().begin, from.bounds().bytes, kBytes, valid_bytes, site);
}
template <int kBytes, typename T>
inline void CopyAsync(const Shared<T>& to, const Global<const T>& from, Site site = SIMT_HERE) {
  CopyAsync<kBytes>(to, from, kBytes, site);
}
inline void CopyAsyncCommit(Site = SIMT_HERE) { emulator::CommitCopies(); }
template <int kInFlight>
inline void CopyAsyncWait(Site = SIMT_HERE) {
  emulator::WaitForCopies(kInFlight);
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
inline void Mma(MmaC& c, const MmaA& a, const MmaB& b, Site site = SIMT_HERE) {
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>);
  emulator::MmaArgument argument{c.v, a.r, b.r};
  emulator::Collective(std::is_same_v<T, Half> ? emulator::kMmaHalf : emulator::kMmaBFloat16, 0,
                       &argument, site);
}

template <int kMatrices, typename T>
inline void LoadMatrix(uint32_t (&r)[kMatrices], const Shared<T>& row, Site site = SIMT_HERE) {
  static_assert(sizeof(T) == 2 && (kMatrices == 1 || kMatrices == 2 || kMatrices == 4));
  emulator::MatrixArgument argument{row.address(), row.bounds().begin, row.bounds().bytes, r};
  emulator::Collective(emulator::kLoadMatrix, kMatrices, &argument, site);
}
template <int kMatrices, typename T>
inline void LoadMatrixTransposed(uint32_t (&r)[kMatrices], const Shared<T>& row,
                                 Site site = SIMT_HERE) {
  static_assert(sizeof(T) == 2 && (kMatrices == 1 || kMatrices == 2 || kMatrices == 4));
  emulator::MatrixArgument argument{row.address(), row.bounds().begin, row.bounds().bytes, r};
  emulator::Collective(emulator::kLoadMatrixTransposed, kMatrices, &argument, site);
}

// ---- Arithmetic ----

// The one that is not a NaN, as on the device.
inline float Min(float a, float b) { return a < b || b != b ? a : b; }
inline float Max(float a, float b) { return a > b || b != b ? a : b; }
inline int Min(int a, int b) { return a < b ? a : b; }
inline int Max(int a, int b) { return a > b ? a : b; }
inline float Abs(float x) { return std::fabs(x); }
// The product is exact in double; the sum is rounded twice, which differs from one rounding in one
// case of 2^29. std::fma without the instruction is 20 times slower.
inline float Fma(float a, float b, float c) {
  return static_cast<float>(static_cast<double>(a) * b + c);
}
inline int FloatAsInt(float x) { return std::bit_cast<int>(x); }
inline float IntAsFloat(int x) { return std::bit_cast<float>(x); }

inline void CountSpecial() { ++emulator::context.counters.special; }
inline float Sqrt(float x) { return CountSpecial(), std::sqrt(x); }
inline float Divide(float a, float b) { return CountSpecial(), a / b; }
inline float Erf(float x) { return CountSpecial(), std::erf(x); }
inline float TanhExact(float x) { return CountSpecial(), std::tanh(x); }
inline float Exp(float x) { return CountSpecial(), std::exp(x); }
inline float Log(float x) { return CountSpecial(), std::log(x); }
inline float Log1p(float x) { return CountSpecial(), std::log1p(x); }
inline float Exp2(float x) { return CountSpecial(), std::exp2(x); }
inline float Log2(float x) { return CountSpecial(), std::log2(x); }
inline float Rsqrt(float x) { return CountSpecial(), 1.0f / std::sqrt(x); }
inline float Reciprocal(float x) { return CountSpecial(), 1.0f / x; }
// No more precise than the device: 11 bits.
inline float Tanh(float x) {
  CountSpecial();
  const uint32_t bits = std::bit_cast<uint32_t>(std::tanh(x));
  return std::bit_cast<float>((bits + 0x1000u) & ~0x1fffu);
}

// ---- Conversions ----

inline float ToFloat(float value) { return value; }
inline float ToFloat(Half value) { return emulator::HalfToFloat(value.bits); }
inline float ToFloat(BFloat16 value) { return emulator::BFloat16ToFloat(value.bits); }
inline float ToFloat(Float8 value) { return emulator::Float8ToFloat(value.bits); }

template <typename T>
inline T FromFloat(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else if constexpr (std::is_same_v<T, Half>) {
    return Half{emulator::FloatToHalf(value)};
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16{emulator::FloatToBFloat16(value)};
  } else {
    static_assert(std::is_same_v<T, Float8>);
    return Float8{emulator::FloatToFloat8(value)};
  }
}

template <typename T>
inline uint32_t Pack(float low, float high) {
  return FromFloat<T>(low).bits | static_cast<uint32_t>(FromFloat<T>(high).bits) << 16;
}
template <typename T>
inline void Unpack(uint32_t packed, float& low, float& high) {
  low = ToFloat(T{static_cast<uint16_t>(packed)});
  high = ToFloat(T{static_cast<uint16_t>(packed >> 16)});
}
// Two e4m3 values, `low` in the lower byte.
inline uint16_t PackFloat8(float low, float high) {
  return static_cast<uint16_t>(emulator::FloatToFloat8(low) | emulator::FloatToFloat8(high) << 8);
}

}  // namespace bertrand::simt::inline SIMT_TARGET
