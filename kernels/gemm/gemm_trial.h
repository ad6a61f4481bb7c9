#pragma once

// Operands of one GEMM to time candidates with, and the result that they should give. For
// Gemm::Tune.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <vector>

#include "kernels/gemm/gemm_table.h"
#include "kernels/gemm/small_gemm.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// `count` values of either sign with magnitudes in [2^exponent, 2^(exponent + 1)), by their bits.
std::vector<char> RandomBits(DType dtype, size_t count, int exponent, uint64_t seed);

// What is on the device now, of a 16-bit type or float32. Synchronises.
absl::StatusOr<std::vector<float>> DownloadFloats(const TensorView& view, simt::Stream& stream);

class GemmTrial {
 public:
  // Random operands of key's shape (zeros would be faster than real ones: fewer bits toggle), and
  // FloatGemm's result on them.
  static absl::StatusOr<GemmTrial> Create(const GemmKey& key, size_t workspace_bytes,
                                          simt::Stream& stream);

  const GemmParams& params() const { return params_; }
  void* workspace() const { return workspace_.data(); }

  // Whether y, which is overwritten with NaN afterwards, is FloatGemm's but for a few roundings.
  absl::StatusOr<bool> IsRight(simt::Stream& stream);

 private:
  simt::Memory memory_[6];  // x, weight, bias, residual, y; the scale
  simt::Memory workspace_;
  GemmParams params_;
  std::vector<float> expected_;
  double tolerance_ = 0;
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
