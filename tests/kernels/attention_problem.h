#pragma once

// What tests of attention's kernels share: batches, the exact result, and a naive one in the same
// precision, for ExpectAtMostTwice (emulated_fixture.h).

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

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

}  // namespace bertrand
