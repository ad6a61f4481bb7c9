#pragma once

// One slot of work in flight on a GPU: a stream of the device with memory of its own, made once,
// for what operations need beyond their operands. And graphs: work that comes again with the same
// operands is recorded and started as a whole.
//
// Results on their way to the host go through pinned memory, so that copies run beside the host's
// work, and become float32 there: converting on the device would be a launch and twice the bytes.
//
// One thread at a time. The device outlives it.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/relative_attention/relative_attention.h"
#include "kernels/simt/runtime.h"

namespace bertrand::gpu::inline SIMT_TARGET {

class GpuStream final : public Stream {
 public:
  // Graphs that a stream keeps; one more takes the place of the one that was run longest ago.
  static constexpr size_t kGraphsMax = 64;
  // Values that are converted to the activations' type at a time.
  static constexpr int64_t kStagingValues = int64_t{1} << 20;

  static absl::StatusOr<std::unique_ptr<GpuStream>> Create(const simt::Device& device,
                                                           int64_t max_tokens,
                                                           size_t workspace_bytes);

  simt::Stream& stream() { return *stream_; }
  int64_t max_tokens() const { return max_tokens_; }
  void* workspace() const { return workspace_.data(); }

  // Float32 values into device memory of any floating type; into float8 divided by `scale`.
  absl::Status WriteFloats(std::span<const float> host, const TensorView& device, float scale = 1);

  // x's values, in order, to one part after the other, which have them after Synchronize. Floating
  // types become float32.
  absl::Status CopyToHost(const TensorView& x, std::span<const std::span<float>> parts);
  absl::Status CopyToHost(const TensorView& x, std::span<int32_t> host);
  // Waits for all work. Whatever it says, nothing is on its way any more.
  absl::Status Synchronize();

  // Does `work` on this stream: the first time that a key is seen as it is, the second time
  // recording it, from then on by what was recorded. (What libraries do once is over by then.) With
  // another `tuning` than the last time, work has become another, and all keys are new.
  absl::Status Replay(uint64_t key, uint64_t tuning, const std::function<absl::Status()>& work);

  // Pinned memory for the rings of one operation, which copies may read until Synchronize.
  absl::StatusOr<std::span<MemoryRing>> TakeRings(size_t count);
  // To the device, in order with the work before and after.
  absl::StatusOr<const MemoryRing*> CopyRings(std::span<const MemoryRing> rings);

 private:
  // Values in pinned memory that go to the host's own.
  struct Arrival {
    const char* from = nullptr;
    void* to = nullptr;
    size_t count = 0;
    DType dtype{};
  };
  struct Recorded {
    uint64_t key = 0, last_run = 0;
    std::unique_ptr<simt::Graph> graph;  // null: seen once
  };
  // Where results arrive; more of them wait for one another.
  static constexpr size_t kArrivalBytes = size_t{4} << 20;
  static constexpr size_t kArrivalsMax = 8192;
  // Beyond a ring for each token: those of several layers, before the stream has to wait.
  static constexpr size_t kMoreRings = 4096;

  // Room for up to `count` values in pinned memory, waiting for it if need be; says how many.
  absl::StatusOr<size_t> MakeRoom(size_t count, size_t element_bytes);
  // The recorded work of a key, made where there is none.
  Recorded& Find(uint64_t key);
  absl::StatusOr<std::unique_ptr<simt::Graph>> Record(const std::function<absl::Status()>& work);

  std::unique_ptr<simt::Stream> stream_;
  int64_t max_tokens_ = 0;
  simt::Memory staging_;  // float32 [kStagingValues], and behind it as many of 16 bits
  simt::Memory workspace_, rings_, host_rings_, arrival_memory_;
  size_t num_rings_ = 0, rings_used_ = 0;
  size_t arrival_bytes_used_ = 0;
  std::vector<Arrival> arrivals_;
  std::vector<Recorded> recorded_;
  uint64_t num_runs_ = 0, tuning_ = 0;
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
