#pragma once

// y = gelu(x W^T + bias), erf, in one kernel of another library: what cuBLASLt lacks an epilogue
// for. On CUDA cuDNN's graph (cudnn_gemm.cu, over cudnn_plans.h), loaded when it is asked for: it
// may be absent. In the emulator plain loops (host_gemm.cc) that compute what the graph promises:
// sums, bias and GELU in float, rounded once.
//
// It is no fallback for anything: Gemm runs it only where Tune has timed it and found it right.
//
// Thread-safe; asynchronous on the stream.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/gemm/gemm_table.h"
#include "kernels/gemm/small_gemm.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

class GraphGemm {
 public:
  // A bias and erf GELU, no residual; float16 or bfloat16; n and k multiples of 8 (rows of 16
  // bytes).
  static bool Supports(const GemmParams& params) {
    return params.activation == Activation::kGeluErf && params.bias && !params.residual &&
           !params.float8() && params.y.dtype() == params.x.dtype() &&
           SizeOf(params.x.dtype()) == 2 && params.n() % 8 == 0 && params.k() % 8 == 0;
  }

  // `workspace_bytes`: of Run's workspace. FailedPrecondition says why there is none: the library
  // is not found, or is too old.
  static absl::StatusOr<std::unique_ptr<GraphGemm>> Create(const simt::Device& device,
                                                           size_t workspace_bytes);
  ~GraphGemm();

  // "cuDNN 92000", for the table's origin.
  std::string name() const;

  // Algorithms for `params` (its addresses are not read), best guess first, at most `most`.
  // Requires: Supports(params).
  absl::StatusOr<std::vector<LibraryAlgorithm>> Candidates(const GemmParams& params,
                                                           int most) const;
  // Gets everything ready that takes long (it may compile a kernel, about a second), so that Run
  // with as many rows, or others, need not. An error when `algorithm`, perhaps from a file, is none
  // for `params`.
  absl::Status Prepare(const GemmParams& params, const LibraryAlgorithm& algorithm) const;

  // Requires: Supports(params); operands aligned to 16 bytes. Errors leave the stream as it was and
  // come again at once: something else has to compute this.
  absl::Status Run(const GemmParams& params, const LibraryAlgorithm& algorithm, void* workspace,
                   simt::Stream& stream) const;

 private:
  struct Impl;
  explicit GraphGemm(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
