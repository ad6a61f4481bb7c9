#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "kernels/attention/attention.h"
#include "kernels/bias_activation/bias_activation.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gemm/gemv.h"
#include "kernels/gpu/copy.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/gpu/gpu_stream.h"
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

// Partial results of long softmaxes, more rows of which are taken in turns; GEMMs may want more.
constexpr size_t kWorkspaceBytes = size_t{16} << 20;

class GpuBuffer final : public Buffer {
 public:
  explicit GpuBuffer(simt::Memory memory)
      : Buffer(memory.data(), memory.size_bytes()), memory_(std::move(memory)) {}

 private:
  const simt::Memory memory_;
};

// [out, in] as in the checkpoint, and behind it the bias and the scales, if there are any.
class GpuLinear final : public PackedLinear {
 public:
  struct Types {
    DType weight, bias;
  };
  static absl::StatusOr<std::unique_ptr<GpuLinear>> Create(const simt::Device& device, Types types,
                                                           int64_t out, int64_t in, bool has_bias) {
    const auto rounded = [](size_t size_bytes) { return (size_bytes + 255) / 256 * 256; };
    const size_t weight_bytes = rounded(static_cast<size_t>(out * in) * SizeOf(types.weight));
    const size_t bias_bytes =
        has_bias ? rounded(static_cast<size_t>(out) * SizeOf(types.bias)) : size_t{0};
    const bool float8 = types.weight == DType::kFloat8;
    BERTRAND_ASSIGN_OR_RETURN(simt::Memory memory, device.Allocate(weight_bytes + bias_bytes +
                                                                   (float8 ? 2 * kScaleBytes : 0)));
    std::unique_ptr<GpuLinear> linear(new GpuLinear(out, in, std::move(memory)));
    char* const bytes = static_cast<char*>(linear->memory_.data());
    linear->weight_ = TensorView(bytes, types.weight, {out, in});
    if (has_bias) linear->bias_ = TensorView(bytes + weight_bytes, types.bias, {out});
    if (float8) {
      char* const scales = bytes + weight_bytes + bias_bytes;
      linear->input_scale_ = TensorView(scales, DType::kFloat32, {1});
      linear->weight_scale_ = TensorView(scales + kScaleBytes, DType::kFloat32, {1});
    }
    return linear;
  }
  const TensorView& weight() const { return weight_; }
  const TensorView& bias() const { return bias_; }
  const TensorView& weight_scale() const { return weight_scale_; }

 private:
  static constexpr size_t kScaleBytes = 16;  // cuBLASLt's alignment of one float

  GpuLinear(int64_t out_features, int64_t in_features, simt::Memory memory)
      : PackedLinear(out_features, in_features, memory.size_bytes()), memory_(std::move(memory)) {}

  const simt::Memory memory_;
  TensorView weight_, bias_, weight_scale_;
};

// e4m3's largest value.
constexpr float kFloat8Largest = 448;

// The scale with which `largest` is e4m3's largest value; of nothing but zeros any will do.
float ScaleOf(float largest) { return largest > 0 ? largest / kFloat8Largest : 1; }

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

// Float16 has no number for some of float32's, which would become infinite.
absl::Status CheckRange(std::span<const float> host) {
  constexpr float kLargest = 65504;
  for (const float value : host) {
    if (std::abs(value) <= kLargest) continue;
    return InvalidArgument("a value of " + std::to_string(value) +
                           " does not fit float16, expected at most 65504: --dtype bfloat16 has "
                           "float32's range");
  }
  return absl::OkStatus();
}

class GpuBackend final : public Backend {
 public:
  GpuBackend(std::unique_ptr<simt::Device> device, GpuBackendOptions options)
      : device_(std::move(device)),
        options_(std::move(options)),
        attention_(options_.measure_attention_us) {}

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

  absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(size_t size_bytes) const override {
    BERTRAND_ASSIGN_OR_RETURN(simt::Memory memory, device_->AllocatePinned(size_bytes));
    return std::unique_ptr<Buffer>(std::make_unique<GpuBuffer>(std::move(memory)));
  }

