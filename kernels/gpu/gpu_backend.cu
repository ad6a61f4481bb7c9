#include <algorithm>
#include <utility>

#include "kernels/attention/attention.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gemm/gemv.h"
#include "kernels/gpu/copy.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/host_backend.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/mutex.h"
#include "kernels/pooling/pooling.h"
#include "kernels/relative_attention/relative_attention.h"
#include "kernels/scores/scores.h"
#include "kernels/span/span.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// Values that are converted between float32 and the activations' type at a time.
constexpr int64_t kStagingValues = int64_t{1} << 20;
// Partial results of long softmaxes, more rows of which are taken in turns; GEMMs may want more.
constexpr size_t kWorkspaceBytes = size_t{16} << 20;

class GpuBuffer final : public Buffer {
 public:
  explicit GpuBuffer(simt::Memory memory)
      : Buffer(memory.data(), memory.size_bytes()), memory_(std::move(memory)) {}

 private:
  const simt::Memory memory_;
};

// [out, in] as in the checkpoint, and the bias behind it.
class GpuLinear final : public PackedLinear {
 public:
  GpuLinear(simt::Memory memory, DType dtype, bool has_bias, int64_t out_features,
            int64_t in_features, int64_t bias_at)
      : PackedLinear(out_features, in_features, memory.size_bytes()), memory_(std::move(memory)) {
    char* const bytes = static_cast<char*>(memory_.data());
    weight_ = TensorView(bytes, dtype, {out_features, in_features});
    if (has_bias) bias_ = TensorView(bytes + bias_at, dtype, {out_features});
  }
  const TensorView& weight() const { return weight_; }
  const TensorView& bias() const { return bias_; }

 private:
  const simt::Memory memory_;
  TensorView weight_, bias_;
};

class GpuStream final : public Stream {
 public:
  static absl::StatusOr<std::unique_ptr<GpuStream>> Create(const simt::Device& device,
                                                           int64_t max_tokens,
                                                           size_t workspace_bytes) {
    auto stream = std::make_unique<GpuStream>();
    stream->max_tokens_ = max_tokens;
    stream->num_rings_ = static_cast<size_t>(max_tokens) + kMoreRings;
    const size_t rings_bytes = stream->num_rings_ * sizeof(MemoryRing);
    BERTRAND_ASSIGN_OR_RETURN(stream->stream_, device.CreateStream());
    BERTRAND_ASSIGN_OR_RETURN(stream->staging_, device.Allocate(kStagingValues * sizeof(float)));
    BERTRAND_ASSIGN_OR_RETURN(stream->workspace_, device.Allocate(workspace_bytes));
    BERTRAND_ASSIGN_OR_RETURN(stream->rings_, device.Allocate(rings_bytes));
    BERTRAND_ASSIGN_OR_RETURN(stream->host_rings_, device.AllocatePinned(rings_bytes));
    return stream;
  }
  simt::Stream& stream() { return *stream_; }
  int64_t max_tokens() const { return max_tokens_; }
  // The first `count` values of the staging area. Work on a stream is in order, so each use may
  // write over the one before.
  TensorView Staging(int64_t count) const { return {staging_.data(), DType::kFloat32, {count}}; }
  void* workspace() const { return workspace_.data(); }

  absl::Status Synchronize() {
    rings_used_ = 0;
    return stream_->Synchronize();
  }

  // Pinned memory for the rings of one operation, which copies may read until Synchronize.
  absl::StatusOr<std::span<MemoryRing>> TakeRings(size_t count) {
    if (count > num_rings_) {
      return InvalidArgument("RelativeAttention: " + std::to_string(count) +
                             " sequences on a stream with room for " + std::to_string(num_rings_));
    }
    if (count > num_rings_ - rings_used_) BERTRAND_RETURN_IF_ERROR(Synchronize());
    MemoryRing* const rings = static_cast<MemoryRing*>(host_rings_.data()) + rings_used_;
    rings_used_ += count;
    return std::span<MemoryRing>(rings, count);
  }
  // To the device, in order with the work before and after.
  absl::StatusOr<const MemoryRing*> CopyRings(std::span<const MemoryRing> rings) {
    BERTRAND_RETURN_IF_ERROR(
        stream_->CopyToDevice(rings_.data(), rings.data(), rings.size_bytes()));
    return static_cast<const MemoryRing*>(rings_.data());
  }

 private:
  // Beyond a ring for each token: those of several layers, before the stream has to wait.
  static constexpr size_t kMoreRings = 4096;

  std::unique_ptr<simt::Stream> stream_;
  int64_t max_tokens_ = 0;
  simt::Memory staging_, workspace_, rings_, host_rings_;
  size_t num_rings_ = 0, rings_used_ = 0;
};

