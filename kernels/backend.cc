#include "kernels/backend.h"

#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/gpu/device_list.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "kernels/status.h"

namespace bertrand {
namespace {

using Shape = std::initializer_list<int64_t>;

// The widest head any backend's attention has registers or scratch for.
constexpr int64_t kMaxHeadSize = 256;
// Of a sequence whose spans are ranked: places and lengths are numbers of 16 bits.
constexpr int32_t kSpanTokensMax = 65536;

// "Linear: x is float32[2,3], expected float32[2,4]".
absl::Status Mismatch(const char* op, const char* operand, const TensorView& actual,
                      const std::string& expected) {
  return InvalidArgument(std::string(op) + ": " + operand + " is " + actual.ToString() +
                         ", expected " + expected);
}

// The operand has this type and shape, and data unless it has no elements.
absl::Status Check(const char* op, const char* operand, const TensorView& view, DType dtype,
                   Shape shape) {
  if (view.dtype() != dtype || !view.HasShape(shape)) {
    return Mismatch(op, operand, view, TensorView(nullptr, dtype, shape).ToString());
  }
  if (view.data() == nullptr && view.num_elements() != 0) {
    return Mismatch(op, operand, view, "data, not a null address");
  }
  return absl::OkStatus();
}

absl::Status CheckOptional(const char* op, const char* operand, const TensorView& view, DType dtype,
                           Shape shape) {
  return view.rank() == 0 ? absl::OkStatus() : Check(op, operand, view, dtype, shape);
}

// The first operand of an operation, which gives it its sizes: `rank` dimensions of the
// activations' type.
absl::Status CheckLeading(const char* op, const char* operand, const TensorView& view, DType dtype,
                          int rank) {
  if (view.dtype() != dtype || view.rank() != rank) {
    return Mismatch(op, operand, view,
                    std::string(Name(dtype)) + " with " + std::to_string(rank) + " dimensions");
  }
  if (view.data() == nullptr && view.num_elements() != 0) {
    return Mismatch(op, operand, view, "data, not a null address");
  }
  return absl::OkStatus();
}

// A table and the indices into it are both there or both absent.
absl::Status CheckTable(const char* name, const TensorView& ids, const TensorView& table,
                        DType dtype, int64_t tokens, int64_t width) {
  if (ids.rank() == 0 && table.rank() == 0) return absl::OkStatus();
  const std::string ids_name = std::string(name) + "_ids";
  BERTRAND_RETURN_IF_ERROR(Check("Embedding", ids_name.c_str(), ids, DType::kInt32, {tokens}));
  return Check("Embedding", name, table, dtype, {table.rank() == 2 ? table.dim(0) : 0, width});
}

absl::Status CheckCuSeqlens(const char* op, const TensorView& cu_seqlens,
                            std::span<const int32_t> host, int64_t tokens) {
  if (host.empty() || host.front() != 0 || host.back() > tokens) {
    const std::string found = host.empty() ? "empty"
                                           : "from " + std::to_string(host.front()) + " to " +
                                                 std::to_string(host.back());
    return InvalidArgument(std::string(op) + ": cu_seqlens_host is " + found +
                           ", expected from 0 to at most " + std::to_string(tokens));
  }
  for (size_t i = 1; i < host.size(); ++i) {
    if (host[i] < host[i - 1]) {
      return InvalidArgument(std::string(op) + ": cu_seqlens_host[" + std::to_string(i) + "] is " +
                             std::to_string(host[i]) + ", expected at least " +
                             std::to_string(host[i - 1]));
    }
  }
  return Check(op, "cu_seqlens", cu_seqlens, DType::kInt32, {static_cast<int64_t>(host.size())});
}

// A second output, or one in another's place.
absl::Status CheckNarrow(const char* op, const Backend& backend, const NarrowOutput& narrow,
                         Shape shape) {
  if (narrow.values.rank() == 0 && narrow.scale.rank() == 0) return absl::OkStatus();
  BERTRAND_RETURN_IF_ERROR(backend.CheckFloat8());
  BERTRAND_RETURN_IF_ERROR(Check(op, "narrow", narrow.values, DType::kFloat8, shape));
  return Check(op, "narrow's scale", narrow.scale, DType::kFloat32, {1});
}

// qkv gives the sizes; out, or what is in its place, has its rows.
absl::Status CheckHeads(const char* op, const Backend& backend, const TensorView& qkv,
                        const TensorView& out, const NarrowOutput& narrow) {
  const DType dtype = backend.activation_dtype();
  BERTRAND_RETURN_IF_ERROR(CheckLeading(op, "qkv", qkv, dtype, 4));
  const int64_t tokens = qkv.dim(0), heads = qkv.dim(2), size = qkv.dim(3);
  BERTRAND_RETURN_IF_ERROR(Check(op, "qkv", qkv, dtype, {tokens, 3, heads, size}));
  BERTRAND_RETURN_IF_ERROR(CheckNarrow(op, backend, narrow, {tokens, heads, size}));
  if (narrow.values.rank() == 0) {
    BERTRAND_RETURN_IF_ERROR(Check(op, "out", out, dtype, {tokens, heads, size}));
  } else if (out.rank() != 0) {
    return Mismatch(op, "out", out, "none beside narrow");
  }
  if (heads >= 1 && size >= 1 && size <= kMaxHeadSize) return absl::OkStatus();
  return Mismatch(op, "qkv", qkv,
                  "heads >= 1 and 1 <= head_size <= " + std::to_string(kMaxHeadSize));
}

absl::Status CheckMemory(const RelativeAttentionParams& params, DType dtype) {
  const int64_t heads = params.qkv.dim(2), size = params.qkv.dim(3);
  const size_t num_sequences = params.cu_seqlens_host.size() - 1;
  if (!params.memory.empty() && params.memory.size() != num_sequences) {
    return InvalidArgument("RelativeAttention: memory of " + std::to_string(params.memory.size()) +
                           " sequences, expected none or " + std::to_string(num_sequences));
  }
  for (const AttentionMemory& memory : params.memory) {
    const int64_t capacity = memory.keys.rank() == 0 ? 0 : memory.keys.dim(0);
    for (const TensorView* rows : {&memory.keys, &memory.values}) {
      if (capacity == 0 && rows->rank() == 0) continue;
      BERTRAND_RETURN_IF_ERROR(
          Check("RelativeAttention", "memory", *rows, dtype, {capacity, heads, size}));
    }
    if (memory.size < 0 || memory.size > capacity || memory.first < 0 ||
        memory.first >= std::max<int64_t>(capacity, 1)) {
      return InvalidArgument("RelativeAttention: memory of " + std::to_string(memory.size) +
                             " rows from " + std::to_string(memory.first) + " in a ring of " +
                             std::to_string(capacity));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Backend::Embedding(Stream& stream, const EmbeddingParams& params) const {
  const DType dtype = activation_dtype();
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Embedding", "y", params.y, dtype, 2));
  const int64_t tokens = params.y.dim(0), width = params.y.dim(1);
  BERTRAND_RETURN_IF_ERROR(Check("Embedding", "ids", params.ids, DType::kInt32, {tokens}));
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Embedding", "word", params.word, dtype, 2));
  BERTRAND_RETURN_IF_ERROR(
      Check("Embedding", "word", params.word, dtype, {params.word.dim(0), width}));
  BERTRAND_RETURN_IF_ERROR(
      CheckTable("position", params.position_ids, params.position, dtype, tokens, width));
  BERTRAND_RETURN_IF_ERROR(CheckTable("type", params.type_ids, params.type, dtype, tokens, width));
  if (params.gamma.rank() != 0 || params.beta.rank() != 0) {
    BERTRAND_RETURN_IF_ERROR(Check("Embedding", "gamma", params.gamma, dtype, {width}));
    BERTRAND_RETURN_IF_ERROR(Check("Embedding", "beta", params.beta, dtype, {width}));
  }
  BERTRAND_RETURN_IF_ERROR(CheckNarrow("Embedding", *this, params.narrow, {tokens, width}));
  if (params.y.num_elements() == 0) return absl::OkStatus();
  return DoEmbedding(stream, params);
}

absl::Status Backend::Linear(Stream& stream, const LinearParams& params) const {
  const DType dtype = activation_dtype();
  if (params.weight == nullptr) return InvalidArgument("Linear: weight is absent");
  const DType x_dtype = params.weight->input_scale() ? DType::kFloat8 : dtype;
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Linear", "x", params.x, x_dtype, 2));
  const int64_t rows = params.x.dim(0);
  const int64_t out = params.weight->out_features();
  BERTRAND_RETURN_IF_ERROR(
      Check("Linear", "x", params.x, x_dtype, {rows, params.weight->in_features()}));
  BERTRAND_RETURN_IF_ERROR(Check("Linear", "y", params.y, dtype, {rows, out}));
  BERTRAND_RETURN_IF_ERROR(
      CheckOptional("Linear", "residual", params.residual, dtype, {rows, out}));
  BERTRAND_RETURN_IF_ERROR(CheckNarrow("Linear", *this, params.narrow, {rows, out}));
  const bool normed = params.norm.gamma || params.norm.beta;
  if (!normed && params.narrow.values.rank() != 0 && params.residual.rank() != 0) {
    return Mismatch("Linear", "residual", params.residual, "none beside narrow");
  }
  if (normed) {
    BERTRAND_RETURN_IF_ERROR(Check("Linear", "norm.gamma", params.norm.gamma, dtype, {out}));
    BERTRAND_RETURN_IF_ERROR(Check("Linear", "norm.beta", params.norm.beta, dtype, {out}));
  }
  if (rows == 0) return absl::OkStatus();
  if (params.y.data() == params.x.data()) {
    return InvalidArgument("Linear: y is x's memory, expected another");
  }
  return normed ? DoNormedLinear(stream, params) : DoLinear(stream, params);
}

absl::Status Backend::DoNormedLinear(Stream& stream, const LinearParams& params) const {
  LinearParams linear = params;
  linear.norm = {};
  linear.narrow = {};
  BERTRAND_RETURN_IF_ERROR(DoLinear(stream, linear));
  return DoLayerNorm(stream, {.x = params.y,
                              .gamma = params.norm.gamma,
                              .beta = params.norm.beta,
                              .eps = params.norm.eps,
                              .y = params.y,
                              .narrow = params.narrow});
}

absl::Status Backend::Attention(Stream& stream, const AttentionParams& params) const {
  BERTRAND_RETURN_IF_ERROR(CheckHeads("Attention", *this, params.qkv, params.out, params.narrow));
  const int64_t tokens = params.qkv.dim(0);
  BERTRAND_RETURN_IF_ERROR(
      CheckCuSeqlens("Attention", params.cu_seqlens, params.cu_seqlens_host, tokens));
  if (tokens == 0) return absl::OkStatus();
  return DoAttention(stream, params);
}

absl::Status Backend::RelativeAttention(Stream& stream,
                                        const RelativeAttentionParams& params) const {
  constexpr const char* kOp = "RelativeAttention";
  const DType dtype = activation_dtype();
  BERTRAND_RETURN_IF_ERROR(CheckHeads(kOp, *this, params.qkv, params.out, params.narrow));
  const int64_t tokens = params.qkv.dim(0), heads = params.qkv.dim(2), size = params.qkv.dim(3);
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "content_bias", params.content_bias, dtype, {heads, size}));
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "position_bias", params.position_bias, dtype, {heads, size}));
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "segment_bias", params.segment_bias, dtype, {heads, size}));
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "segments", params.segments, dtype, {2, heads, size}));
  BERTRAND_RETURN_IF_ERROR(CheckLeading(kOp, "positions", params.positions, dtype, 3));
  const int64_t num_positions = params.positions.dim(0);
  BERTRAND_RETURN_IF_ERROR(
      Check(kOp, "positions", params.positions, dtype, {num_positions, heads, size}));
  if (params.center < 0 || params.center >= num_positions) {
    return InvalidArgument("RelativeAttention: center is " + std::to_string(params.center) +
                           ", expected a row of positions, which is " +
                           params.positions.ToString());
  }
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "type_ids", params.type_ids, DType::kInt32, {tokens}));
  BERTRAND_RETURN_IF_ERROR(CheckCuSeqlens(kOp, params.cu_seqlens, params.cu_seqlens_host, tokens));
  BERTRAND_RETURN_IF_ERROR(CheckMemory(params, dtype));
  if (tokens == 0) return absl::OkStatus();
  return DoRelativeAttention(stream, params);
}

