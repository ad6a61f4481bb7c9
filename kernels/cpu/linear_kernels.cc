#include "kernels/cpu/linear_kernels.h"

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h: these are compiled once per target.
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/panel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {
namespace {

void PackPanel(const float* weight, size_t out_features, size_t depth, size_t first_column,
               float* panel) {
  const size_t columns = std::min(kPanelWidth, out_features - first_column);
  const float* from = weight + first_column * depth;
  for (size_t k = 0; k < depth; ++k) {
    for (size_t j = 0; j < columns; ++j) panel[k * kPanelWidth + j] = from[j * depth + k];
    for (size_t j = columns; j < kPanelWidth; ++j) panel[k * kPanelWidth + j] = 0;
  }
}

// One row of a block: products + bias, activation, + residual, into y. Columns beyond the last one
// go no further than the block's own memory.
template <Activation kActivation>
HWY_INLINE void FinishRow(const float* HWY_RESTRICT products, const float* HWY_RESTRICT bias,
                          const float* residual, size_t columns, float* y) {
  const FloatTag d;
  if (HWY_LIKELY(columns >= kPanelWidth)) {
    auto left = Activate<kActivation>(d, hn::Add(hn::Load(d, products), hn::Load(d, bias)));
    auto right = Activate<kActivation>(
        d, hn::Add(hn::Load(d, products + kLanes), hn::Load(d, bias + kLanes)));
    if (residual != nullptr) {
      left = hn::Add(left, hn::LoadU(d, residual));
      right = hn::Add(right, hn::LoadU(d, residual + kLanes));
    }
    hn::StoreU(left, d, y);
    hn::StoreU(right, d, y + kLanes);
    return;
  }
  HWY_ALIGN float row[kPanelWidth];
  for (size_t j = 0; j < kPanelWidth; j += kLanes) {
    hn::Store(Activate<kActivation>(d, hn::Add(hn::Load(d, products + j), hn::Load(d, bias + j))),
              d, row + j);
  }
  for (size_t j = 0; j < columns; ++j) y[j] = residual == nullptr ? row[j] : row[j] + residual[j];
}

template <Activation kActivation>
HWY_INLINE void RunTileWith(const LinearTile& tile) {
  constexpr size_t kFloatsALine = 16;
  HWY_ALIGN float products[kMaxRows * kPanelWidth];
  // A pass over the panel fetches one line of each of its rows ahead; once all are on their way
  // (after one pass or two), passes look at the panel itself.
  size_t line = 0;
  // Rows a multiple of 4 KiB apart all fall into one set of the first-level cache, which has 8 ways
  // or more: with 12 of them, every broadcast missed. 7 and a line of the panel stay: 1024 x 1024
  // 92 -> 104 GFLOP/s, 3072 x 768 76 -> 95 (128 rows, AVX-512).
  const size_t rows_max = tile.depth % 1024 == 0 ? std::min<size_t>(7, kMaxRows) : kMaxRows;
  for (size_t row = 0; row < tile.rows;) {
    const size_t rows = BlockRows(row, tile.rows, rows_max);
    const float* ahead = line < kPanelWidth ? tile.ahead + line : tile.panel;
    line += kFloatsALine;
    kMultiplyRows[rows - 1](tile.x + row * tile.depth, tile.depth, tile.panel, tile.depth, products,
                            kPanelWidth, ahead);
    for (size_t r = 0; r < rows; ++r) {
      const size_t offset = (row + r) * tile.y_stride;
      FinishRow<kActivation>(products + r * kPanelWidth, tile.bias,
                             tile.residual == nullptr ? nullptr : tile.residual + offset,
                             tile.columns, tile.y + offset);
    }
    row += rows;
  }
}

void RunTile(const LinearTile& tile) {
  switch (tile.activation) {
    case Activation::kNone:
      return RunTileWith<Activation::kNone>(tile);
    case Activation::kGeluErf:
      return RunTileWith<Activation::kGeluErf>(tile);
    case Activation::kGeluTanh:
      return RunTileWith<Activation::kGeluTanh>(tile);
    case Activation::kRelu:
      return RunTileWith<Activation::kRelu>(tile);
    case Activation::kSilu:
      return RunTileWith<Activation::kSilu>(tile);
    case Activation::kTanh:
      return RunTileWith<Activation::kTanh>(tile);
    case Activation::kSigmoid:
      return RunTileWith<Activation::kSigmoid>(tile);
  }
}

const LinearKernels& Table() {
  static const LinearKernels kTable = {hwy::TargetName(HWY_TARGET), kPanelWidth, kMaxRows,
                                       &PackPanel, &RunTile};
  return kTable;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bertrand {

HWY_EXPORT(Table);

const LinearKernels& ChooseLinearKernels() { return HWY_DYNAMIC_DISPATCH(Table)(); }

}  // namespace bertrand
#endif
