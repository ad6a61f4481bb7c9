#include "kernels/cpu/row_kernels.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h: compiled once per target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// The sum of term(d, j) over j in [0, width), first in whole vectors, in four independent sums so
// that additions do not wait for one another, then one by one.
template <class Term>
HWY_INLINE float SumOver(size_t width, const Term& term) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const size_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  size_t j = 0;
  for (; j + 4 * lanes <= width; j += 4 * lanes) {
    sum0 = hn::Add(sum0, term(d, j));
    sum1 = hn::Add(sum1, term(d, j + lanes));
    sum2 = hn::Add(sum2, term(d, j + 2 * lanes));
    sum3 = hn::Add(sum3, term(d, j + 3 * lanes));
  }
  for (; j + lanes <= width; j += lanes) sum0 = hn::Add(sum0, term(d, j));
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  for (; j < width; ++j) sum += hn::GetLane(term(one, j));
  return sum;
}

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

// Three passes over a row that stays in the first-level cache: sum, variance, result. The first
// writes the sum of the operands to y.
template <class LoadRow>
HWY_INLINE void NormalizeSum(const LoadRow& load, const float* gamma, const float* beta, float eps,
                             size_t width, float* y) {
  const float count = static_cast<float>(width);
  const float mean = SumOver(width,
                             [&](auto d, size_t j) HWY_ATTR {
                               const auto value = load(d, j);
                               hn::StoreU(value, d, y + j);
                               return value;
                             }) /
                     count;
  const float variance = SumOver(width,
                                 [&](auto d, size_t j) HWY_ATTR {
                                   const auto centred =
                                       hn::Sub(hn::LoadU(d, y + j), hn::Set(d, mean));
                                   return hn::Mul(centred, centred);
                                 }) /
                         count;
  const float scale = 1 / std::sqrt(variance + eps);
  ForEach(width, [&](auto d, size_t j) HWY_ATTR {
    const auto centred = hn::Sub(hn::LoadU(d, y + j), hn::Set(d, mean));
    const auto normal = hn::Mul(centred, hn::Set(d, scale));
    hn::StoreU(hn::MulAdd(normal, hn::LoadU(d, gamma + j), hn::LoadU(d, beta + j)), d, y + j);
  });
}

template <class LoadRow>
HWY_INLINE void WriteSum(const LoadRow& load, const float* gamma, const float* beta, float eps,
                         size_t width, float* y) {
  if (gamma != nullptr) return NormalizeSum(load, gamma, beta, eps, width, y);
  ForEach(width, [&](auto d, size_t j) HWY_ATTR { hn::StoreU(load(d, j), d, y + j); });
}

void SumAndNormalize(const float* a, const float* b, const float* c, const float* gamma,
                     const float* beta, float eps, size_t width, float* y) {
  if (b == nullptr) std::swap(b, c);
  if (b == nullptr) {
    WriteSum([=](auto d, size_t j) HWY_ATTR { return hn::LoadU(d, a + j); }, gamma, beta, eps,
             width, y);
  } else if (c == nullptr) {
    WriteSum([=](auto d, size_t j)
                 HWY_ATTR { return hn::Add(hn::LoadU(d, a + j), hn::LoadU(d, b + j)); },
             gamma, beta, eps, width, y);
  } else {
    WriteSum(
        [=](auto d, size_t j) HWY_ATTR {
          return hn::Add(hn::Add(hn::LoadU(d, a + j), hn::LoadU(d, b + j)), hn::LoadU(d, c + j));
        },
        gamma, beta, eps, width, y);
  }
}

// The sum of factor(row) * x[row, j] over rows [begin, end), times `scale`.
template <class Factor>
HWY_INLINE void SumRows(const float* x, size_t width, int64_t begin, int64_t end, float scale,
                        size_t columns, float* out, const Factor& factor) {
  ForEach(columns, [&](auto d, size_t j) HWY_ATTR {
    // Two sums: pairs of rows do not wait for one another, and errors grow half as fast.
    auto even = hn::Zero(d), odd = hn::Zero(d);
    const float* value = x + static_cast<size_t>(begin) * width + j;
    int64_t row = begin;
    for (; row + 2 <= end; row += 2, value += 2 * width) {
      even = hn::MulAdd(hn::LoadU(d, value), hn::Set(d, factor(row)), even);
      odd = hn::MulAdd(hn::LoadU(d, value + width), hn::Set(d, factor(row + 1)), odd);
    }
    if (row < end) even = hn::MulAdd(hn::LoadU(d, value), hn::Set(d, factor(row)), even);
    hn::StoreU(hn::Mul(hn::Add(even, odd), hn::Set(d, scale)), d, out + j);
  });
}

void MaxRows(const float* x, size_t width, int64_t begin, int64_t end, size_t columns, float* out) {
  ForEach(columns, [&](auto d, size_t j) HWY_ATTR {
    const float* value = x + static_cast<size_t>(begin) * width + j;
    auto max = hn::LoadU(d, value);
    for (int64_t row = begin + 1; row < end; ++row) {
      value += width;
      max = hn::Max(max, hn::LoadU(d, value));
    }
    hn::StoreU(max, d, out + j);
  });
}

void Pool(const float* x, size_t width, int64_t begin, int64_t end, int64_t weight_begin,
          PoolingMode mode, size_t columns, float* out) {
  if (begin >= end) {
    std::fill_n(out, columns, 0.0f);
    return;
  }
  const double count = static_cast<double>(end - begin);
  const auto unweighted = [](int64_t) { return 1.0f; };
  switch (mode) {
    case PoolingMode::kCls:
      std::copy_n(x + static_cast<size_t>(begin) * width, columns, out);
      return;
    case PoolingMode::kLastToken:
      std::copy_n(x + static_cast<size_t>(end - 1) * width, columns, out);
      return;
    case PoolingMode::kMax:
      return MaxRows(x, width, begin, end, columns, out);
    case PoolingMode::kMean:
      return SumRows(x, width, begin, end, static_cast<float>(1 / count), columns, out, unweighted);
    case PoolingMode::kMeanSqrtLen:
      return SumRows(x, width, begin, end, static_cast<float>(1 / std::sqrt(count)), columns, out,
                     unweighted);
    case PoolingMode::kWeightedMean: {
      // The sum of the weights first, ..., last; sentence-transformers' clamp at 1e-9 cannot act.
      const double first = static_cast<double>(begin - weight_begin + 1);
      const double last = static_cast<double>(end - weight_begin);
      const float scale = static_cast<float>(2 / (count * (first + last)));
      return SumRows(x, width, begin, end, scale, columns, out,
                     [=](int64_t row) { return static_cast<float>(row - weight_begin + 1); });
    }
  }
}

void Normalize(float* row, size_t width) {
  const float sum_of_squares = SumOver(width, [=](auto d, size_t j) HWY_ATTR {
    const auto value = hn::LoadU(d, row + j);
    return hn::Mul(value, value);
  });
  const float norm = std::max(std::sqrt(sum_of_squares), 1e-12f);
  ForEach(width, [=](auto d, size_t j) HWY_ATTR {
    hn::StoreU(hn::Div(hn::LoadU(d, row + j), hn::Set(d, norm)), d, row + j);
  });
}

const RowKernels& Table() {
  static const RowKernels kTable = {hwy::TargetName(HWY_TARGET), &SumAndNormalize, &Pool,
                                    &Normalize};
  return kTable;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bertrand {

HWY_EXPORT(Table);

const RowKernels& ChooseRowKernels() { return HWY_DYNAMIC_DISPATCH(Table)(); }

}  // namespace bertrand
#endif