GpuStream& Own(Stream& stream) { return static_cast<GpuStream&>(stream); }
simt::Stream& Native(Stream& stream) { return Own(stream).stream(); }

absl::Status CheckTokens(const char* op, const TensorView& x, const GpuStream& stream) {
  if (x.dim(0) <= stream.max_tokens()) return absl::OkStatus();
  return InvalidArgument(std::string(op) + ": " + std::to_string(x.dim(0)) +
                         " tokens on a stream made for " + std::to_string(stream.max_tokens()));
}

// Elements [first, first + count) in a row.
TensorView Elements(const TensorView& view, int64_t first, int64_t count) {
  return {
      view.as<char>() + static_cast<size_t>(first) * SizeOf(view.dtype()), view.dtype(), {count}};
}

TensorView Rows(const TensorView& x, int64_t first, int64_t count) {
  return {Elements(x, first * x.dim(1), 0).data(), x.dtype(), {count, x.dim(1)}};
}

// Float32 values into device memory of any floating type, by chunks of the stream's staging area.
absl::Status WriteFloats(GpuStream& stream, std::span<const float> host, const TensorView& device) {
  if (device.dtype() == DType::kFloat32) {
    return stream.stream().CopyToDevice(device.data(), host.data(), host.size_bytes());
  }
  const auto size = static_cast<int64_t>(host.size());
  for (int64_t first = 0; first < size; first += kStagingValues) {
    const TensorView staging = stream.Staging(std::min(kStagingValues, size - first));
    BERTRAND_RETURN_IF_ERROR(
        stream.stream().CopyToDevice(staging.data(), host.data() + first, staging.size_bytes()));
    BERTRAND_RETURN_IF_ERROR(
        Convert(staging, Elements(device, first, staging.num_elements()), stream.stream()));
  }
  return absl::OkStatus();
}

class GpuBackend final : public Backend {
 public:
  GpuBackend(std::unique_ptr<simt::Device> device, GpuBackendOptions options)
      : device_(std::move(device)), options_(std::move(options)) {}

  absl::Status Start() {
    BERTRAND_ASSIGN_OR_RETURN(gemm_, Gemm::Create(*device_, options_.gemm));
    BERTRAND_ASSIGN_OR_RETURN(load_stream_, NewStream(1));
    return absl::OkStatus();
  }

