#pragma once

// What backends whose device memory is the host's have in common: buffers, copies, streams that
// compute before they return, and no float8. Immutable and thread-safe.

#include "kernels/backend.h"

namespace bertrand {

// Alignment of host buffers, and the multiple to which they are readable.
inline constexpr size_t kHostAlignmentBytes = 256;

// Memory of at least `size_bytes` bytes, aligned to 256 bytes and readable to the next multiple;
// large blocks ask for huge pages, because streaming weights through 4 KiB pages costs page walks.
// nullptr when there is none.
std::unique_ptr<Buffer> AllocateHostBuffer(size_t size_bytes);

// The checks of PackLinear and CreateStream, with their messages.
absl::Status CheckPackLinear(std::span<const float> weight, std::span<const float> bias,
                             int64_t out_features, int64_t in_features);
absl::Status CheckMaxTokens(int64_t max_tokens);

class HostBackend : public Backend {
 public:
  DType activation_dtype() const override { return DType::kFloat32; }
  bool host_memory() const override { return true; }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t size_bytes) const override;
  absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(size_t size_bytes) const override {
    return HostBackend::Allocate(size_bytes);
  }
  absl::Status CheckFloat8() const override;
  absl::StatusOr<std::unique_ptr<PackedLinear>> PackFloat8(std::span<const float> weight,
                                                           std::span<const float> bias,
                                                           int64_t out_features,
                                                           int64_t in_features,
                                                           float input_max) const override;
  absl::Status Upload(std::span<const float> host, const TensorView& device) const override;
  absl::Status CopyToDevice(Stream& stream, const void* host, void* device,
                            size_t size_bytes) const override;
  absl::Status CopyToHost(Stream& stream, const TensorView& device,
                          std::span<float> host) const override;
  absl::Status CopyToHost(Stream& stream, const TensorView& device,
                          std::span<const std::span<float>> parts) const override;
  absl::Status CopyToHost(Stream& stream, const TensorView& device,
                          std::span<int32_t> host) const override;
  absl::Status Clear(Stream& stream, const TensorView& y) const override;
  absl::Status Synchronize(Stream& stream) const override;

 private:
  absl::Status DoLinear(Stream& stream, const LinearParams& params) const override = 0;
  absl::Status DoLayerNorm(Stream& stream, const LayerNormParams& params) const override = 0;
  // One after the other.
  absl::Status DoNormedLinear(Stream& stream, const LinearParams& params) const override;
};

}  // namespace bertrand
