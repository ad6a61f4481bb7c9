#pragma once

// The operations a BERT-family encoder is made of, fused as far as they can be, on one device.
//
// A Backend owns its device and creates Buffers (device memory), PackedLinear weights and Streams.
// It is immutable after creation and thread-safe; a Stream is one slot of work in flight and is
// used by one thread at a time. Every operation is asynchronous on its stream: results are valid
// after Synchronize. (A CPU's stream computes before it returns.) Operations allocate nothing: what
// they need beyond their operands is sized when the stream is made.
//
// The public operations check shapes and types once and return InvalidArgument before any work; the
// Do... virtuals may rely on those checks. tokens == 0 or rows == 0 does nothing. Operands absent
// by default-made views are named "optional". Unless said otherwise all tensors of one call have
// the same floating type, which is that of the activations (Backend::activation_dtype()).
//
// Packed sequences: T tokens of n sequences end to end; cu_seqlens int32 [n+1] rises from
// cu_seqlens[0] = 0 to cu_seqlens[n] <= T. Rows beyond are nobody's (they fill a batch up to a size
// that is replayed): what reads sequences leaves them as they are.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "kernels/thread_pool.h"

namespace bertrand {

// As the checkpoint names them: erf GELU and its tanh approximation are never swapped.
enum class Activation : uint8_t { kNone, kGeluErf, kGeluTanh, kRelu, kSilu, kTanh, kSigmoid };

enum class PoolingMode : uint8_t { kCls, kMean, kMax, kMeanSqrtLen, kWeightedMean, kLastToken };

// Device memory; freed with the object. Aligned to 256 bytes, and readable to the next multiple.
class Buffer {
 public:
  virtual ~Buffer() = default;
  void* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }

 protected:
  Buffer(void* data, size_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  void* data_;
  size_t size_bytes_;
};

// The weight [out, in] and bias of a linear layer, in whatever layout the backend multiplies
// fastest, made once at load.
class PackedLinear {
 public:
  virtual ~PackedLinear() = default;
  int64_t out_features() const { return out_features_; }
  int64_t in_features() const { return in_features_; }
  size_t size_bytes() const { return size_bytes_; }
  // What PackFloat8 has made has the scale of its input, float32 [1]: such a layer reads float8
  // (NarrowOutput). Absent: the layer reads activations.
  const TensorView& input_scale() const { return input_scale_; }

