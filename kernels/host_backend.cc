#include "kernels/host_backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "kernels/status.h"

namespace bertrand {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

class HostBuffer final : public Buffer {
 public:
  HostBuffer(void* data, size_t size_bytes) : Buffer(data, size_bytes) {}
  ~HostBuffer() override { std::free(data_); }
};

}  // namespace

std::unique_ptr<Buffer> AllocateHostBuffer(size_t size_bytes) {
  if (size_bytes > std::numeric_limits<size_t>::max() - kHostAlignmentBytes) return nullptr;
  const size_t rounded = (std::max(size_bytes, size_t{1}) + kHostAlignmentBytes - 1) /
                         kHostAlignmentBytes * kHostAlignmentBytes;
  void* data = nullptr;
  const size_t alignment = rounded >= kHugePageBytes ? kHugePageBytes : kHostAlignmentBytes;
  if (posix_memalign(&data, alignment, rounded) != 0) return nullptr;
#ifdef MADV_HUGEPAGE
  // For the huge pages that the buffer fills. Advice only: it fails harmlessly where they are off.
  if (alignment == kHugePageBytes) madvise(data, rounded / alignment * alignment, MADV_HUGEPAGE);
#endif
  return std::make_unique<HostBuffer>(data, size_bytes);
}

absl::Status CheckPackLinear(std::span<const float> weight, std::span<const float> bias,
                             int64_t out_features, int64_t in_features) {
  // The limit keeps the product below from overflowing; no layer comes near it.
  constexpr int64_t kMaxFeatures = int64_t{1} << 30;
  if (out_features < 1 || in_features < 1 || out_features > kMaxFeatures ||
      in_features > kMaxFeatures) {
    return InvalidArgument("PackLinear: out_features " + std::to_string(out_features) +
                           ", in_features " + std::to_string(in_features) +
                           ", expected both in 1 .. " + std::to_string(kMaxFeatures));
  }
  if (static_cast<int64_t>(weight.size()) != out_features * in_features) {
    return InvalidArgument("PackLinear: weight has " + std::to_string(weight.size()) +
                           " values, expected " + std::to_string(out_features) + " x " +
                           std::to_string(in_features));
  }
  if (!bias.empty() && static_cast<int64_t>(bias.size()) != out_features) {
    return InvalidArgument("PackLinear: bias has " + std::to_string(bias.size()) +
                           " values, expected none or " + std::to_string(out_features));
  }
  return absl::OkStatus();
}

absl::Status CheckMaxTokens(int64_t max_tokens) {
  // cu_seqlens is int32.
  if (max_tokens < 1 || max_tokens > std::numeric_limits<int32_t>::max()) {
    return InvalidArgument("CreateStream: max_tokens is " + std::to_string(max_tokens) +
                           ", expected 1 .. 2147483647");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Buffer>> HostBackend::Allocate(size_t size_bytes) const {
  std::unique_ptr<Buffer> buffer = AllocateHostBuffer(size_bytes);
  if (buffer == nullptr) {
    return ResourceExhausted("no host memory for a buffer of " + std::to_string(size_bytes) +
                             " bytes");
  }
  return buffer;
}

absl::Status HostBackend::CheckFloat8() const {
  return FailedPrecondition("device '" + name() + "' computes in " + Name(activation_dtype()) +
                            " alone; float8 needs a GPU of compute capability 8.9 (Ada, Hopper) " +
                            "or later");
}

absl::StatusOr<std::unique_ptr<PackedLinear>> HostBackend::PackFloat8(std::span<const float>,
                                                                      std::span<const float>,
                                                                      int64_t, int64_t,
                                                                      float) const {
  return CheckFloat8();
}

absl::Status HostBackend::DoNormedLinear(Stream& stream, const LinearParams& params) const {
  LinearParams linear = params;
  linear.norm = {};
  BERTRAND_RETURN_IF_ERROR(DoLinear(stream, linear));
  return DoLayerNorm(stream, {.x = params.y,
                              .gamma = params.norm.gamma,
                              .beta = params.norm.beta,
                              .eps = params.norm.eps,
                              .y = params.y});
}

absl::Status HostBackend::Upload(std::span<const float> host, const TensorView& device) const {
  if (device.dtype() != DType::kFloat32 && device.dtype() != DType::kInt32) {
    return InvalidArgument("Upload: destination is " + device.ToString() +
                           ", expected float32 or int32");
  }
  if (static_cast<int64_t>(host.size()) != device.num_elements()) {
    return InvalidArgument("Upload: " + std::to_string(host.size()) + " host values for " +
                           device.ToString());
  }
  if (!host.empty()) std::memcpy(device.data(), host.data(), host.size_bytes());
  return absl::OkStatus();
}

absl::Status HostBackend::CopyToDevice(Stream&, const void* host, void* device,
                                       size_t size_bytes) const {
  if (size_bytes != 0) std::memcpy(device, host, size_bytes);
  return absl::OkStatus();
}

absl::Status HostBackend::CopyToHost(Stream&, const TensorView& device,
                                     std::span<float> host) const {
  if (device.dtype() != DType::kFloat32 ||
      static_cast<int64_t>(host.size()) != device.num_elements()) {
    return InvalidArgument("CopyToHost: source is " + device.ToString() +
                           ", expected float32 with " + std::to_string(host.size()) + " elements");
  }
  if (!host.empty()) std::memcpy(host.data(), device.data(), host.size_bytes());
  return absl::OkStatus();
}

absl::Status HostBackend::CopyToHost(Stream&, const TensorView& device,
                                     std::span<const std::span<float>> parts) const {
  size_t size = 0;
  for (const std::span<float>& part : parts) size += part.size();
  if (device.dtype() != DType::kFloat32 || static_cast<int64_t>(size) != device.num_elements()) {
    return InvalidArgument("CopyToHost: source is " + device.ToString() +
                           ", expected float32 with " + std::to_string(size) + " elements");
  }
  const float* from = device.as<float>();
  for (const std::span<float>& part : parts) {
    std::copy(from, from + part.size(), part.begin());
    from += part.size();
  }
  return absl::OkStatus();
}

absl::Status HostBackend::CopyToHost(Stream&, const TensorView& device,
                                     std::span<int32_t> host) const {
  if (device.dtype() != DType::kInt32 ||
      static_cast<int64_t>(host.size()) != device.num_elements()) {
    return InvalidArgument("CopyToHost: source is " + device.ToString() + ", expected int32 with " +
                           std::to_string(host.size()) + " elements");
  }
  if (!host.empty()) std::memcpy(host.data(), device.data(), host.size_bytes());
  return absl::OkStatus();
}

absl::Status HostBackend::Clear(Stream&, const TensorView& y) const {
  if (y.num_elements() != 0) std::memset(y.data(), 0, y.size_bytes());
  return absl::OkStatus();
}

absl::Status HostBackend::Synchronize(Stream&) const { return absl::OkStatus(); }

}  // namespace bertrand
