#pragma once

// The GEMM that this project didn't write, as gemm.h sees it. On CUDA cuBLASLt (cublaslt_gemm.cu),
// loaded when it is asked for: it's half a gigabyte and may be absent. In the emulator plain loops
// on the CPU (host_gemm.cc), operands and results rounded to their type as the device would, so
// that whole forwards need not emulate every product.
//
// Thread-safe; asynchronous on the stream. The device outlives it.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/gemm/gemm_table.h"
#include "kernels/gemm/small_gemm.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// Whether the library computes all of `params` in one go, exactly: cuBLASLt adds a bias, adds a
// residual before the activation only, and knows ReLU and the tanh GELU, of which the approximation
// is not promised to be good to float32.
inline bool LibraryFuses(const GemmParams& params) {
  if (params.activation == Activation::kNone) return true;
  if (params.float8()) return false;  // the activation's kernel writes FP8
  if (params.residual) return false;
  return params.activation == Activation::kRelu ||
         (params.activation == Activation::kGeluTanh && SizeOf(params.x.dtype()) == 2);
}

// Whether the library has products of float8 on this device, of these sizes: tensor cores have e4m3
// from Ada on, and rows are multiples of 16 bytes.
inline bool LibraryTakesFloat8(const simt::DeviceInfo& device, int64_t n, int64_t k) {
  return 10 * device.major + device.minor >= 89 && n % 16 == 0 && k % 16 == 0;
}

class LibraryGemm {
 public:
  // FailedPrecondition says why there is none: the library is not found, or is of another version.
  static absl::StatusOr<std::unique_ptr<LibraryGemm>> Create(const simt::Device& device);
  ~LibraryGemm();

  // "cuBLASLt 130101", for the table's origin.
  std::string name() const;
  // What Run wants.
  size_t workspace_bytes() const;

  // Algorithms for `params` (its addresses are not read), best guess first, at most `most`.
  absl::StatusOr<std::vector<LibraryAlgorithm>> Candidates(const GemmParams& params,
                                                           int most) const;
  // Whether `algorithm`, perhaps from a file, can compute `params`.
  bool Takes(const GemmParams& params, const LibraryAlgorithm& algorithm) const;

  // Requires: LibraryFuses(params); operands aligned to 16 bytes; `workspace` of workspace_bytes().
  // An all-zero algorithm, or one that does not take these rows, is replaced by the library's
  // guess.
  absl::Status Run(const GemmParams& params, const LibraryAlgorithm& algorithm, void* workspace,
                   simt::Stream& stream) const;

  // Whether there is time to measure; not in the emulator.
  static bool Measures();
  // Microseconds of `run` as part of a graph with cold caches, the median of several. Synchronises.
  // Requires: Measures().
  static absl::StatusOr<double> MeasureUs(simt::Stream& stream,
                                          const std::function<absl::Status()>& run);

 private:
  struct Impl;
  explicit LibraryGemm(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