 protected:
  PackedLinear(int64_t out_features, int64_t in_features, size_t size_bytes)
      : out_features_(out_features), in_features_(in_features), size_bytes_(size_bytes) {}
  int64_t out_features_, in_features_;
  size_t size_bytes_;
  TensorView input_scale_;
};

// The input of a layer from PackFloat8, which whoever computes it writes: float8 (e4m3), where a
// value stands for itself times the layer's input_scale(); what is beyond 448 times that becomes
// the nearest value that is not. Optional: only where Backend::CheckFloat8() is OK.
struct NarrowOutput {
  TensorView values, scale;
};

// What products and outputs in float8 require: multiples of kFloat8Multiple for a layer's inputs
// and outputs, of kFloat8HeadMultiple for the size of a head; LayerNorm rows of at most
// kFloat8HiddenMax.
inline constexpr int64_t kFloat8Multiple = 16;
inline constexpr int64_t kFloat8HeadMultiple = 8;
inline constexpr int64_t kFloat8HiddenMax = 4096;

class Stream {
 public:
  virtual ~Stream() = default;
};

// y[t] = LayerNorm(word[ids[t]] + position[position_ids[t]] + type[type_ids[t]]) * gamma + beta.
// Shapes: ids, position_ids, type_ids int32 [T]; word [V, E]; position [P, E], type [S, E] optional
// with their ids; gamma, beta [E] optional together (no normalisation then); y, narrow (optional)
// [T, E].
// Requires: ids in range (validated by the caller on the host, in one place).
// Numerics: sums and statistics in float, two-pass variance, eps inside the root.
struct EmbeddingParams {
  TensorView ids, position_ids, type_ids;
  TensorView word, position, type;
  TensorView gamma, beta;
  float eps = 0;
  TensorView y;
  NarrowOutput narrow;
};

// A normalisation's weights, [width], and what is added to the variance.
struct RowNorm {
  TensorView gamma, beta;
  float eps = 0;
};

// y = activation(x W^T + bias) + residual.
// Shapes: x [M, in]; y, residual (optional), narrow (optional, without residual unless there is a
// norm) [M, out]. y may equal residual, not x.
// Types: x float8 where weight->input_scale() is there.
// With narrow and an activation, but no norm, y is the memory of sums on the way, and of no use
// afterwards: the next product alone reads the activation's results.
// Numerics: float accumulation; bias, activation and residual in float before one rounding.
struct LinearParams {
  TensorView x;
  const PackedLinear* weight = nullptr;
  Activation activation = Activation::kNone;
  TensorView residual;
  TensorView y;
  NarrowOutput narrow;
  // Optional: y and narrow are LayerNorm's results of the above (LayerNormParams), which may not
  // have been rounded in between.
  RowNorm norm;
};

// Softmax(Q K^T * scale) V for each sequence and head, over packed sequences.
// Shapes: qkv [T, 3, heads, head_size]; cu_seqlens int32 [n+1]; out, or narrow in its place, [T,
// heads, head_size].
// Requires: head_size <= 256; cu_seqlens_host equal to cu_seqlens (grids are cut on the host).
// Numerics: scores, maxima and sums in float; an online softmax. Memory linear in T.
struct AttentionParams {
  TensorView qkv;
  TensorView cu_seqlens;
  std::span<const int32_t> cu_seqlens_host;
  float scale = 1;
  TensorView out;
  NarrowOutput narrow;
};

// Keys and values of the tokens before a sequence: `size` rows, oldest first, in a ring. Row
// (first + j) % capacity is that of the j-th.
// Shapes: keys, values [capacity, heads, head_size].
// Requires: 0 <= size <= capacity, 0 <= first < capacity.
struct AttentionMemory {
  TensorView keys, values;  // absent: no memory
  int64_t first = 0, size = 0;
};

// Softmax(scores * scale) V for each sequence and head, over packed sequences, where the score of
// query row i and key j of a sequence has a part for their distance and one for their segments
// (transformers' modeling_xlnet.py, rel_attn_core):
//
//   (q_i + content_bias) k_j + (q_i + position_bias) positions[center + j - i]
//     + (q_i + segment_bias) segments[type_i != type_j]
//
// Keys are the memory's (j < 0, -1 the newest; their type is 0), then the sequence's own. The
// relative shift is this index into a table that does not depend on the input: the sinusoids of
// i - j times the layer's weight. Beyond the table its first or last row is taken: where distances
// are clamped, a table of the distinct ones is enough.
// Shapes: qkv [T, 3, heads, head_size]; the biases [heads, head_size]; positions [P, heads,
// head_size]; segments [2, heads, head_size], the same and another; type_ids int32 [T]; cu_seqlens
// int32 [n+1]; memory empty or n; out, or narrow in its place, [T, heads, head_size].
// Requires: head_size <= 256; P >= 1, 0 <= center < P; cu_seqlens_host equal to cu_seqlens;
// |type_ids| < 2^24.
// Numerics: as Attention; the three parts of a score are added in float. What a row's keys have in
// common (the same segment's part) may be left out, being nothing to a softmax.
// Memory: that of a block of keys, whatever the sequence's length. out apart from all others.
struct RelativeAttentionParams {
  TensorView qkv;
  TensorView content_bias, position_bias, segment_bias;
  TensorView positions;
  int64_t center = 0;
  TensorView segments;
  TensorView type_ids;
  TensorView cu_seqlens;
  std::span<const int32_t> cu_seqlens_host;
  std::span<const AttentionMemory> memory;
  float scale = 1;
  TensorView out;
  NarrowOutput narrow;
};

// y = LayerNorm(x + residual) * gamma + beta, row by row.
// Shapes: x, residual (optional), y, narrow (optional) [T, H]; gamma, beta [H]. y may equal x or
// residual.
// Numerics: statistics in float, two-pass variance, eps inside the root.
struct LayerNormParams {
  TensorView x, residual;
  TensorView gamma, beta;
  float eps = 0;
  TensorView y;
  NarrowOutput narrow;
};

// out[r, column : column + H] = pooled rows [begin[r], end[r]) of x, as sentence-transformers does
// it (models/Pooling.py): cls: row begin; lasttoken: row end-1; max; mean; mean_sqrt_len: sum /
// sqrt(count); weightedmean: weights 1, 2, ..., counted from weight_begin[r] (the sequence's first
// row: rows left out by include_prompt keep their weights' places; before row 0 where a document
// began in an earlier batch).
// Shapes: x [T, H]; begin, end, weight_begin int32 [R]; out [R, W], column + H <= W.
// An empty range gives zeros.
struct PoolParams {
  TensorView x;
  TensorView begin, end, weight_begin;
  PoolingMode mode = PoolingMode::kMean;
  int64_t column = 0;
  TensorView out;
};

// x = x / max(|x|_2, 1e-12) row by row, in place (torch.nn.functional.normalize).
// Shapes: x [R, D].
struct NormalizeParams {
  TensorView x;
};

// y[r, column : column + H] = x[rows[r]]: the rows that a head looks at.
// Shapes: x [T, H]; rows int32 [R]; y [R, W], column + H <= W. Other columns stay as they are.
// Requires: rows in range.
struct GatherParams {
  TensorView x, rows;
  int64_t column = 0;
  TensorView y;
};

// x = softmax(x) row by row, in place.
// Shapes: x [R, V].
// Numerics: the maximum is taken away first; exponentials and sums in float.
struct SoftmaxParams {
  TensorView x;
};

// The k largest values of each row and where they stand, the largest first; of equal ones the one
// that comes first. With `columns` (optional) only these stand for election, in their order.
// Shapes: x [R, V]; columns int32 [C]; values [R, k]; indices int32 [R, k], columns of x.
// Requires: 1 <= k <= C, or V without columns; columns in range.
struct TopKParams {
  TensorView x, columns;
  TensorView values, indices;
};

// y = max(y, max over rows of f(x)), or y + the sum over rows, where f(x) = log1p(relu(x)) or that
// through log1p once more (sentence_transformers' SpladePooling.py).
// Shapes: x [R, V]; y [V], 0 before the first rows.
struct SparsePoolParams {
  TensorView x;
  bool sum = false;
  bool log_twice = false;
  TensorView y;
};

// A span of a sequence's tokens, both ends inclusive: a row of SpanParams::spans.
struct ScoredSpan {
  int32_t start = -1, end = -1;
  float score = 0;
};
static_assert(sizeof(ScoredSpan) == 3 * sizeof(int32_t));

// The best answers of each sequence, and its score of "no answer" (transformers'
// question_answering.py: select_starts_ends, decode_spans). A column of logits gives probabilities
// by a softmax over the sequence's tokens, -10000 in place of what is masked; a span's score is
// P(start) * P(end), in float.
// Rows [first[i], first[i + 1]) of spans are for sequence i: (null, null) with its score, where
// null is null_tokens[i]; then the best spans of at most tokens_max[i] tokens that have a score
// above 0 and touch neither null nor anything masked, best first, of equal ones the earlier start,
// then the earlier end. Where there are fewer, (-1, -1, 0) follows.
// Shapes: logits [T, 2], start and end; masked int32 [T], not 0 where masked; cu_seqlens, first
// int32 [n+1]; null_tokens, tokens_max int32 [n]; spans int32 [first[n], 3], rows as ScoredSpan.
// Requires: no sequence is empty or has more than 65536 tokens; null_tokens within their sequence;
// tokens_max >= 1; first ascends from 0 by at least 1; cu_seqlens_host equal to cu_seqlens.
// Numerics: exponentials in float, rounded once more by the division; equal logits have equal
// probabilities. A logit that is not finite makes the sequence's null score NaN.
// Memory: linear in T.
struct SpanParams {
  TensorView logits;
  TensorView masked;
  TensorView cu_seqlens;
  std::span<const int32_t> cu_seqlens_host;
  TensorView null_tokens, tokens_max;
  TensorView first;
  TensorView spans;
};

// What Backend::Tune has settled, as lines for a log.
struct TuningReport {
  std::vector<std::string> shapes;  // one for each shape
  std::vector<std::string> notes;   // what is absent, who is fastest, what was not done
};

class Backend {
 public:
  virtual ~Backend() = default;