absl::Status Backend::LayerNorm(Stream& stream, const LayerNormParams& params) const {
  const DType dtype = activation_dtype();
  BERTRAND_RETURN_IF_ERROR(CheckLeading("LayerNorm", "x", params.x, dtype, 2));
  const int64_t tokens = params.x.dim(0), width = params.x.dim(1);
  BERTRAND_RETURN_IF_ERROR(
      CheckOptional("LayerNorm", "residual", params.residual, dtype, {tokens, width}));
  BERTRAND_RETURN_IF_ERROR(Check("LayerNorm", "gamma", params.gamma, dtype, {width}));
  BERTRAND_RETURN_IF_ERROR(Check("LayerNorm", "beta", params.beta, dtype, {width}));
  BERTRAND_RETURN_IF_ERROR(Check("LayerNorm", "y", params.y, dtype, {tokens, width}));
  BERTRAND_RETURN_IF_ERROR(CheckNarrow("LayerNorm", *this, params.narrow, {tokens, width}));
  if (params.x.num_elements() == 0) return absl::OkStatus();
  return DoLayerNorm(stream, params);
}

absl::Status Backend::Pool(Stream& stream, const PoolParams& params) const {
  const DType dtype = activation_dtype();
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Pool", "x", params.x, dtype, 2));
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Pool", "out", params.out, dtype, 2));
  const int64_t rows = params.out.dim(0);
  BERTRAND_RETURN_IF_ERROR(Check("Pool", "begin", params.begin, DType::kInt32, {rows}));
  BERTRAND_RETURN_IF_ERROR(Check("Pool", "end", params.end, DType::kInt32, {rows}));
  BERTRAND_RETURN_IF_ERROR(
      Check("Pool", "weight_begin", params.weight_begin, DType::kInt32, {rows}));
  if (params.column < 0 || params.column + params.x.dim(1) > params.out.dim(1)) {
    return InvalidArgument("Pool: columns " + std::to_string(params.column) + " to " +
                           std::to_string(params.column + params.x.dim(1)) + " of out, which is " +
                           params.out.ToString());
  }
  if (rows == 0) return absl::OkStatus();
  return DoPool(stream, params);
}