  absl::StatusOr<std::unique_ptr<PackedLinear>> PackLinear(std::span<const float> weight,
                                                           std::span<const float> bias,
                                                           int64_t out_features,
                                                           int64_t in_features) const override;
  absl::Status CheckFloat8() const override;
  absl::StatusOr<std::unique_ptr<PackedLinear>> PackFloat8(std::span<const float> weight,
                                                           std::span<const float> bias,
                                                           int64_t out_features,
                                                           int64_t in_features,
                                                           float input_max) const override;
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
                          std::span<float> host) const override {
    return CopyToHost(stream, device, std::span(&host, 1));
  }
  absl::Status CopyToHost(Stream& stream, const TensorView& device,
                          std::span<const std::span<float>> parts) const override;
  absl::Status CopyToHost(Stream& stream, const TensorView& device,
                          std::span<int32_t> host) const override;
  absl::Status CheckFinite(Stream& stream, const TensorView& x,
                           const TensorView& flag) const override {
    return gpu::CheckFinite(x, flag, Native(stream));
  }
  absl::Status Clear(Stream& stream, const TensorView& y) const override {
    if (y.num_elements() == 0) return absl::OkStatus();
    return Native(stream).Fill(y.data(), 0, y.size_bytes());
  }
  absl::Status Synchronize(Stream& stream) const override { return Own(stream).Synchronize(); }
  bool replays() const override { return options_.graphs; }
  absl::StatusOr<TuningReport> Tune(int64_t max_tokens, std::chrono::milliseconds time,
                                    bool unverified) const override;
  absl::Status Replay(Stream& stream, uint64_t key,
                      const std::function<absl::Status()>& work) const override {
    return options_.graphs ? Own(stream).Replay(key, num_tunings_, work) : work();
  }

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
  absl::Status Multiply(Stream& stream, const GemmParams& params) const;
  void RememberShape(const GemmParams& params) const;
  absl::Status DoAttention(Stream& stream, const bertrand::AttentionParams& p) const override {
    BERTRAND_RETURN_IF_ERROR(CheckTokens("Attention", p.qkv, Own(stream)));
    return attention_.Run({.qkv = p.qkv,
                           .cu_seqlens = p.cu_seqlens,
                           .scale = p.scale,
                           .out = p.narrow.values ? p.narrow.values : p.out,
                           .out_scale = p.narrow.scale},
                          Native(stream));
  }
  absl::Status DoRelativeAttention(Stream& stream,
                                   const bertrand::RelativeAttentionParams& p) const override;
  absl::Status DoLayerNorm(Stream& stream, const bertrand::LayerNormParams& p) const override {
    return gpu::LayerNorm({.x = p.x,
                           .residual = p.residual,
                           .gamma = p.gamma,
                           .beta = p.beta,
                           .eps = p.eps,
                           .y = p.y,
                           .y8 = p.narrow.values,
                           .y8_scale = p.narrow.scale},
                          Native(stream));
  }
  absl::Status DoNormedLinear(Stream& stream, const LinearParams& p) const override;
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
  mutable AttentionChoice attention_;
  mutable std::atomic<uint64_t> num_tunings_ = 0;
  mutable Mutex shapes_mutex_;
  mutable std::set<GemmKey> shapes_ ABSL_GUARDED_BY(shapes_mutex_);  // of linear layers; m is 0
  mutable Mutex load_mutex_;
  std::unique_ptr<GpuStream> load_stream_ ABSL_GUARDED_BY(load_mutex_);
};

absl::StatusOr<std::unique_ptr<PackedLinear>> GpuBackend::PackLinear(std::span<const float> weight,
                                                                     std::span<const float> bias,
                                                                     int64_t out_features,
                                                                     int64_t in_features) const {
  BERTRAND_RETURN_IF_ERROR(CheckPackLinear(weight, bias, out_features, in_features));
  BERTRAND_ASSIGN_OR_RETURN(
      auto linear, GpuLinear::Create(*device_, {options_.dtype, options_.dtype}, out_features,
                                     in_features, !bias.empty()));
  BERTRAND_RETURN_IF_ERROR(Upload(weight, linear->weight()));
  if (!bias.empty()) BERTRAND_RETURN_IF_ERROR(Upload(bias, linear->bias()));
  return std::unique_ptr<PackedLinear>(std::move(linear));
}

