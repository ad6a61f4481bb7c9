// The matrix microkernel under linear layers and attention, for every Highway target. Included by
// files that are compiled once per target, hence the guard that toggles instead of #pragma once.
//
// The right-hand matrix is cut into panels of two vectors' width, each stored row by row without
// gaps: element (k, column) of panel p is at p * depth * width + k * width + column, the columns
// beyond the matrix are zeros. A block of up to kMaxRows rows times a panel is kept in registers
// over the whole depth: no partial sums are stored, the sum's order is that of k whatever the
// number of rows, so a row's result does not depend on the rows it is computed with.
//
// Two vectors a panel: with 32 registers 12 x 2 accumulators, with 16 registers 6 x 2, leave room
// for the panel's vectors and a broadcast, and need (2 + rows) loads for 2 * rows multiplications.

#if defined(BERTRAND_KERNELS_CPU_PANEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BERTRAND_KERNELS_CPU_PANEL_INL_H_
#undef BERTRAND_KERNELS_CPU_PANEL_INL_H_
#else
#define BERTRAND_KERNELS_CPU_PANEL_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;

inline constexpr size_t kLanes = HWY_LANES(float);
inline constexpr size_t kPanelWidth = 2 * kLanes;
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
inline constexpr size_t kMaxRows = 12;
#else
inline constexpr size_t kMaxRows = 6;
#endif

// c[row, 0 : kPanelWidth] = a[row, 0 : depth] * panel for kRows rows; `a` rows are a_stride apart,
// `c` rows c_stride. Meanwhile fetches one cache line of each row of the panel at `ahead` into the
// second-level cache; it need not exist.
template <size_t kRows>
HWY_NOINLINE void MultiplyRows(const float* HWY_RESTRICT a, size_t a_stride,
                               const float* HWY_RESTRICT panel, size_t depth, float* HWY_RESTRICT c,
                               size_t c_stride, const float* ahead) {
  const FloatTag d;
  hn::Vec<FloatTag> left[kRows], right[kRows];
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) left[r] = right[r] = hn::Zero(d);
  for (size_t k = 0; k < depth; ++k) {
    const auto b0 = hn::Load(d, panel);
    const auto b1 = hn::Load(d, panel + kLanes);
    panel += kPanelWidth;
    __builtin_prefetch(ahead, 0, 2);
    ahead += kPanelWidth;
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      const auto x = hn::Set(d, a[r * a_stride + k]);
      left[r] = hn::MulAdd(x, b0, left[r]);
      right[r] = hn::MulAdd(x, b1, right[r]);
    }
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
    hn::StoreU(left[r], d, c + r * c_stride);
    hn::StoreU(right[r], d, c + r * c_stride + kLanes);
  }
}

using MultiplyRowsFn = void (*)(const float*, size_t, const float*, size_t, float*, size_t,
                                const float*);

template <size_t... kIndex>
constexpr std::array<MultiplyRowsFn, kMaxRows> MakeMultiplyTable(std::index_sequence<kIndex...>) {
  return {&MultiplyRows<kIndex + 1>...};
}

// [rows - 1]
inline constexpr std::array<MultiplyRowsFn, kMaxRows> kMultiplyRows =
    MakeMultiplyTable(std::make_index_sequence<kMaxRows>());

// Rows in the block that starts at `row` of `rows`, at most rows_max: blocks as equal as they can
// be, since 13 rows as 7 + 6 keep the multipliers busier than 12 + 1.
HWY_INLINE size_t BlockRows(size_t row, size_t rows, size_t rows_max = kMaxRows) {
  const size_t left = rows - row;
  const size_t blocks = (left + rows_max - 1) / rows_max;
  return (left + blocks - 1) / blocks;
}

}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