absl::Status Backend::Normalize(Stream& stream, const NormalizeParams& params) const {
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Normalize", "x", params.x, activation_dtype(), 2));
  if (params.x.num_elements() == 0) return absl::OkStatus();
  return DoNormalize(stream, params);
}

absl::Status Backend::Gather(Stream& stream, const GatherParams& params) const {
  const DType dtype = activation_dtype();
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Gather", "x", params.x, dtype, 2));
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Gather", "y", params.y, dtype, 2));
  BERTRAND_RETURN_IF_ERROR(Check("Gather", "rows", params.rows, DType::kInt32, {params.y.dim(0)}));
  if (params.column < 0 || params.column + params.x.dim(1) > params.y.dim(1)) {
    return InvalidArgument("Gather: columns " + std::to_string(params.column) + " to " +
                           std::to_string(params.column + params.x.dim(1)) + " of y, which is " +
                           params.y.ToString());
  }
  if (params.y.dim(0) == 0) return absl::OkStatus();
  return DoGather(stream, params);
}

absl::Status Backend::Softmax(Stream& stream, const SoftmaxParams& params) const {
  BERTRAND_RETURN_IF_ERROR(CheckLeading("Softmax", "x", params.x, activation_dtype(), 2));
  if (params.x.num_elements() == 0) return absl::OkStatus();
  return DoSoftmax(stream, params);
}

