#pragma once

// How row-wise kernels read and write a few neighbouring values of a row as floats: in one access
// of up to 16 bytes where a row's width allows it (kVector > 1), else one by one.

#include "kernels/simt/simt.h"

namespace bertrand::gpu::inline SIMT_TARGET {

using simt::Abs;
using simt::AtomicAdd;
using simt::AtomicMax;
using simt::BlockIndex;
using simt::BlockMax;
using simt::BlockSum;
using simt::Cache;
using simt::Cast;
using simt::Divide;
using simt::DivideUp;
using simt::Exp;
using simt::FloatAsInt;
using simt::Fma;
using simt::FromFloat;
using simt::Global;
using simt::IntAsFloat;
using simt::LaneIndex;
using simt::Load;
using simt::LoadVector;
using simt::Log1p;
using simt::Max;
using simt::Min;
using simt::Rsqrt;
using simt::Shared;
using simt::SharedArray;
using simt::Shuffle;
using simt::ShuffleXor;
using simt::Site;
using simt::Sqrt;
using simt::Store;
using simt::StoreVector;
using simt::SyncThreads;
using simt::ThreadIndex;
using simt::ToFloat;
using simt::Vector;
using simt::WarpAny;
using simt::WarpIndex;
using simt::WarpMax;
using simt::WarpSum;

// The values in a 16-byte and in a 4-byte access.
template <typename T>
inline constexpr int kWidestVector = 16 / static_cast<int>(sizeof(T));
template <typename T>
inline constexpr int kWordVector = 4 / static_cast<int>(sizeof(T));

// Requires: p aligned to kVector values.
template <int kVector, Cache kCache = Cache::kDefault, typename View>
SIMT_FN Vector<float, kVector> LoadFloats(View p, Site site = SIMT_HERE) {
  if constexpr (kVector == 1) {
    return {{ToFloat(Load<kCache>(p, site))}};
  } else {
    return ToFloat(LoadVector<kVector, kCache>(p, site));
  }
}

template <int kVector, typename View>
SIMT_FN void StoreFloats(View p, const Vector<float, kVector>& floats, Site site = SIMT_HERE) {
  using T = typename View::Element;
  if constexpr (kVector == 1) {
    Store(p, FromFloat<T>(floats[0]), site);
  } else {
    StoreVector(p, FromFloat<T>(floats), site);
  }
}

template <int kVector>
SIMT_FN void AddTo(Vector<float, kVector>& sum, const Vector<float, kVector>& addend) {
  SIMT_UNROLL
  for (int i = 0; i < kVector; ++i) sum[i] += addend[i];
}

template <int kVector>
SIMT_FN float SumOf(const Vector<float, kVector>& vector) {
  float sum = 0;
  SIMT_UNROLL
  for (int i = 0; i < kVector; ++i) sum += vector[i];
  return sum;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
