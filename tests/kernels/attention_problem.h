#pragma once

// What tests of attention's kernels share: batches, the exact result, a naive one in the same
// precision, for ExpectAtMostTwice (emulated_fixture.h), and the comparisons.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_reference.h"
#include "tests/kernels/emulated_fixture.h"

namespace bertrand {

inline std::vector<int> CuSeqlens(const std::vector<int>& lengths) {
  std::vector<int> cu_seqlens = {0};
  for (const int length : lengths) cu_seqlens.push_back(cu_seqlens.back() + length);
  return cu_seqlens;
}

struct Sizes {
  int64_t tokens, heads, head_size;
};

// Values of any shape as the references' operand.
inline TensorView HostView(std::vector<float>& values, std::initializer_list<int64_t> shape) {
  return {values.data(), DType::kFloat32, shape};
}

inline std::vector<double> Exact(std::vector<float> qkv, const std::vector<int>& cu_seqlens,
                                 const Sizes& sizes, float scale) {
  const auto [tokens, heads, head_size] = sizes;
  std::vector<float> out(static_cast<size_t>(tokens * heads * head_size));
  AttentionReference({HostView(qkv, {tokens, 3, heads, head_size}),
                      {},
                      cu_seqlens,
                      scale,
                      HostView(out, {tokens, heads, head_size})});
  return {out.begin(), out.end()};
}

// Attention as transformers' eager one: products summed up in float64 and rounded to T, and so are
// the scaled scores and the probabilities.
template <typename T>
std::vector<float> Naive(const std::vector<float>& qkv, const std::vector<int>& cu_seqlens,
                         const Sizes& sizes, float scale) {
  const auto [tokens, heads, head_size] = sizes;
  const int64_t width = heads * head_size;
  std::vector<float> out(static_cast<size_t>(tokens * width));
  const auto row = [&](int64_t token, int64_t part, int64_t head) {
    return qkv.data() + (3 * token + part) * width + head * head_size;
  };
  for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    const int64_t begin = cu_seqlens[s], end = cu_seqlens[s + 1];
    std::vector<float> weights(static_cast<size_t>(end - begin));
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = begin; j < end; ++j) {
          const double score =
              std::inner_product(row(i, 0, h), row(i, 0, h) + head_size, row(j, 1, h), 0.0);
          weights[static_cast<size_t>(j - begin)] =
              Rounded<T>(double{Rounded<T>(score)} * double{Rounded<T>(scale)});
        }
        const float max = *std::max_element(weights.begin(), weights.end());
        double sum = 0;
        for (const float weight : weights) sum += std::exp(double{weight} - max);
        for (float& weight : weights) weight = Rounded<T>(std::exp(double{weight} - max) / sum);
        for (int64_t c = 0; c < head_size; ++c) {
          double value = 0;
          for (int64_t j = begin; j < end; ++j) {
            value += double{weights[static_cast<size_t>(j - begin)]} * row(j, 2, h)[c];
          }
          out[static_cast<size_t>(i * width + h * head_size + c)] = Rounded<T>(value);
        }
      }
    }
  }
  return out;
}

// A kernel of attention against both.
class AttentionProblemTest : public EmulatedTest {
 protected:
  // The kernel.
  virtual absl::Status Attend(const gpu::AttentionParams& params) = 0;

  template <typename T>
  std::vector<float> Run(const DeviceTensor<T>& qkv, const std::vector<int>& cu_seqlens,
                         const Sizes& sizes, float scale) {
    const DeviceTensor<int> lengths(stream(), {static_cast<int64_t>(cu_seqlens.size())},
                                    cu_seqlens);
    const DeviceTensor<T> out(stream(), {sizes.tokens, sizes.heads, sizes.head_size});
    const absl::Status status = Attend({qkv.view(), lengths.view(), scale, out.view()});
    EXPECT_TRUE(status.ok()) << Message(status);
    if (!status.ok()) return {};
    return out.Download();
  }

  // FP8 is the other output, rounded once more.
  template <typename T>
  void ExpectWritesFloat8(int64_t head_size) {
    SCOPED_TRACE(head_size);
    const std::vector<int> cu_seqlens = CuSeqlens({33, 1, 130});
    const Sizes sizes = {cu_seqlens.back(), 2, head_size};
    const int64_t tokens = sizes.tokens;
    const DeviceTensor<T> qkv(stream(), {tokens, 3, 2, head_size},
                              Random(static_cast<size_t>(tokens * 6 * head_size)));
    const std::vector<float> wide = Run(qkv, cu_seqlens, sizes, 0.3f);
    const DeviceTensor<int> lengths(stream(), {4}, cu_seqlens);
    const DeviceTensor<float> scale(stream(), {1}, std::vector<float>{0.001f});
    const DeviceTensor<simt::Float8> out(stream(), {tokens, 2, head_size});
    ASSERT_OK(Attend({.qkv = qkv.view(),
                      .cu_seqlens = lengths.view(),
                      .scale = 0.3f,
                      .out = out.view(),
                      .out_scale = scale.view()}));
    ExpectIsFloat8Of<T>(out.Download(), wide, 0.001f);
  }

  template <typename T>
  void ExpectMatchesReference(const std::vector<int>& lengths, int64_t heads, int64_t head_size,
                              float magnitude = 1) {
    SCOPED_TRACE(testing::Message() << lengths.size() << " sequences, first " << lengths[0] << ", "
                                    << heads << " heads of " << head_size << ", "
                                    << Name(kDTypeOf<T>) << " up to " << magnitude);
    const std::vector<int> cu_seqlens = CuSeqlens(lengths);
    const Sizes sizes = {cu_seqlens.back(), heads, head_size};
    const size_t count = static_cast<size_t>(3 * sizes.tokens * heads * head_size);
    const DeviceTensor<T> qkv(stream(), {sizes.tokens, 3, heads, head_size},
                              Random(count, -magnitude, magnitude));
    const float scale = 1 / std::sqrt(static_cast<float>(head_size));
    const std::vector<double> exact = Exact(qkv.values(), cu_seqlens, sizes, scale);
    const std::vector<float> actual = Run(qkv, cu_seqlens, sizes, scale);
    ASSERT_EQ(actual.size(), exact.size());
    // Float: a score sums head_size products of at most magnitude^2, each rounding relative to the
    // sum so far, then scaled; its error is the relative one of a weight, and of weighted values.
    // Random signs keep sums and their errors at the square root of the terms' number: bounds of
    // magnitude^2 roundings a score, and 16 for maxima, exponentials, sums.
    const double roundings = 16 + 4 * magnitude * magnitude;
    if constexpr (std::is_same_v<T, float>) {
      EXPECT_LE(MaxError(actual, exact), roundings * magnitude * 0x1p-24);
    } else {
      ExpectAtMostTwice(actual, Naive<T>(qkv.values(), cu_seqlens, sizes, scale), exact,
                        roundings * magnitude * 0x1p-24);
    }
  }
};

}  // namespace bertrand