absl::Status Backend::TopK(Stream& stream, const TopKParams& params) const {
  const DType dtype = activation_dtype();
  BERTRAND_RETURN_IF_ERROR(CheckLeading("TopK", "x", params.x, dtype, 2));
  BERTRAND_RETURN_IF_ERROR(CheckLeading("TopK", "values", params.values, dtype, 2));
  const int64_t rows = params.x.dim(0), k = params.values.dim(1);
  BERTRAND_RETURN_IF_ERROR(Check("TopK", "values", params.values, dtype, {rows, k}));
  BERTRAND_RETURN_IF_ERROR(Check("TopK", "indices", params.indices, DType::kInt32, {rows, k}));
  int64_t candidates = params.x.dim(1);
  if (params.columns.rank() != 0) {
    candidates = params.columns.dim(0);
    BERTRAND_RETURN_IF_ERROR(Check("TopK", "columns", params.columns, DType::kInt32, {candidates}));
  }
  if (k < 1 || k > candidates) {
    return InvalidArgument("TopK: " + std::to_string(k) + " of " + std::to_string(candidates) +
                           " values, expected 1 or more, and not more than there are");
  }
  if (rows == 0) return absl::OkStatus();
  return DoTopK(stream, params);
}

absl::Status Backend::SparsePool(Stream& stream, const SparsePoolParams& params) const {
  const DType dtype = activation_dtype();
  BERTRAND_RETURN_IF_ERROR(CheckLeading("SparsePool", "x", params.x, dtype, 2));
  BERTRAND_RETURN_IF_ERROR(Check("SparsePool", "y", params.y, dtype, {params.x.dim(1)}));
  if (params.x.num_elements() == 0) return absl::OkStatus();
  return DoSparsePool(stream, params);
}