  std::string name() const override { return options_.name; }
  DType activation_dtype() const override { return options_.dtype; }
  bool host_memory() const override { return false; }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t size_bytes) const override {
    BERTRAND_ASSIGN_OR_RETURN(simt::Memory memory, device_->Allocate(size_bytes));
    return std::unique_ptr<Buffer>(std::make_unique<GpuBuffer>(std::move(memory)));
  }

  absl::StatusOr<std::unique_ptr<PackedLinear>> PackLinear(std::span<const float> weight,
                                                           std::span<const float> bias,
                                                           int64_t out_features,
                                                           int64_t in_features) const override;
  absl::StatusOr<std::unique_ptr<Stream>> CreateStream(int64_t max_tokens) const override {
    BERTRAND_RETURN_IF_ERROR(CheckMaxTokens(max_tokens));
    BERTRAND_ASSIGN_OR_RETURN(std::unique_ptr<GpuStream> stream, NewStream(max_tokens));
    return std::unique_ptr<Stream>(std::move(stream));
  }

  absl::Status Upload(std::span<const float> host, const TensorView& device) const override;
  absl::Status CopyToDevice(Stream& stream, const void* host, void* device,
                            size_t size_bytes) const override {
    if (size_bytes == 0) return absl::OkStatus();
    return Native(stream).CopyToDevice(device, host, size_bytes);
  }
  absl::Status CopyToHost(Stream& stream, const TensorView& device,
                          std::span<float> host) const override;
  absl::Status CopyToHost(Stream& stream, const TensorView& device,
                          std::span<int32_t> host) const override;
  absl::Status Clear(Stream& stream, const TensorView& y) const override {
    if (y.num_elements() == 0) return absl::OkStatus();
    return Native(stream).Fill(y.data(), 0, y.size_bytes());
  }
  absl::Status Synchronize(Stream& stream) const override { return Own(stream).Synchronize(); }

 private:
  absl::StatusOr<std::unique_ptr<GpuStream>> NewStream(int64_t max_tokens) const {
    return GpuStream::Create(
        *device_, max_tokens,
        std::max({kWorkspaceBytes, gemm_->workspace_bytes(), SpanWorkspaceBytes(max_tokens)}));
  }

  absl::Status DoEmbedding(Stream& stream, const EmbeddingParams& params) const override {
    return gpu::Embedding(params, Native(stream));
  }
  absl::Status DoLinear(Stream& stream, const LinearParams& params) const override;
  absl::Status DoAttention(Stream& stream, const bertrand::AttentionParams& p) const override {
    BERTRAND_RETURN_IF_ERROR(CheckTokens("Attention", p.qkv, Own(stream)));
    return gpu::Attention({p.qkv, p.cu_seqlens, p.scale, p.out}, Native(stream));
  }
  absl::Status DoRelativeAttention(Stream& stream,
                                   const bertrand::RelativeAttentionParams& p) const override;
  absl::Status DoLayerNorm(Stream& stream, const bertrand::LayerNormParams& p) const override {
    return gpu::LayerNorm({.x = p.x,
                           .residual = p.residual,
                           .gamma = p.gamma,
                           .beta = p.beta,
                           .eps = p.eps,
                           .y = p.y},
                          Native(stream));
  }
  absl::Status DoPool(Stream& stream, const PoolParams& params) const override {
    return gpu::Pool(params, Native(stream));
  }
  absl::Status DoNormalize(Stream& stream, const NormalizeParams& params) const override {
    return gpu::Normalize(params, Native(stream));
  }
  absl::Status DoGather(Stream& stream, const GatherParams& params) const override {
    return gpu::Gather(params, Native(stream));
  }
  absl::Status DoSoftmax(Stream& stream, const SoftmaxParams& params) const override;
  absl::Status DoTopK(Stream& stream, const TopKParams& params) const override {
    return gpu::TopK(params, Native(stream));
  }
  absl::Status DoSparsePool(Stream& stream, const SparsePoolParams& params) const override {
    return gpu::SparsePool(params, Native(stream));
  }
  absl::Status DoBestSpans(Stream& stream, const SpanParams& params) const override {
    BERTRAND_RETURN_IF_ERROR(CheckTokens("BestSpans", params.logits, Own(stream)));
    return gpu::BestSpans(params, Own(stream).workspace(), Native(stream));
  }

  const std::unique_ptr<simt::Device> device_;
  const GpuBackendOptions options_;
  std::unique_ptr<Gemm> gemm_;
  mutable Mutex load_mutex_;
  std::unique_ptr<GpuStream> load_stream_ ABSL_GUARDED_BY(load_mutex_);
};

absl::StatusOr<std::unique_ptr<PackedLinear>> GpuBackend::PackLinear(std::span<const float> weight,
                                                                     std::span<const float> bias,
                                                                     int64_t out_features,
                                                                     int64_t in_features) const {
  BERTRAND_RETURN_IF_ERROR(CheckPackLinear(weight, bias, out_features, in_features));
  const auto element = static_cast<int64_t>(SizeOf(options_.dtype));
  const int64_t bias_at = (out_features * in_features * element + 255) / 256 * 256;
  BERTRAND_ASSIGN_OR_RETURN(simt::Memory memory,
                            device_->Allocate(static_cast<size_t>(
                                bias_at + (bias.empty() ? 0 : out_features * element))));
  auto linear = std::make_unique<GpuLinear>(std::move(memory), options_.dtype, !bias.empty(),
                                            out_features, in_features, bias_at);
  BERTRAND_RETURN_IF_ERROR(Upload(weight, linear->weight()));
  if (!bias.empty()) BERTRAND_RETURN_IF_ERROR(Upload(bias, linear->bias()));
  return std::unique_ptr<PackedLinear>(std::move(linear));
}

absl::Status GpuBackend::Upload(std::span<const float> host, const TensorView& device) const {
  if (device.dtype() != options_.dtype && device.dtype() != DType::kFloat32 &&
      device.dtype() != DType::kInt32) {
    return InvalidArgument("Upload: destination is " + device.ToString() + ", expected " +
                           Name(options_.dtype) + ", float32 or int32");
  }
  if (static_cast<int64_t>(host.size()) != device.num_elements()) {
    return InvalidArgument("Upload: " + std::to_string(host.size()) + " host values for " +
                           device.ToString());
  }
  if (host.empty()) return absl::OkStatus();
  const MutexLock lock(load_mutex_);
  if (device.dtype() == DType::kInt32) {
    BERTRAND_RETURN_IF_ERROR(
        load_stream_->stream().CopyToDevice(device.data(), host.data(), host.size_bytes()));
  } else {
    BERTRAND_RETURN_IF_ERROR(WriteFloats(*load_stream_, host, device));
  }
  return load_stream_->stream().Synchronize();
}