  // "cpu", "reference", "cuda:0": for logs and ModelInfo.
  virtual std::string name() const = 0;
  virtual DType activation_dtype() const = 0;
  // True when device addresses are host addresses.
  virtual bool host_memory() const = 0;

  // ResourceExhausted when the device has no room.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t size_bytes) const = 0;

  // Memory of the host from which copies to the device are fastest. (Of a device whose memory is
  // the host's: any.)
  virtual absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(size_t size_bytes) const = 0;

  // weight [out, in] and bias [out] (may be empty) as float32 host memory, row-major; not kept.
  virtual absl::StatusOr<std::unique_ptr<PackedLinear>> PackLinear(std::span<const float> weight,
                                                                   std::span<const float> bias,
                                                                   int64_t out_features,
                                                                   int64_t in_features) const = 0;

  // Whether there are PackFloat8 and narrow outputs; FailedPrecondition names the device and what
  // it lacks.
  virtual absl::Status CheckFloat8() const = 0;
  // As PackLinear, in float8: the weight with a scale of its own, its largest magnitude / 448; the
  // input with input_max / 448, where input_max is the largest magnitude that it is expected to
  // have. The bias stays as activations are.
  virtual absl::StatusOr<std::unique_ptr<PackedLinear>> PackFloat8(std::span<const float> weight,
                                                                   std::span<const float> bias,
                                                                   int64_t out_features,
                                                                   int64_t in_features,
                                                                   float input_max) const = 0;