absl::Status Backend::BestSpans(Stream& stream, const SpanParams& params) const {
  constexpr const char* kOp = "BestSpans";
  BERTRAND_RETURN_IF_ERROR(CheckLeading(kOp, "logits", params.logits, activation_dtype(), 2));
  const int64_t tokens = params.logits.dim(0);
  BERTRAND_RETURN_IF_ERROR(
      Check(kOp, "logits", params.logits, activation_dtype(), {tokens, int64_t{2}}));
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "masked", params.masked, DType::kInt32, {tokens}));
  const std::span<const int32_t> host = params.cu_seqlens_host;
  BERTRAND_RETURN_IF_ERROR(CheckCuSeqlens(kOp, params.cu_seqlens, host, tokens));
  const int64_t n = static_cast<int64_t>(host.size()) - 1;
  for (size_t i = 1; i < host.size(); ++i) {
    const int32_t length = host[i] - host[i - 1];
    if (length >= 1 && length <= kSpanTokensMax) continue;
    return InvalidArgument("BestSpans: sequence " + std::to_string(i - 1) + " has " +
                           std::to_string(length) + " tokens, expected 1 to " +
                           std::to_string(kSpanTokensMax));
  }
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "null_tokens", params.null_tokens, DType::kInt32, {n}));
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "tokens_max", params.tokens_max, DType::kInt32, {n}));
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "first", params.first, DType::kInt32, {n + 1}));
  const int64_t rows = params.spans.rank() == 2 ? params.spans.dim(0) : 0;
  BERTRAND_RETURN_IF_ERROR(Check(kOp, "spans", params.spans, DType::kInt32, {rows, int64_t{3}}));
  if (rows < n) {
    return InvalidArgument("BestSpans: spans has " + std::to_string(rows) + " rows for " +
                           std::to_string(n) + " sequences, expected one each or more");
  }
  if (tokens == 0) return absl::OkStatus();
  return DoBestSpans(stream, params);
}

absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(std::string_view device, ThreadPool& pool,
                                                       DType dtype,
                                                       const std::string& cache_folder) {
  const std::string name(device);
  if (name == "emulated" || name.rfind("emulated:", 0) == 0) {
    // Emulating every product of a forward would take too long.
    return gpu::CreateGpuBackend(
        simt::Device::Emulated(simt::ProfileH100()),
        {name,
         dtype,
         {.own_kernels = gpu::GemmOptions::OwnKernels::kRarely, .cache_folder = cache_folder}});
  }
  if (name == "cuda" || name.rfind("cuda:", 0) == 0) {
    auto backend = CreateCudaBackend(name, dtype, cache_folder);
    if (backend.ok()) return backend;
    return Annotate(backend.status(), "device '" + name + "' (there is 'cpu', too)");
  }
  if (name != "cpu" && name != "reference") {
    return InvalidArgument("unknown device '" + name +
                           "'; known: cpu, reference, cuda, cuda:N, emulated");
  }
  if (dtype != DType::kFloat32) {
    return InvalidArgument("device '" + name + "' with " + Name(dtype) +
                           ", which computes in float32");
  }
  return name == "cpu" ? CreateCpuBackend(pool) : CreateReferenceBackend();
}

}  // namespace bertrand
