#pragma once

// Which kernel computes attention: attention.h's, or hopper_attention.h's where this device has
// shown that it is right and the faster one. Without Tune, attention.h's.
//
// Tune, at load, does for each kind of heads that Run has seen: both kernels on one ragged batch,
// whose results must agree; then both on equal lengths, from long to short, as they will run, in a
// graph and with cold caches. Hopper's is used from the shortest mean length on from which it was
// always faster, where there is a tile for every multiprocessor. It takes some 50 ms, so nothing is
// kept on disk.
//
// Run is thread-safe (a stream is one thread's); Tune is for one thread, also beside Run.

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <compare>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/mutex.h"

namespace bertrand::gpu::inline SIMT_TARGET {

class AttentionChoice {
 public:
  // Microseconds of one run of a kernel on `length` tokens a text, which `run` starts.
  using Measure = std::function<absl::StatusOr<double>(bool hopper, int length,
                                                       const std::function<absl::Status()>& run)>;

  using Kernel = std::function<absl::Status(const AttentionParams&, simt::Stream&)>;

  // Without `measure`: by the device's clock, and not at all in the emulator. `hopper`: in place of
  // HopperAttention, for tests.
  explicit AttentionChoice(Measure measure = nullptr, Kernel hopper = nullptr);

  absl::Status Run(const AttentionParams& params, simt::Stream& stream) const;

  // What has not been tried is, one kind after another until `end`. Allocates and synchronises.
  // Returns a line for each kind that was. Internal: the device is lost.
  absl::StatusOr<std::vector<std::string>> Tune(std::chrono::steady_clock::time_point end,
                                                simt::Stream& stream);

 private:
  struct Kind {
    DType dtype;
    int64_t heads, head_size;
    auto operator<=>(const Kind&) const = default;
  };
  struct Verdict {
    bool tried = false;
    int64_t shortest_mean = INT64_MAX;  // from which Hopper's kernel is used
  };
  absl::StatusOr<std::string> Try(const Kind& kind, Verdict& verdict, simt::Stream& stream) const;
  bool UsesHopper(const AttentionParams& params, const simt::DeviceInfo& device) const;

  const Measure measure_;
  const Kernel hopper_;
  mutable Mutex mutex_;
  mutable std::map<Kind, Verdict> kinds_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