  // One slot of work in flight, for batches of at most max_tokens tokens.
  virtual absl::StatusOr<std::unique_ptr<Stream>> CreateStream(int64_t max_tokens) const = 0;

  // Float32 host values -> device memory of activation_dtype() (or int32 as it is). At load only:
  // synchronous. InvalidArgument for a value that float16 has no number for (above 65504).
  virtual absl::Status Upload(std::span<const float> host, const TensorView& device) const = 0;

  // Asynchronous copies; host memory must stay until Synchronize.
  virtual absl::Status CopyToDevice(Stream& stream, const void* host, void* device,
                                    size_t size_bytes) const = 0;
  // Converts activation_dtype() to float32 on the way.
  virtual absl::Status CopyToHost(Stream& stream, const TensorView& device,
                                  std::span<float> host) const = 0;
  // The values, in order, to one part after the other, which together have as many.
  virtual absl::Status CopyToHost(Stream& stream, const TensorView& device,
                                  std::span<const std::span<float>> parts) const = 0;
  // int32 as they are.
  virtual absl::Status CopyToHost(Stream& stream, const TensorView& device,
                                  std::span<int32_t> host) const = 0;
  // flag int32 [1] becomes 1 where a value of x is infinite or NaN, else stays as it is. In
  // backends of float32 alone, whose range transformers has too, it does nothing.
  virtual absl::Status CheckFinite(Stream&, const TensorView& /*x*/,
                                   const TensorView& /*flag*/) const {
    return absl::OkStatus();
  }
  // y = 0.
  virtual absl::Status Clear(Stream& stream, const TensorView& y) const = 0;
  virtual absl::Status Synchronize(Stream& stream) const = 0;

