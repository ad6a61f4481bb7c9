#pragma once

// cuDNN's graph y = gelu(x W^T + bias), with erf: matmul, add and GELU as one kernel, which cuDNN
// writes and compiles at run time. Sums and intermediates stay in float.
//
// A plan is a graph of fixed sizes with an engine and its settings. Compiling one takes about a
// second, but its kernel serves graphs of all sizes (cuDNN's dynamic shapes, version 9.5 and
// later), so a plan for another number of rows is there in microseconds. Plans are kept: those of
// Prepare and of captured work for good, the others as long as they are among the latest.
//
// Source: cuDNN's Graph API, "Dynamic Shapes and Kernel Cache", and cudnn_graph.h's comments.
//
// Thread-safe: one lock, held while a plan is made and while one is started (a handle has one
// stream at a time). Every error is FailedPrecondition or Unimplemented and says what cuDNN said;
// none means that the device is lost, of which the device's own errors tell. What has failed once
// is not tried again.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <compare>
#include <memory>
#include <string>
#include <vector>

#include "kernels/gemm/cudnn_api.h"
#include "kernels/gemm/gemm_table.h"

namespace bertrand::gpu {

// x [m, k], weight [n, k], bias [n], y [m, n], all of one type: float16 or bfloat16. n and k are
// multiples of 8.
struct CudnnShape {
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kFloat16;
  auto operator<=>(const CudnnShape&) const = default;
};

struct CudnnOperands {
  void *x = nullptr, *weight = nullptr, *bias = nullptr, *y = nullptr, *workspace = nullptr;
};

class CudnnPlans {
 public:
  // For the current device. `workspace_bytes`: what Run is given; engines that want more are left
  // out.
  static absl::StatusOr<std::unique_ptr<CudnnPlans>> Create(const cudnn::Functions& functions,
                                                            size_t workspace_bytes);
  // For a device that is described and need not be there (cuDNN's "deviceless ahead-of-time
  // compilation", 9.8 and later): plans are made, Run is an error. For tests.
  static absl::StatusOr<std::unique_ptr<CudnnPlans>> CreateFor(const cudnn::Functions& functions,
                                                               const std::string& device_json,
                                                               size_t workspace_bytes);
  ~CudnnPlans();

  // "cuDNN 92000".
  std::string name() const;

  // Engines and their settings for `shape`, cuDNN's best guess first, at most `most`: those that
  // keep inputs and sums as they are and give the same bits every time. Nothing is compiled.
  absl::StatusOr<std::vector<LibraryAlgorithm>> Candidates(const CudnnShape& shape, int most);

  // Makes and keeps the plan. Errors: the algorithm, perhaps from a file, is none here.
  absl::Status Prepare(const CudnnShape& shape, const LibraryAlgorithm& algorithm);

  // On `stream`, a cudaStream_t. `captured`: the stream records, so the plan is kept for good.
  absl::Status Run(const CudnnShape& shape, const LibraryAlgorithm& algorithm,
                   const CudnnOperands& operands, void* stream, bool captured);

  // Plans that are kept, for tests.
  int num_plans() const;

  // Plans that neither Prepare nor captured work asked for. A batch in flight uses one for each of
  // a model's shapes, so what is dropped belongs to a batch that is long over.
  static constexpr int kMostPassing = 64;

 private:
  struct Impl;
  explicit CudnnPlans(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bertrand::gpu
