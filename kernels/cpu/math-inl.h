// Vector exp, erf, tanh and the activations, for every Highway target. Included by files that are
// compiled once per target, hence the guard that toggles instead of #pragma once.
//
// The polynomials were fitted by weighted least squares made minimax (Lawson's iteration) in
// float64; the errors given are those of the rounded coefficients. activation_test compares each
// function with float64 over its whole range.

#if defined(BERTRAND_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BERTRAND_KERNELS_CPU_MATH_INL_H_
#undef BERTRAND_KERNELS_CPU_MATH_INL_H_
#else
#define BERTRAND_KERNELS_CPU_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/backend.h"

HWY_BEFORE_NAMESPACE();
namespace bertrand {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// e^x, relative error < 1.5e-7, for x <= 88; NaN stays NaN. Below -87.3 the result stays at the
// smallest normal number instead of falling to 0, which no sum of exponentials notices.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  // The order of the operands matters: with NaN, x86 returns the second.
  x = hn::Max(hn::Set(d, -87.33f), x);
  x = hn::Min(hn::Set(d, 88.37f), x);
  // n = round(x / ln 2): adding 1.5 * 2^23 leaves n in the low bits.
  const V magic = hn::Set(d, 12582912.0f);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), magic);
  const V n = hn::Sub(shifted, magic);
  // r = x - n ln 2, with ln 2 in two parts: n times the first is exact even without FMA.
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::MulAdd(n, hn::Set(d, 2.12194440e-4f), r);
  // (e^r - 1 - r) / r^2 on |r| <= 0.35: relative error of e^r 3.3e-9.
  V p = hn::Set(d, 0.0013813161f);
  p = hn::MulAdd(p, r, hn::Set(d, 0.00836941041f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.0416684560f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.166665152f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.499999940f));
  p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, hn::Set(d, 1.0f)));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
}

// 2^x, relative error < 2e-7, for x <= 127; NaN stays NaN. Below -126 the result stays at the
// smallest normal number. Seven instructions shorter than Exp: attention's softmax is in base 2,
// the change of base being part of the scale.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x) {
  const hn::RebindToSigned<D> di;
  x = hn::Max(hn::Set(d, -126.0f), x);
  const V magic = hn::Set(d, 12582912.0f);
  const V shifted = hn::Add(x, magic);
  const V r = hn::Sub(x, hn::Sub(shifted, magic));
  // 2^r on |r| <= 0.5 within 9.3e-8.
  V p = hn::Set(d, 0.00132644537f);
  p = hn::MulAdd(p, r, hn::Set(d, 0.00967172533f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.0555073619f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.240222394f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.693147004f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
}

// erf(x), absolute error < 1.2e-7: x P(x^2) / Q(x^2) on |x| <= 4, where the fit is within 2.2e-8;
// beyond, erf is 1 to within 1.6e-8.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Erf(D d, V x) {
  x = hn::Max(hn::Set(d, -4.0f), x);
  x = hn::Min(hn::Set(d, 4.0f), x);
  const V u = hn::Mul(x, x);
  V p = hn::Set(d, 1.97481512e-6f);
  V q = hn::Set(d, 3.74806877e-5f);
  p = hn::MulAdd(p, u, hn::Set(d, 2.88041105e-4f));
  q = hn::MulAdd(q, u, hn::Set(d, 1.21636386e-3f));
  p = hn::MulAdd(p, u, hn::Set(d, 4.00366867e-3f));
  q = hn::MulAdd(q, u, hn::Set(d, 1.54444696e-2f));
  p = hn::MulAdd(p, u, hn::Set(d, 5.34675494e-2f));
  q = hn::MulAdd(q, u, hn::Set(d, 0.116476685f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.196249634f));
  q = hn::MulAdd(q, u, hn::Set(d, 0.507252872f));
  p = hn::MulAdd(p, u, hn::Set(d, 1.12837899f));
  q = hn::MulAdd(q, u, hn::Set(d, 1.0f));
  return hn::Div(hn::Mul(x, p), q);
}

// 1 / (1 + e^-x), relative error < 4e-7 for x > -87.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, Exp(d, hn::Neg(x))));
}

// tanh(x), relative error < 4e-7: a polynomial on |x| <= 0.65, where 1 - 2 / (e^2x + 1) cancels.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const V u = hn::Mul(x, x);
  V p = hn::Set(d, -0.00552863395f);
  p = hn::MulAdd(p, u, hn::Set(d, 0.0204833169f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.0536929667f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.133308992f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.333332628f));
  const V near_zero = hn::MulAdd(hn::Mul(x, u), p, x);
  const V one = hn::Set(d, 1.0f);
  const V magnitude = hn::Abs(x);
  const V e = Exp(d, hn::Add(magnitude, magnitude));
  const V far = hn::CopySign(hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(e, one))), x);
  return hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0.625f)), near_zero, far);
}

template <Activation kActivation, class D, class V = hn::Vec<D>>
HWY_INLINE V Activate(D d, V x) {
  if constexpr (kActivation == Activation::kGeluErf) {
    const V half = hn::Mul(hn::Set(d, 0.5f), x);
    return hn::MulAdd(half, Erf(d, hn::Mul(x, hn::Set(d, 0.707106781f))), half);
  } else if constexpr (kActivation == Activation::kGeluTanh) {
    // (1 + tanh(y)) / 2 = sigmoid(2y): no cancellation.
    const V cubic = hn::MulAdd(hn::Mul(hn::Mul(x, x), hn::Set(d, 0.044715f)), x, x);
    return hn::Mul(x, Sigmoid(d, hn::Mul(cubic, hn::Set(d, 1.59576912f))));
  } else if constexpr (kActivation == Activation::kRelu) {
    return hn::Max(hn::Zero(d), x);
  } else if constexpr (kActivation == Activation::kSilu) {
    return hn::Mul(x, Sigmoid(d, x));
  } else if constexpr (kActivation == Activation::kTanh) {
    return Tanh(d, x);
  } else if constexpr (kActivation == Activation::kSigmoid) {
    return Sigmoid(d, x);
  } else {
    return x;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bertrand
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
