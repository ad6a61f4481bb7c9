#include "kernels/reference/reference_backend.h"

#include <vector>

#include "kernels/attention/attention_reference.h"
#include "kernels/embedding/embedding_reference.h"
#include "kernels/gemm/linear_reference.h"
#include "kernels/host_backend.h"
#include "kernels/layer_norm/layer_norm_reference.h"
#include "kernels/pooling/pooling_reference.h"
#include "kernels/relative_attention/relative_attention_reference.h"
#include "kernels/scores/scores_reference.h"
#include "kernels/span/span_reference.h"
#include "kernels/status.h"

namespace bertrand {
namespace {

class ReferenceLinear final : public PackedLinear {
 public:
  ReferenceLinear(std::span<const float> weight, std::span<const float> bias, int64_t out_features,
                  int64_t in_features)
      : PackedLinear(out_features, in_features, weight.size_bytes() + bias.size_bytes()),
        weight_(weight.begin(), weight.end()),
        bias_(bias.begin(), bias.end()) {}
  std::span<const float> weight() const { return weight_; }
  std::span<const float> bias() const { return bias_; }

 private:
  const std::vector<float> weight_, bias_;
};

class ReferenceStream final : public Stream {};

class ReferenceBackend final : public HostBackend {
 public:
  std::string name() const override { return "reference"; }

  absl::StatusOr<std::unique_ptr<PackedLinear>> PackLinear(std::span<const float> weight,
                                                           std::span<const float> bias,
                                                           int64_t out_features,
                                                           int64_t in_features) const override {
    BERTRAND_RETURN_IF_ERROR(CheckPackLinear(weight, bias, out_features, in_features));
    return std::unique_ptr<PackedLinear>(
        std::make_unique<ReferenceLinear>(weight, bias, out_features, in_features));
  }

  absl::StatusOr<std::unique_ptr<Stream>> CreateStream(int64_t max_tokens) const override {
    BERTRAND_RETURN_IF_ERROR(CheckMaxTokens(max_tokens));
    return std::unique_ptr<Stream>(std::make_unique<ReferenceStream>());
  }

 private:
  absl::Status DoEmbedding(Stream&, const EmbeddingParams& params) const override {
    EmbeddingReference(params);
    return absl::OkStatus();
  }
  absl::Status DoLinear(Stream&, const LinearParams& params) const override {
    const auto& weight = static_cast<const ReferenceLinear&>(*params.weight);
    LinearReference(params, weight.weight(), weight.bias());
    return absl::OkStatus();
  }
  absl::Status DoAttention(Stream&, const AttentionParams& params) const override {
    AttentionReference(params);
    return absl::OkStatus();
  }
  absl::Status DoRelativeAttention(Stream&, const RelativeAttentionParams& params) const override {
    RelativeAttentionReference(params);
    return absl::OkStatus();
  }
  absl::Status DoLayerNorm(Stream&, const LayerNormParams& params) const override {
    LayerNormReference(params);
    return absl::OkStatus();
  }
  absl::Status DoPool(Stream&, const PoolParams& params) const override {
    PoolReference(params);
    return absl::OkStatus();
  }
  absl::Status DoNormalize(Stream&, const NormalizeParams& params) const override {
    NormalizeReference(params);
    return absl::OkStatus();
  }
  absl::Status DoGather(Stream&, const GatherParams& params) const override {
    GatherReference(params);
    return absl::OkStatus();
  }
  absl::Status DoSoftmax(Stream&, const SoftmaxParams& params) const override {
    SoftmaxReference(params);
    return absl::OkStatus();
  }
  absl::Status DoTopK(Stream&, const TopKParams& params) const override {
    TopKReference(params);
    return absl::OkStatus();
  }
  absl::Status DoSparsePool(Stream&, const SparsePoolParams& params) const override {
    SparsePoolReference(params);
    return absl::OkStatus();
  }
  absl::Status DoBestSpans(Stream&, const SpanParams& params) const override {
    BestSpansReference(params);
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateReferenceBackend() {
  return std::unique_ptr<Backend>(std::make_unique<ReferenceBackend>());
}

}  // namespace bertrand