absl::Status GpuBackend::CheckFloat8() const {
  const simt::DeviceInfo& info = device_->info();
  if (SizeOf(options_.dtype) != 2 || 10 * info.major + info.minor < 89) {
    return FailedPrecondition(
        "device '" + options_.name + "' with " + Name(options_.dtype) + " (" + info.name +
        ", compute capability " + std::to_string(info.major) + "." + std::to_string(info.minor) +
        ") has no products in float8, which need 8.9 (Ada, Hopper) or later, and float16 or "
        "bfloat16 beside them");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PackedLinear>> GpuBackend::PackFloat8(std::span<const float> weight,
                                                                     std::span<const float> bias,
                                                                     int64_t out_features,
                                                                     int64_t in_features,
                                                                     float input_max) const {
  BERTRAND_RETURN_IF_ERROR(CheckFloat8());
  BERTRAND_RETURN_IF_ERROR(CheckPackLinear(weight, bias, out_features, in_features));
  if (out_features % kFloat8Multiple != 0 || in_features % kFloat8Multiple != 0) {
    return InvalidArgument("PackFloat8: a layer of " + std::to_string(in_features) + " to " +
                           std::to_string(out_features) + " values, expected multiples of " +
                           std::to_string(kFloat8Multiple));
  }
  float largest = 0;
  for (const float value : weight) largest = std::max(largest, std::abs(value));
  const bool has_nan =
      std::any_of(weight.begin(), weight.end(), [](float value) { return std::isnan(value); });
  const float scales[] = {ScaleOf(input_max), ScaleOf(largest)};
  if (has_nan || !(input_max >= 0) || !std::isnormal(scales[0]) || !std::isnormal(scales[1])) {
    return InvalidArgument("PackFloat8: a weight with a largest value of " +
                           (has_nan ? "NaN" : std::to_string(largest)) + ", and an input with " +
                           std::to_string(input_max) + ": there is no scale for them");
  }
  BERTRAND_ASSIGN_OR_RETURN(
      auto linear, GpuLinear::Create(*device_, {DType::kFloat8, options_.dtype}, out_features,
                                     in_features, !bias.empty()));
  if (!bias.empty()) BERTRAND_RETURN_IF_ERROR(Upload(bias, linear->bias()));
  BERTRAND_RETURN_IF_ERROR(Upload(std::span(scales).first(1), linear->input_scale()));
  BERTRAND_RETURN_IF_ERROR(Upload(std::span(scales).last(1), linear->weight_scale()));
  const MutexLock lock(load_mutex_);
  BERTRAND_RETURN_IF_ERROR(load_stream_->WriteFloats(weight, linear->weight(), scales[1]));
  BERTRAND_RETURN_IF_ERROR(load_stream_->Synchronize());
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
  if (device.dtype() == DType::kFloat16) BERTRAND_RETURN_IF_ERROR(CheckRange(host));
  const MutexLock lock(load_mutex_);
  if (device.dtype() == DType::kInt32) {
    BERTRAND_RETURN_IF_ERROR(
        load_stream_->stream().CopyToDevice(device.data(), host.data(), host.size_bytes()));
  } else {
    BERTRAND_RETURN_IF_ERROR(load_stream_->WriteFloats(host, device));
  }
  return load_stream_->Synchronize();
}

absl::Status GpuBackend::CopyToHost(Stream& stream, const TensorView& device,
                                    std::span<const std::span<float>> parts) const {
  size_t size = 0;
  for (const std::span<float>& part : parts) size += part.size();
  if ((device.dtype() != DType::kFloat32 && device.dtype() != options_.dtype) ||
      static_cast<int64_t>(size) != device.num_elements()) {
    return InvalidArgument("CopyToHost: source is " + device.ToString() + ", expected " +
                           Name(options_.dtype) + " with " + std::to_string(size) + " elements");
  }
  return Own(stream).CopyToHost(device, parts);
}

absl::Status GpuBackend::CopyToHost(Stream& stream, const TensorView& device,
                                    std::span<int32_t> host) const {
  if (device.dtype() != DType::kInt32 ||
      static_cast<int64_t>(host.size()) != device.num_elements()) {
    return InvalidArgument("CopyToHost: source is " + device.ToString() + ", expected int32 with " +
                           std::to_string(host.size()) + " elements");
  }
  return Own(stream).CopyToHost(device, host);
}

GemmParams ProductOf(const LinearParams& p) {
  const auto& linear = static_cast<const GpuLinear&>(*p.weight);
  return {.x = p.x,
          .weight = linear.weight(),
          .bias = linear.bias(),
          .activation = p.activation,
          .residual = p.residual,
          .y = p.y,
          .x_scale = linear.input_scale(),
          .weight_scale = linear.weight_scale()};
}

absl::Status GpuBackend::DoLinear(Stream& stream, const LinearParams& p) const {
  GemmParams params = ProductOf(p);
  if (!p.narrow.values) return Multiply(stream, params);
  // The sums alone, as y has no use but this where there is an activation; else all of y. What is
  // left to do writes float8.
  BiasActivationParams narrow = {.x = p.y, .y = p.narrow.values, .y_scale = p.narrow.scale};
  if (p.activation != Activation::kNone) {
    narrow.bias = std::exchange(params.bias, {});
    narrow.activation = std::exchange(params.activation, Activation::kNone);
  }
  BERTRAND_RETURN_IF_ERROR(Multiply(stream, params));
  return BiasActivation(narrow, Native(stream));
}

absl::Status GpuBackend::Multiply(Stream& stream, const GemmParams& params) const {
  if (params.weight.dim(0) <= kGemvOutputsMax && !params.float8()) {
    return Gemv(
        {params.x, params.weight, params.bias, params.activation, params.residual, params.y},
        Native(stream));
  }
  RememberShape(params);
  return gemm_->Run(params, Own(stream).workspace(), Native(stream));
}

void GpuBackend::RememberShape(const GemmParams& params) const {
  GemmKey key = Gemm::Key(params);
  key.m = 0;
  const MutexLock lock(shapes_mutex_);
  shapes_.insert(key);
}

absl::StatusOr<TuningReport> GpuBackend::Tune(int64_t max_tokens, std::chrono::milliseconds time,
                                              bool unverified) const {
  const auto end = std::chrono::steady_clock::now() + time;
  std::set<GemmKey> shapes;
  {
    const MutexLock lock(shapes_mutex_);
    shapes = shapes_;
  }
  const MutexLock lock(load_mutex_);
  ++num_tunings_;  // what was recorded has the choices of before
  TuningReport report;
  std::map<std::string, int> counts;
  if (unverified) {
    BERTRAND_ASSIGN_OR_RETURN(report.notes, attention_.Tune(end, load_stream_->stream()));
  } else {
    gemm_->LeaveOutHopper();
    if (device_->info().runs_hopper()) {
      report.notes.push_back("hopper_attention and hopper_gemm, not verified on a GPU, are unused");
    }
  }
  bool complete = true;
  for (int64_t m = 1; m <= GemmBucket(max_tokens); ++m) {
    m = GemmBucket(m);
    for (GemmKey key : shapes) {
      key.m = m;
      // What is on disk costs nothing: only measuring ends with the time.
      if (!gemm_->Tuned(key) && !gemm_->Remembers(key) && std::chrono::steady_clock::now() >= end) {
        complete = false;
        continue;
      }
      BERTRAND_RETURN_IF_ERROR(gemm_->Tune(key, load_stream_->stream()));
      if (const auto choice = gemm_->Tuned(key)) {
        report.shapes.push_back("gemm " + ToString(key) + ": " + ToString(*choice));
        ++counts[KindName(choice->kind)];
      }
    }
  }
  for (std::string& note : gemm_->Absent()) report.notes.push_back(std::move(note));
  std::string summary;
  for (const auto& [kind, count] : counts) {
    summary +=
        (summary.empty() ? "gemm: fastest is " : ", ") + kind + " for " + std::to_string(count);
  }
  if (!counts.empty()) report.notes.push_back(summary + " shapes");
  if (!complete) report.notes.push_back("gemm: some shapes stay untuned, the time is over");
  if (const absl::Status saved = gemm_->Save(); !saved.ok()) {
    report.notes.push_back("gemm: choices are not kept: " + Message(saved));
  }
  return report;
}

// Where our own kernel cuts k into splits, as it does for few rows, LayerNorm adds them up: one
// launch less, and no rounding in between.
absl::Status GpuBackend::DoNormedLinear(Stream& stream, const LinearParams& p) const {
  const GemmParams params = ProductOf(p);
  gpu::LayerNormParams norm = {.residual = p.residual,
                               .bias = params.bias,
                               .gamma = p.norm.gamma,
                               .beta = p.norm.beta,
                               .eps = p.norm.eps,
                               .y = p.y,
                               .y8 = p.narrow.values,
                               .y8_scale = p.narrow.scale};
  if (params.weight.dim(0) > kGemvOutputsMax && LayerNormTakesSplits(norm)) {
    BERTRAND_ASSIGN_OR_RETURN(norm.splits,
                              gemm_->RunSplits(params, Own(stream).workspace(), Native(stream)));
    if (norm.splits) {
      RememberShape(params);
      return gpu::LayerNorm(norm, Native(stream));
    }
  }
  LinearParams linear = p;
  linear.norm = {};
  linear.narrow = {};
  BERTRAND_RETURN_IF_ERROR(DoLinear(stream, linear));
  norm.x = p.y;
  norm.residual = norm.bias = {};
  return gpu::LayerNorm(norm, Native(stream));
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
                                         .out = p.narrow.values ? p.narrow.values : p.out,
                                         .out_scale = p.narrow.scale};
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