  // Does `work`: operations on `stream` alone, the same ones with the same operands, at the same
  // addresses and of the same sizes, whenever the key is the same for this stream. No copies from
  // or to the host and no Synchronize are among them. A device may remember them, and do them
  // without calling `work`: starting them one by one takes longer than small ones take. Where it
  // may, replays() is true, and it pays to give batches of similar sizes the same key.
  virtual bool replays() const { return false; }
  virtual absl::Status Replay(Stream& /*stream*/, uint64_t /*key*/,
                              const std::function<absl::Status()>& work) const {
    return work();
  }

  // At load, after a forward of each model, and before work is recorded: settles how linear layers
  // of the shapes seen so far are computed, for batches of up to max_tokens tokens. What no earlier
  // run has left on disk is measured, for about `time` in all and the small batches first. Kernels
  // that would hang where they are wrong are tried, or taken from the disk, only with `unverified`.
  // Not beside other work.
  virtual absl::StatusOr<TuningReport> Tune(int64_t /*max_tokens*/,
                                            std::chrono::milliseconds /*time*/,
                                            bool /*unverified*/) const {
    return TuningReport();
  }

  absl::Status Embedding(Stream& stream, const EmbeddingParams& params) const;
  absl::Status Linear(Stream& stream, const LinearParams& params) const;
  absl::Status Attention(Stream& stream, const AttentionParams& params) const;
  absl::Status RelativeAttention(Stream& stream, const RelativeAttentionParams& params) const;
  absl::Status LayerNorm(Stream& stream, const LayerNormParams& params) const;
  absl::Status Pool(Stream& stream, const PoolParams& params) const;
  absl::Status Normalize(Stream& stream, const NormalizeParams& params) const;
  absl::Status Gather(Stream& stream, const GatherParams& params) const;
  absl::Status Softmax(Stream& stream, const SoftmaxParams& params) const;
  absl::Status TopK(Stream& stream, const TopKParams& params) const;
  absl::Status SparsePool(Stream& stream, const SparsePoolParams& params) const;
  absl::Status BestSpans(Stream& stream, const SpanParams& params) const;

 private:
  virtual absl::Status DoEmbedding(Stream& stream, const EmbeddingParams& params) const = 0;
  // Without a norm, and with one.
  virtual absl::Status DoLinear(Stream& stream, const LinearParams& params) const = 0;
  virtual absl::Status DoNormedLinear(Stream& stream, const LinearParams& params) const = 0;
  virtual absl::Status DoAttention(Stream& stream, const AttentionParams& params) const = 0;
  virtual absl::Status DoRelativeAttention(Stream& stream,
                                           const RelativeAttentionParams& params) const = 0;
  virtual absl::Status DoLayerNorm(Stream& stream, const LayerNormParams& params) const = 0;
  virtual absl::Status DoPool(Stream& stream, const PoolParams& params) const = 0;
  virtual absl::Status DoNormalize(Stream& stream, const NormalizeParams& params) const = 0;
  virtual absl::Status DoGather(Stream& stream, const GatherParams& params) const = 0;
  virtual absl::Status DoSoftmax(Stream& stream, const SoftmaxParams& params) const = 0;
  virtual absl::Status DoTopK(Stream& stream, const TopKParams& params) const = 0;
  virtual absl::Status DoSparsePool(Stream& stream, const SparsePoolParams& params) const = 0;
  virtual absl::Status DoBestSpans(Stream& stream, const SpanParams& params) const = 0;
};

// "cpu": Highway kernels over `pool`, which must outlive the backend (docs/cpu.md). "reference":
// plain loops with float64 accumulation, for tests. "cuda", "cuda:N": the GPU's kernels, from
// libbertrand_cuda.so. "emulated", "emulated:N": the same on the CPU, checked at every access
// (docs/emulator.md); far too slow to serve. `dtype`: of the activations; "cpu" and "reference"
// have float32 alone, the others float16 and bfloat16 too. `cache_folder`: where what Tune measures
// is kept; empty: nowhere. InvalidArgument names an unknown device or type and the known ones;
// FailedPrecondition or Internal say what CUDA lacks.
absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(std::string_view device, ThreadPool& pool,
                                                       DType dtype = DType::kFloat32,
                                                       const std::string& cache_folder = "");

}  // namespace bertrand
