#include "tests/kernels/mirrored_backend.h"

#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/host_backend.h"
#include "kernels/status.h"

namespace bertrand {
namespace {

// One operation's operands on the device. Operands of one address are one, as in the host's memory.
class Mirror {
 public:
  Mirror(const Backend& device, Stream& stream) : device_(device), stream_(stream) {}

  TensorView In(const TensorView& host) {
    if (!host) return host;
    std::unique_ptr<Buffer>& buffer = buffers_[host.data()];
    if (buffer == nullptr) {
      auto allocated = device_.Allocate(host.size_bytes());
      BERTRAND_CHECK(allocated.ok(), Message(allocated.status()));
      buffer = *std::move(allocated);
      const absl::Status status =
          device_.CopyToDevice(stream_, host.data(), buffer->data(), host.size_bytes());
      BERTRAND_CHECK(status.ok(), Message(status));
    }
    return At(buffer->data(), host);
  }

  // Contents go both ways: operations may leave parts of an output alone.
  TensorView Out(const TensorView& host) {
    if (host) outputs_.push_back(host);
    return In(host);
  }

  // Copies the outputs back, where the operation was done.
  absl::Status Finish(const absl::Status& done) {
    BERTRAND_RETURN_IF_ERROR(done);
    for (const TensorView& host : outputs_) {
      const TensorView device = In(host);
      const auto size = static_cast<size_t>(host.num_elements());
      BERTRAND_RETURN_IF_ERROR(
          host.dtype() == DType::kInt32
              ? device_.CopyToHost(stream_, device, std::span<int32_t>(host.as<int32_t>(), size))
              : device_.CopyToHost(stream_, device, std::span<float>(host.as<float>(), size)));
    }
    return device_.Synchronize(stream_);
  }

 private:
  static TensorView At(void* data, const TensorView& like) {
    switch (like.rank()) {
      case 1:
        return {data, like.dtype(), {like.dim(0)}};
      case 2:
        return {data, like.dtype(), {like.dim(0), like.dim(1)}};
      case 3:
        return {data, like.dtype(), {like.dim(0), like.dim(1), like.dim(2)}};
      default:
        return {data, like.dtype(), {like.dim(0), like.dim(1), like.dim(2), like.dim(3)}};
    }
  }

  const Backend& device_;
  Stream& stream_;
  std::map<void*, std::unique_ptr<Buffer>> buffers_;
  std::vector<TensorView> outputs_;
};

class MirroredBackend final : public HostBackend {
 public:
  explicit MirroredBackend(std::unique_ptr<Backend> device) : device_(std::move(device)) {}

  std::string name() const override { return device_->name(); }
  absl::StatusOr<std::unique_ptr<PackedLinear>> PackLinear(std::span<const float> weight,
                                                           std::span<const float> bias,
                                                           int64_t out_features,
                                                           int64_t in_features) const override {
    return device_->PackLinear(weight, bias, out_features, in_features);
  }
  absl::StatusOr<std::unique_ptr<Stream>> CreateStream(int64_t max_tokens) const override {
    return device_->CreateStream(max_tokens);
  }

