#pragma once

// y = activation(x W^T + bias) + residual by whatever is fastest here: our own kernels
// (small_gemm.h, hopper_gemm.h), the library (library_gemm.h: cuBLASLt, in the emulator plain
// loops) or, for a bias and erf GELU, another library's graph (graph_gemm.h: cuDNN), chosen for
// each shape.
//
// Shapes, types, aliasing and numerics as small_gemm.h; any m, n, k. Where the library cannot do
// the whole (erf GELU, SiLU, tanh, sigmoid; an activation and a residual), it leaves the sums in y,
// rounded, and bias_activation.h follows: one rounding more, the one that transformers makes as
// well. A library that cannot take part (an activation, and y is the residual's memory; operands
// that are not aligned to 16 bytes) is passed over.
//
// Choosing: Tune, at load, times the candidates of one shape as they will run, in a graph, with
// cold caches, and keeps the fastest that agrees with FloatGemm. Choices are read from and kept in
// a file (gemm_table.h). A shape that was never tuned runs with a choice made without timing.
//
// Ownership: a Gemm refers to its Device, which outlives it. Run is thread-safe (a stream is one
// thread's); Tune and Save are for one thread at a time, also beside Run.

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/gemm/gemm_table.h"
#include "kernels/gemm/gemm_trial.h"
#include "kernels/gemm/graph_gemm.h"
#include "kernels/gemm/library_gemm.h"
#include "kernels/gemm/small_gemm.h"
#include "kernels/mutex.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

// Above it the library is not challenged.
inline constexpr int kMaxSmallGemmRows = 256;

struct GemmOptions {
  enum class OwnKernels {
    kWhereFast,  // up to kMaxSmallGemmRows, or where the library is absent or unable
    kAlways,     // the libraries aren't even loaded
    kRarely,     // only where the library is absent or unable: what the emulator is fast with
  };
  OwnKernels own_kernels = OwnKernels::kWhereFast;
  // Where choices are kept, a file for each device and library; empty: nowhere.
  std::string cache_folder;
  // Microseconds of one run of a choice, which `run` starts. Tests give their own.
  std::function<absl::StatusOr<double>(const GemmChoice&, const std::function<absl::Status()>& run)>
      measure_us;
};

class Gemm {
 public:
  // Libraries that cannot be loaded are no error: library_status() and graph_status() say why.
  static absl::StatusOr<std::unique_ptr<Gemm>> Create(const simt::Device& device,
                                                      GemmOptions options);

  const absl::Status& library_status() const { return library_status_; }
  const absl::Status& graph_status() const { return graph_status_; }
  // For the log: a line for each of the two that is absent though it was wanted.
  std::vector<std::string> Absent() const;
  // Bytes that Run wants, for each slot in flight.
  size_t workspace_bytes() const { return workspace_bytes_; }

  // `workspace`: workspace_bytes(), aligned to 256. Errors: InvalidArgument before any launch.
  absl::Status Run(const GemmParams& params, void* workspace, simt::Stream& stream) const;

  // Where Run would cut k into splits and then add them up: does the first half, and returns the
  // sums (SmallGemmSplits), which lie in the workspace, for what follows to add up. Elsewhere, and
  // where there is an activation, does nothing and returns an absent view.
  absl::StatusOr<TensorView> RunSplits(const GemmParams& params, void* workspace,
                                       simt::Stream& stream) const;

  // Fixes the choice for m's bucket, n, k, types and epilogue, from the file or by timing.
  // Allocates operands for it and synchronises. Does nothing in the emulator, where there is no
  // time.
  absl::Status Tune(const GemmKey& key, simt::Stream& stream);
  // From now on Tune neither tries hopper_gemm nor takes it from the file.
  void LeaveOutHopper() { has_hopper_ = false; }
  // What Tune has settled for a key.
  std::optional<GemmChoice> Tuned(const GemmKey& key) const;
  // Whether Tune would find the key in the file.
  bool Remembers(const GemmKey& key) const;
  // Writes what Tune has found since. Unavailable when the file cannot be written.
  absl::Status Save();

  // What Run would do, for logs; also whether it was tuned.
  GemmChoice Choice(const GemmParams& params) const;
  static GemmKey Key(const GemmParams& params);
  // Every way to compute `params`, for Tune and for tests: our own by the model's order (at most
  // 6), the library's (at most 16), hopper_gemm's tiles and the graph's (at most 4) where they can.
  std::vector<GemmChoice> Candidates(const GemmParams& params) const;
  // Run with a given choice.
  absl::Status RunChoice(const GemmParams& params, const GemmChoice& choice, void* workspace,
                         simt::Stream& stream) const;

 private:
  Gemm(const simt::Device& device, GemmOptions options);

  // Whether the library may compute `params`, in one launch or two.
  bool LibraryServes(const GemmParams& params) const;
  GemmChoice Untuned(const GemmParams& params) const;
  SmallGemmPlan PlanOf(const GemmParams& params, const GemmChoice& choice) const;
  absl::Status RunLibrary(const GemmParams& params, const LibraryAlgorithm& algorithm,
                          void* workspace, simt::Stream& stream) const;
  bool Serves(const GemmParams& params, const GemmChoice& choice) const;
  std::optional<GemmChoice> Remembered(const GemmKey& bucket) const;
  absl::StatusOr<std::vector<GemmChoice>> Time(const GemmTrial& trial, simt::Stream& stream) const;

  const simt::Device& device_;
  GemmOptions options_;
  absl::Status library_status_, graph_status_;
  std::unique_ptr<LibraryGemm> library_;
  std::unique_ptr<GraphGemm> graph_;
  size_t workspace_bytes_ = 0;
  GemmTableOrigin origin_;
  std::string path_;
  mutable Mutex mutex_;
  GemmTable table_ ABSL_GUARDED_BY(mutex_);  // tuned, or from the file and checked
  GemmTable file_;  // as read; entries move to table_ when they are asked for
  bool changed_ = false;
  bool has_hopper_ = true;
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