absl::Status GpuBackend::CopyToHost(Stream& stream, const TensorView& device,
                                    std::span<float> host) const {
  const bool converts = device.dtype() != DType::kFloat32;
  if ((converts && device.dtype() != options_.dtype) ||
      static_cast<int64_t>(host.size()) != device.num_elements()) {
    return InvalidArgument("CopyToHost: source is " + device.ToString() + ", expected " +
                           Name(options_.dtype) + " with " + std::to_string(host.size()) +
                           " elements");
  }
  if (host.empty()) return absl::OkStatus();
  simt::Stream& native = Native(stream);
  if (!converts) return native.CopyToHost(host.data(), device.data(), host.size_bytes());
  const int64_t size = device.num_elements();
  for (int64_t first = 0; first < size; first += kStagingValues) {
    const TensorView staging = Own(stream).Staging(std::min(kStagingValues, size - first));
    BERTRAND_RETURN_IF_ERROR(
        Convert(Elements(device, first, staging.num_elements()), staging, native));
    BERTRAND_RETURN_IF_ERROR(
        native.CopyToHost(host.data() + first, staging.data(), staging.size_bytes()));
  }
  return absl::OkStatus();
}

absl::Status GpuBackend::CopyToHost(Stream& stream, const TensorView& device,
                                    std::span<int32_t> host) const {
  if (device.dtype() != DType::kInt32 ||
      static_cast<int64_t>(host.size()) != device.num_elements()) {
    return InvalidArgument("CopyToHost: source is " + device.ToString() + ", expected int32 with " +
                           std::to_string(host.size()) + " elements");
  }
  if (host.empty()) return absl::OkStatus();
  return Native(stream).CopyToHost(host.data(), device.data(), host.size_bytes());
}

absl::Status GpuBackend::DoLinear(Stream& stream, const LinearParams& p) const {
  const auto& linear = static_cast<const GpuLinear&>(*p.weight);
  if (linear.out_features() <= kGemvOutputsMax) {
    return Gemv({p.x, linear.weight(), linear.bias(), p.activation, p.residual, p.y},
                Native(stream));
  }
  return gemm_->Run({p.x, linear.weight(), linear.bias(), p.activation, p.residual, p.y},
                    Own(stream).workspace(), Native(stream));
}

absl::Status GpuBackend::DoRelativeAttention(Stream& stream,
                                             const bertrand::RelativeAttentionParams& p) const {
  BERTRAND_RETURN_IF_ERROR(CheckTokens("RelativeAttention", p.qkv, Own(stream)));
  gpu::RelativeAttentionParams params = {.qkv = p.qkv,
                                         .content_bias = p.content_bias,
                                         .position_bias = p.position_bias,
                                         .segment_bias = p.segment_bias,
                                         .positions = p.positions,
                                         .center = p.center,
                                         .segments = p.segments,
                                         .type_ids = p.type_ids,
                                         .cu_seqlens = p.cu_seqlens,
                                         .memory_rows = {},
                                         .scale = p.scale,
                                         .out = p.out};
  if (!p.memory.empty()) {
    BERTRAND_ASSIGN_OR_RETURN(const std::span<MemoryRing> rings,
                              Own(stream).TakeRings(p.memory.size()));
    BERTRAND_ASSIGN_OR_RETURN(params.memory_rows, DescribeMemory(p.memory, rings));
    if (params.memory_rows) {
      BERTRAND_ASSIGN_OR_RETURN(params.rings, Own(stream).CopyRings(rings));
    }
  }
  return gpu::RelativeAttention(params, Native(stream));
}

absl::Status GpuBackend::DoSoftmax(Stream& stream, const SoftmaxParams& params) const {
  const int64_t rows = params.x.dim(0);
  const size_t row_bytes = SoftmaxWorkspaceBytes(1, params.x.dim(1));
  const int64_t rows_each =
      row_bytes == 0 ? rows
                     : static_cast<int64_t>(std::max<size_t>(1, kWorkspaceBytes / row_bytes));
  for (int64_t first = 0; first < rows; first += rows_each) {
    BERTRAND_RETURN_IF_ERROR(
        gpu::Softmax({Rows(params.x, first, std::min(rows_each, rows - first))},
                     Own(stream).workspace(), Native(stream)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateGpuBackend(std::unique_ptr<simt::Device> device,
                                                          GpuBackendOptions options) {
  if (options.dtype != DType::kFloat32 && options.dtype != DType::kFloat16 &&
      options.dtype != DType::kBFloat16) {
    return InvalidArgument("device '" + options.name + "' with " + Name(options.dtype) +
                           ", expected float32, float16 or bfloat16");
  }
  auto backend = std::make_unique<GpuBackend>(std::move(device), std::move(options));
  BERTRAND_RETURN_IF_ERROR(backend->Start());
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