 private:
  absl::Status DoEmbedding(Stream& stream, const EmbeddingParams& params) const override {
    Mirror mirror(*device_, stream);
    EmbeddingParams p = params;
    for (TensorView* input :
         {&p.ids, &p.position_ids, &p.type_ids, &p.word, &p.position, &p.type, &p.gamma, &p.beta}) {
      *input = mirror.In(*input);
    }
    p.y = mirror.Out(p.y);
    return mirror.Finish(device_->Embedding(stream, p));
  }
  absl::Status DoLinear(Stream& stream, const LinearParams& params) const override {
    Mirror mirror(*device_, stream);
    LinearParams p = params;
    p.x = mirror.In(p.x);
    p.residual = mirror.In(p.residual);
    p.norm.gamma = mirror.In(p.norm.gamma);
    p.norm.beta = mirror.In(p.norm.beta);
    p.y = mirror.Out(p.y);
    return mirror.Finish(device_->Linear(stream, p));
  }
  absl::Status DoNormedLinear(Stream& stream, const LinearParams& params) const override {
    return DoLinear(stream, params);
  }
  absl::Status DoAttention(Stream& stream, const AttentionParams& params) const override {
    Mirror mirror(*device_, stream);
    AttentionParams p = params;
    p.qkv = mirror.In(p.qkv);
    p.cu_seqlens = mirror.In(p.cu_seqlens);
    p.out = mirror.Out(p.out);
    return mirror.Finish(device_->Attention(stream, p));
  }
  absl::Status DoRelativeAttention(Stream& stream,
                                   const RelativeAttentionParams& params) const override {
    Mirror mirror(*device_, stream);
    RelativeAttentionParams p = params;
    for (TensorView* input : {&p.qkv, &p.content_bias, &p.position_bias, &p.segment_bias,
                              &p.positions, &p.segments, &p.type_ids, &p.cu_seqlens}) {
      *input = mirror.In(*input);
    }
    std::vector<AttentionMemory> memory(p.memory.begin(), p.memory.end());
    for (AttentionMemory& rows : memory) {
      rows.keys = mirror.In(rows.keys);
      rows.values = mirror.In(rows.values);
    }
    p.memory = memory;
    p.out = mirror.Out(p.out);
    return mirror.Finish(device_->RelativeAttention(stream, p));
  }
  absl::Status DoLayerNorm(Stream& stream, const LayerNormParams& params) const override {
    Mirror mirror(*device_, stream);
    LayerNormParams p = params;
    for (TensorView* input : {&p.x, &p.residual, &p.gamma, &p.beta}) *input = mirror.In(*input);
    p.y = mirror.Out(p.y);
    return mirror.Finish(device_->LayerNorm(stream, p));
  }
  absl::Status DoPool(Stream& stream, const PoolParams& params) const override {
    Mirror mirror(*device_, stream);
    PoolParams p = params;
    for (TensorView* input : {&p.x, &p.begin, &p.end, &p.weight_begin}) *input = mirror.In(*input);
    p.out = mirror.Out(p.out);
    return mirror.Finish(device_->Pool(stream, p));
  }
  absl::Status DoNormalize(Stream& stream, const NormalizeParams& params) const override {
    Mirror mirror(*device_, stream);
    return mirror.Finish(device_->Normalize(stream, {mirror.Out(params.x)}));
  }
  absl::Status DoGather(Stream& stream, const GatherParams& params) const override {
    Mirror mirror(*device_, stream);
    return mirror.Finish(device_->Gather(stream, {mirror.In(params.x), mirror.In(params.rows),
                                                  params.column, mirror.Out(params.y)}));
  }
  absl::Status DoSoftmax(Stream& stream, const SoftmaxParams& params) const override {
    Mirror mirror(*device_, stream);
    return mirror.Finish(device_->Softmax(stream, {mirror.Out(params.x)}));
  }
  absl::Status DoTopK(Stream& stream, const TopKParams& params) const override {
    Mirror mirror(*device_, stream);
    return mirror.Finish(
        device_->TopK(stream, {mirror.In(params.x), mirror.In(params.columns),
                               mirror.Out(params.values), mirror.Out(params.indices)}));
  }
  absl::Status DoSparsePool(Stream& stream, const SparsePoolParams& params) const override {
    Mirror mirror(*device_, stream);
    return mirror.Finish(device_->SparsePool(
        stream, {mirror.In(params.x), params.sum, params.log_twice, mirror.Out(params.y)}));
  }
  absl::Status DoBestSpans(Stream& stream, const SpanParams& params) const override {
    Mirror mirror(*device_, stream);
    SpanParams p = params;
    for (TensorView* input :
         {&p.logits, &p.masked, &p.cu_seqlens, &p.null_tokens, &p.tokens_max, &p.first}) {
      *input = mirror.In(*input);
    }
    p.spans = mirror.Out(p.spans);
    return mirror.Finish(device_->BestSpans(stream, p));
  }

  const std::unique_ptr<Backend> device_;
};

}  // namespace

std::unique_ptr<Backend> MirrorBackend(std::unique_ptr<Backend> device) {
  BERTRAND_CHECK(device->activation_dtype() == DType::kFloat32, "operands are float32");
  return std::make_unique<MirroredBackend>(std::move(device));
}

}  // namespace bertrand
