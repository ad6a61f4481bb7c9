#include "kernels/cpu/score_kernels.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/score_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h: compiled once per target.
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {
namespace {

// visit(d, j) for whole vectors, then for single elements.
template <class Visit>
HWY_INLINE void ForEach(size_t width, const Visit& visit) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + lanes <= width; j += lanes) visit(d, j);
  for (; j < width; ++j) visit(one, j);
}

void Softmax(float* row, size_t width) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  // The sums of whole vectors and of the rest, apart.
  auto maxima = hn::Set(d, row[0]);
  float max = row[0];
  size_t j = 0;
  for (; j + lanes <= width; j += lanes) maxima = hn::Max(maxima, hn::LoadU(d, row + j));
  for (; j < width; ++j) max = std::max(max, row[j]);
  max = std::max(max, hn::GetLane(hn::MaxOfLanes(d, maxima)));

  auto sums = hn::Zero(d);
  float sum = 0;
  const hn::CappedTag<float, 1> one;
  for (j = 0; j + lanes <= width; j += lanes) {
    const auto e = Exp(d, hn::Sub(hn::LoadU(d, row + j), hn::Set(d, max)));
    hn::StoreU(e, d, row + j);
    sums = hn::Add(sums, e);
  }
  for (; j < width; ++j) {
    const auto e = Exp(one, hn::Sub(hn::LoadU(one, row + j), hn::Set(one, max)));
    hn::StoreU(e, one, row + j);
    sum += row[j];
  }
  sum += hn::GetLane(hn::SumOfLanes(d, sums));
  ForEach(width, [&](auto d1, size_t i) HWY_ATTR {
    hn::StoreU(hn::Div(hn::LoadU(d1, row + i), hn::Set(d1, sum)), d1, row + i);
  });
}

float Log1pRelu(float x, bool twice) {
  const float once = std::log1p(x > 0 ? x : x * 0);  // NaN stays NaN
  return twice ? std::log1p(once) : once;
}

void SparsePool(const float* x, size_t rows, size_t width, size_t columns, bool sum, bool log_twice,
                float* y) {
  if (sum) {
    for (size_t r = 0; r < rows; ++r) {
      for (size_t j = 0; j < columns; ++j) y[j] += Log1pRelu(x[r * width + j], log_twice);
    }
    return;
  }
  // log1p grows with its argument, so it is taken of the largest alone.
  float largest[512];
  for (size_t begin = 0; begin < columns; begin += 512) {
    const size_t count = std::min<size_t>(512, columns - begin);
    ForEach(count, [&](auto d, size_t j) HWY_ATTR {
      const float* value = x + begin + j;
      auto max = hn::LoadU(d, value);
      for (size_t r = 1; r < rows; ++r) {
        value += width;
        max = hn::Max(max, hn::LoadU(d, value));
      }
      hn::StoreU(max, d, largest + j);
    });
    for (size_t j = 0; j < count; ++j) {
      const float value = Log1pRelu(largest[j], log_twice);
      float& to = y[begin + j];
      to = value > to || value != value ? value : to;
    }
  }
}

const ScoreKernels& Table() {
  static const ScoreKernels kTable = {hwy::TargetName(HWY_TARGET), &Softmax, &SparsePool};
  return kTable;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bertrand {

HWY_EXPORT(Table);

const ScoreKernels& ChooseScoreKernels() { return HWY_DYNAMIC_DISPATCH(Table)(); }

// A heap whose top is the worst of the best so far: most candidates are dropped by one comparison.
void SelectLargest(const float* row, const int32_t* columns, size_t candidates, size_t k,
                   float* values, int32_t* indices) {
  // While the heap stands, `indices` holds places among the candidates, for ties.
  const auto column = [columns](int32_t place) { return columns ? columns[place] : place; };
  const auto better = [&](int32_t a, int32_t b) {
    const float x = row[column(a)], y = row[column(b)];
    return x > y || (x == y && a < b);
  };
  for (size_t i = 0; i < k; ++i) indices[i] = static_cast<int32_t>(i);
  std::make_heap(indices, indices + k, better);
  for (size_t i = k; i < candidates; ++i) {
    const auto place = static_cast<int32_t>(i);
    if (!(row[column(place)] > row[column(indices[0])])) continue;
    std::pop_heap(indices, indices + k, better);
    indices[k - 1] = place;
    std::push_heap(indices, indices + k, better);
  }
  std::sort_heap(indices, indices + k, better);
  for (size_t i = 0; i < k; ++i) {
    indices[i] = column(indices[i]);
    values[i] = row[indices[i]];
  }
}

}  // namespace bertrand
#endif
