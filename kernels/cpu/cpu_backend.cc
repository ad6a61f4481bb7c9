#include "kernels/cpu/cpu_backend.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/relative_attention_kernels.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/score_kernels.h"
#include "kernels/cpu/span_search.h"
#include "kernels/host_backend.h"
#include "kernels/status.h"

namespace bertrand {
namespace {

// What one thread does between two looks at the loop's index: long beside the microsecond or so
// that handing a tile to another thread costs, short beside a forward, so that the threads end
// together.
constexpr double kTileTimeUs = 4;

// Rough speeds of one core, to turn sizes into times; only the number of tiles depends on them.
constexpr double kFlopsPerUs = 1e5;
constexpr double kWeightBytesPerUs = 1e4;
constexpr double kElementsPerUs = 2e3;  // of rows: read, normalised, written
constexpr double kAttentionTileOverheadUs = 0.3;

// The second-level cache of one core; what the smallest server cores have where the system does not
// say.
size_t SecondLevelCacheBytes() {
  const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return bytes > 0 ? static_cast<size_t>(bytes) : size_t{512} << 10;
}

size_t CeilDivide(size_t value, size_t divisor) { return (value + divisor - 1) / divisor; }

// A thread's scratch: either kind of attention's. What no head is wide enough for is never touched.
size_t AttentionScratchFloats() {
  return std::max(ChooseAttentionKernels().scratch_floats,
                  ChooseRelativeAttentionKernels().scratch_floats);
}

class CpuLinear final : public PackedLinear {
 public:
  CpuLinear(int64_t out_features, int64_t in_features, size_t panel_width,
            std::unique_ptr<Buffer> memory)
      : PackedLinear(out_features, in_features, memory->size_bytes()),
        num_panels_(CeilDivide(static_cast<size_t>(out_features), panel_width)),
        panel_floats_(panel_width * static_cast<size_t>(in_features)),
        memory_(std::move(memory)) {}

  size_t num_panels() const { return num_panels_; }
  float* panel(size_t index) const {
    return static_cast<float*>(memory_->data()) + index * panel_floats_;
  }
  // Padded with zeros to whole panels.
  float* bias() const { return panel(num_panels_); }

 private:
  const size_t num_panels_, panel_floats_;
  const std::unique_ptr<Buffer> memory_;
};

// Query rows [query_begin, query_begin + queries) of a sequence of `length` rows from `begin`.
struct QueryBlock {
  int32_t sequence, begin, length, query_begin, queries;
};

class CpuStream final : public Stream {
 public:
  explicit CpuStream(int64_t max_tokens)
      : blocks_(static_cast<size_t>(max_tokens)),
        probabilities_(2 * static_cast<size_t>(max_tokens)) {}

  // Cuts each sequence into blocks of at most `queries_max` query rows, as equal as they can be.
  // Requires: no more than max_tokens tokens. Empty sequences have no block.
  std::span<const QueryBlock> Cut(std::span<const int32_t> cu_seqlens, int32_t queries_max) {
    size_t count = 0;
    for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
      const int32_t begin = cu_seqlens[s], length = cu_seqlens[s + 1] - begin;
      const int32_t parts = length == 0 ? 0 : (length - 1) / queries_max + 1;
      for (int32_t part = 0, row = 0; part < parts; ++part) {
        const int32_t queries = (length - row + parts - part - 1) / (parts - part);
        blocks_[count++] = {static_cast<int32_t>(s), begin, length, row, queries};
        row += queries;
      }
    }
    return std::span(blocks_).first(count);
  }
  // InvalidArgument when an operation has more tokens than the stream is made for.
  absl::Status CheckTokens(const char* op, int64_t tokens) const {
    if (tokens <= static_cast<int64_t>(blocks_.size())) return absl::OkStatus();
    return InvalidArgument(std::string(op) + ": " + std::to_string(tokens) +
                           " tokens on a stream made for " + std::to_string(blocks_.size()));
  }
  // Scratch, two floats a token.
  float* probabilities() { return probabilities_.data(); }

 private:
  std::vector<QueryBlock> blocks_;
  std::vector<float> probabilities_;
};

class CpuBackend final : public HostBackend {
 public:
  // `scratch` has AttentionScratchFloats() for each slot of the pool.
  CpuBackend(ThreadPool& pool, std::unique_ptr<Buffer> scratch)
      : pool_(pool), scratch_(std::move(scratch)) {}

  std::string name() const override { return "cpu"; }
  absl::StatusOr<std::unique_ptr<PackedLinear>> PackLinear(std::span<const float> weight,
                                                           std::span<const float> bias,
                                                           int64_t out_features,
                                                           int64_t in_features) const override;
  absl::StatusOr<std::unique_ptr<Stream>> CreateStream(int64_t max_tokens) const override;

 private:
  absl::Status DoEmbedding(Stream& stream, const EmbeddingParams& params) const override;
  absl::Status DoLinear(Stream& stream, const LinearParams& params) const override;
  absl::Status DoAttention(Stream& stream, const AttentionParams& params) const override;
  absl::Status DoRelativeAttention(Stream& stream,
                                   const RelativeAttentionParams& params) const override;
  absl::Status DoLayerNorm(Stream& stream, const LayerNormParams& params) const override;
  absl::Status DoPool(Stream& stream, const PoolParams& params) const override;
  absl::Status DoNormalize(Stream& stream, const NormalizeParams& params) const override;
  absl::Status DoGather(Stream& stream, const GatherParams& params) const override;
  absl::Status DoSoftmax(Stream& stream, const SoftmaxParams& params) const override;
  absl::Status DoTopK(Stream& stream, const TopKParams& params) const override;
  absl::Status DoSparsePool(Stream& stream, const SparsePoolParams& params) const override;
  absl::Status DoBestSpans(Stream& stream, const SpanParams& params) const override;

  // Calls visit(row) for `rows` rows, several to a tile where a row of `elements` is short.
  template <typename Visit>
  void ForEachRow(int64_t rows, double elements, const Visit& visit) const;
  // Runs units [0, count), as many to a tile as take kTileTimeUs.
  template <typename Visit>
  void ForEachUnit(int64_t count, double unit_us, const Visit& visit) const;

  // Into how many parts a linear layer's rows are cut: the fewest such that a part stays in the
  // second-level cache beside a panel of weights, because it is read again for every panel; but
  // enough to give each thread some units, in parts of at least two blocks of registers.
  size_t NumRowTiles(size_t rows, size_t row_bytes, size_t num_panels) const;

  // Query rows of attention's blocks: many, because each block packs K and V; fewer for more
  // threads than there are heads, and with very many keys, where a block would take too long.
  int32_t QueriesMax(int64_t tokens, int64_t keys_max, size_t heads) const;
  // Calls visit(block, head, scratch) for every head of every block; flops of a score.
  template <typename Visit>
  void ForEachHead(std::span<const QueryBlock> blocks, size_t heads, double scores,
                   double score_flops, const Visit& visit) const;

  ThreadPool& pool_;
  const size_t l2_bytes_ = SecondLevelCacheBytes();
  const LinearKernels& linear_ = ChooseLinearKernels();
  const AttentionKernels& attention_ = ChooseAttentionKernels();
  const RelativeAttentionKernels& relative_attention_ = ChooseRelativeAttentionKernels();
  const RowKernels& rows_ = ChooseRowKernels();
  const ScoreKernels& scores_ = ChooseScoreKernels();
  const size_t scratch_floats_ = AttentionScratchFloats();
  const std::unique_ptr<Buffer> scratch_;
};

template <typename Visit>
void CpuBackend::ForEachUnit(int64_t count, double unit_us, const Visit& visit) const {
  const int64_t units_a_tile = std::max<int64_t>(1, static_cast<int64_t>(kTileTimeUs / unit_us));
  pool_.ParallelFor((count + units_a_tile - 1) / units_a_tile, [&](int64_t tile, int slot) {
    const int64_t end = std::min(count, (tile + 1) * units_a_tile);
    for (int64_t unit = tile * units_a_tile; unit < end; ++unit) visit(unit, slot);
  });
}

template <typename Visit>
void CpuBackend::ForEachRow(int64_t rows, double elements, const Visit& visit) const {
  ForEachUnit(rows, elements / kElementsPerUs, [&](int64_t row, int) { visit(row); });
}

absl::StatusOr<std::unique_ptr<PackedLinear>> CpuBackend::PackLinear(std::span<const float> weight,
                                                                     std::span<const float> bias,
                                                                     int64_t out_features,
                                                                     int64_t in_features) const {
  BERTRAND_RETURN_IF_ERROR(CheckPackLinear(weight, bias, out_features, in_features));
  const size_t out = static_cast<size_t>(out_features), in = static_cast<size_t>(in_features);
  const size_t padded_out = CeilDivide(out, linear_.panel_width) * linear_.panel_width;
  BERTRAND_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> memory,
                            Allocate(padded_out * (in + 1) * sizeof(float)));
  auto packed = std::make_unique<CpuLinear>(out_features, in_features, linear_.panel_width,
                                            std::move(memory));
  pool_.ParallelFor(static_cast<int64_t>(packed->num_panels()), [&](int64_t index, int) {
    const size_t panel = static_cast<size_t>(index);
    linear_.pack_panel(weight.data(), out, in, panel * linear_.panel_width, packed->panel(panel));
  });
  std::fill_n(packed->bias(), padded_out, 0.0f);
  std::copy(bias.begin(), bias.end(), packed->bias());
  return std::unique_ptr<PackedLinear>(std::move(packed));
}

absl::StatusOr<std::unique_ptr<Stream>> CpuBackend::CreateStream(int64_t max_tokens) const {
  BERTRAND_RETURN_IF_ERROR(CheckMaxTokens(max_tokens));
  return std::unique_ptr<Stream>(std::make_unique<CpuStream>(max_tokens));
}

absl::Status CpuBackend::DoEmbedding(Stream&, const EmbeddingParams& params) const {
  const size_t width = static_cast<size_t>(params.y.dim(1));
  const auto entry = [width](const TensorView& table, const TensorView& ids,
                             int64_t token) -> const float* {
    if (!table) return nullptr;
    return table.as<float>() + static_cast<size_t>(ids.as<int32_t>()[token]) * width;
  };
  ForEachRow(params.y.dim(0), static_cast<double>(width), [&](int64_t token) {
    rows_.sum_and_normalize(entry(params.word, params.ids, token),
                            entry(params.position, params.position_ids, token),
                            entry(params.type, params.type_ids, token), params.gamma.as<float>(),
                            params.beta.as<float>(), params.eps, width,
                            params.y.as<float>() + static_cast<size_t>(token) * width);
  });
  return absl::OkStatus();
}

size_t CpuBackend::NumRowTiles(size_t rows, size_t row_bytes, size_t num_panels) const {
  const size_t cache = l2_bytes_ / 4 * 3, panel_bytes = row_bytes * linear_.panel_width;
  const size_t budget = std::max(cache - std::min(cache, panel_bytes), cache / 6);
  const size_t for_cache = CeilDivide(rows, std::max(linear_.max_rows, budget / row_bytes));
  const size_t units_wanted = 4 * static_cast<size_t>(pool_.num_threads());
  const size_t for_threads =
      std::min(CeilDivide(units_wanted, num_panels), CeilDivide(rows, 2 * linear_.max_rows));
  return std::max(for_cache, for_threads);
}

absl::Status CpuBackend::DoLinear(Stream&, const LinearParams& params) const {
  const auto& weight = static_cast<const CpuLinear&>(*params.weight);
  const size_t rows = static_cast<size_t>(params.x.dim(0));
  const size_t in = static_cast<size_t>(weight.in_features());
  const size_t out = static_cast<size_t>(weight.out_features());
  const size_t width = linear_.panel_width;

  // Units are (rows, panel), the panel fastest: threads share the rows in the cache.
  const size_t row_tiles = NumRowTiles(rows, in * sizeof(float), weight.num_panels());
  const size_t tile_rows = CeilDivide(rows, row_tiles);
  // With two threads on one layer, each takes about every second panel; alone, a panel fetched two
  // ahead is still in the cache when its turn comes. With more threads each has hardly a second
  // one.
  const size_t panels_ahead = static_cast<size_t>(std::min(pool_.num_threads(), 2));
  const double panel_flops = 2.0 * static_cast<double>(tile_rows * in * width);
  const double panel_bytes = static_cast<double>(in * width * sizeof(float));
  const double unit_us = panel_flops / kFlopsPerUs + panel_bytes / kWeightBytesPerUs;
  ForEachUnit(static_cast<int64_t>(row_tiles * weight.num_panels()), unit_us,
              [&](int64_t unit, int) {
                const size_t row = static_cast<size_t>(unit) / weight.num_panels() * tile_rows;
                const size_t panel = static_cast<size_t>(unit) % weight.num_panels();
                const size_t column = panel * width;
                const size_t corner = row * out + column;
                if (row >= rows) return;
                linear_.run_tile({
                    .x = params.x.as<float>() + row * in,
                    .rows = std::min(tile_rows, rows - row),
                    .depth = in,
                    .panel = weight.panel(panel),
                    .ahead = weight.panel(panel + panels_ahead),
                    .bias = weight.bias() + column,
                    .columns = out - column,
                    .activation = params.activation,
                    .residual = params.residual ? params.residual.as<float>() + corner : nullptr,
                    .y = params.y.as<float>() + corner,
                    .y_stride = out,
                });
              });
  return absl::OkStatus();
}

int32_t CpuBackend::QueriesMax(int64_t tokens, int64_t keys_max, size_t heads) const {
  // Scores of one head between two looks for urgent tasks: 2 to 4 ms with heads of 64.
  constexpr int64_t kScoresMax = int64_t{1} << 20;
  int32_t queries_max = kAttentionQueryBlock;
  while (queries_max > 64 && queries_max * keys_max > kScoresMax) queries_max /= 2;
  while (queries_max > 32 &&
         tokens / queries_max * static_cast<int64_t>(heads) < int64_t{2} * pool_.num_threads()) {
    queries_max /= 2;
  }
  return queries_max;
}

template <typename Visit>
void CpuBackend::ForEachHead(std::span<const QueryBlock> blocks, size_t heads, double scores,
                             double score_flops, const Visit& visit) const {
  const double flops = scores / static_cast<double>(blocks.size()) * score_flops;
  const double unit_us = kAttentionTileOverheadUs + flops / kFlopsPerUs;
  ForEachUnit(static_cast<int64_t>(blocks.size() * heads), unit_us, [&](int64_t unit, int slot) {
    const size_t index = static_cast<size_t>(unit);
    visit(blocks[index / heads], index % heads,
          static_cast<float*>(scratch_->data()) + static_cast<size_t>(slot) * scratch_floats_);
  });
}

absl::Status CpuBackend::DoAttention(Stream& stream, const AttentionParams& params) const {
  auto& cpu_stream = static_cast<CpuStream&>(stream);
  const int64_t tokens = params.qkv.dim(0);
  BERTRAND_RETURN_IF_ERROR(cpu_stream.CheckTokens("Attention", tokens));
  const size_t heads = static_cast<size_t>(params.qkv.dim(2));
  const size_t head_size = static_cast<size_t>(params.qkv.dim(3));
  const size_t width = heads * head_size, stride = 3 * width;
  double scores = 0;
  int64_t keys_max = 0;
  for (size_t s = 1; s < params.cu_seqlens_host.size(); ++s) {
    const int64_t length = params.cu_seqlens_host[s] - params.cu_seqlens_host[s - 1];
    keys_max = std::max(keys_max, length);
    scores += static_cast<double>(length) * static_cast<double>(length);
  }
  const std::span<const QueryBlock> blocks =
      cpu_stream.Cut(params.cu_seqlens_host, QueriesMax(tokens, keys_max, heads));
  ForEachHead(blocks, heads, scores, 4 * static_cast<double>(head_size),
              [&](const QueryBlock& block, size_t head, float* scratch) {
                const size_t first_row = static_cast<size_t>(block.begin);
                const size_t query_row = first_row + static_cast<size_t>(block.query_begin);
                const float* qkv = params.qkv.as<float>() + head * head_size;
                attention_.run_tile(
                    {
                        .q = qkv + query_row * stride,
                        .queries = static_cast<size_t>(block.queries),
                        .k = qkv + first_row * stride + width,
                        .v = qkv + first_row * stride + 2 * width,
                        .length = static_cast<size_t>(block.length),
                        .head_size = head_size,
                        .stride = stride,
                        .scale = params.scale,
                        .out = params.out.as<float>() + query_row * width + head * head_size,
                        .out_stride = width,
                    },
                    scratch);
              });
  return absl::OkStatus();
}

// The tile of one head and some query rows.
RelativeAttentionTile RelativeTile(const RelativeAttentionParams& params, const QueryBlock& block,
                                   size_t head) {
  const size_t head_size = static_cast<size_t>(params.qkv.dim(3));
  const size_t width = static_cast<size_t>(params.qkv.dim(2)) * head_size;
  const size_t first_row = static_cast<size_t>(block.begin);
  const size_t query_row = first_row + static_cast<size_t>(block.query_begin);
  const size_t column = head * head_size;
  const auto at = [column](const TensorView& view) { return view.as<float>() + column; };
  const float* own = at(params.qkv) + first_row * 3 * width;
  RelativeAttentionTile tile{
      .q = at(params.qkv) + query_row * 3 * width,
      .q_stride = 3 * width,
      .queries = static_cast<size_t>(block.queries),
      .first_query = static_cast<size_t>(block.query_begin),
      .k = {nullptr, width, own + width, 3 * width},
      .v = {nullptr, width, own + 2 * width, 3 * width},
      .length = static_cast<size_t>(block.length),
      .memory_first = 0,
      .memory_size = 0,
      .memory_capacity = 1,
      .head_size = head_size,
      .content_bias = at(params.content_bias),
      .position_bias = at(params.position_bias),
      .segment_bias = at(params.segment_bias),
      .positions = at(params.positions),
      .num_positions = static_cast<size_t>(params.positions.dim(0)),
      .position_stride = width,
      .center = params.center,
      .same_segment = at(params.segments),
      .other_segment = at(params.segments) + width,
      .type_ids = params.type_ids.as<int32_t>() + first_row,
      .scale = params.scale,
      .out = at(params.out) + query_row * width,
      .out_stride = width,
  };
  if (params.memory.empty()) return tile;
  const AttentionMemory& memory = params.memory[static_cast<size_t>(block.sequence)];
  if (memory.size == 0) return tile;
  tile.k.memory = at(memory.keys);
  tile.v.memory = at(memory.values);
  tile.memory_first = static_cast<size_t>(memory.first);
  tile.memory_size = static_cast<size_t>(memory.size);
  tile.memory_capacity = static_cast<size_t>(memory.keys.dim(0));
  return tile;
}

absl::Status CpuBackend::DoRelativeAttention(Stream& stream,
                                             const RelativeAttentionParams& params) const {
  auto& cpu_stream = static_cast<CpuStream&>(stream);
  const int64_t tokens = params.qkv.dim(0);
  BERTRAND_RETURN_IF_ERROR(cpu_stream.CheckTokens("RelativeAttention", tokens));
  const size_t heads = static_cast<size_t>(params.qkv.dim(2));
  double scores = 0;
  int64_t keys_max = 0;
  for (size_t s = 1; s < params.cu_seqlens_host.size(); ++s) {
    const int64_t length = params.cu_seqlens_host[s] - params.cu_seqlens_host[s - 1];
    const int64_t keys = length + (params.memory.empty() ? 0 : params.memory[s - 1].size);
    keys_max = std::max(keys_max, keys);
    scores += static_cast<double>(length) * static_cast<double>(keys);
  }
  const std::span<const QueryBlock> blocks =
      cpu_stream.Cut(params.cu_seqlens_host, QueriesMax(tokens, keys_max, heads));
  // Three products, the band's a little wider than the other two.
  const double score_flops = 7 * static_cast<double>(params.qkv.dim(3));
  ForEachHead(blocks, heads, scores, score_flops,
              [&](const QueryBlock& block, size_t head, float* scratch) {
                relative_attention_.run_tile(RelativeTile(params, block, head), scratch);
              });
  return absl::OkStatus();
}

absl::Status CpuBackend::DoLayerNorm(Stream&, const LayerNormParams& params) const {
  const size_t width = static_cast<size_t>(params.x.dim(1));
  ForEachRow(params.x.dim(0), static_cast<double>(width), [&](int64_t row) {
    const size_t offset = static_cast<size_t>(row) * width;
    rows_.sum_and_normalize(params.x.as<float>() + offset,
                            params.residual ? params.residual.as<float>() + offset : nullptr,
                            nullptr, params.gamma.as<float>(), params.beta.as<float>(), params.eps,
                            width, params.y.as<float>() + offset);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::DoPool(Stream&, const PoolParams& params) const {
  const size_t width = static_cast<size_t>(params.x.dim(1));
  const size_t out_width = static_cast<size_t>(params.out.dim(1));
  const int64_t rows = params.out.dim(0);
  double elements = 0;
  for (int64_t r = 0; r < rows; ++r) {
    elements += params.end.as<int32_t>()[r] - params.begin.as<int32_t>()[r];
  }
  elements = std::max(1.0, elements / static_cast<double>(rows)) * static_cast<double>(width);
  ForEachRow(rows, elements, [&](int64_t r) {
    rows_.pool(params.x.as<float>(), width, params.begin.as<int32_t>()[r],
               params.end.as<int32_t>()[r], params.weight_begin.as<int32_t>()[r], params.mode,
               width,
               params.out.as<float>() + static_cast<size_t>(r) * out_width +
                   static_cast<size_t>(params.column));
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::DoNormalize(Stream&, const NormalizeParams& params) const {
  const size_t width = static_cast<size_t>(params.x.dim(1));
  ForEachRow(params.x.dim(0), static_cast<double>(width), [&](int64_t row) {
    rows_.normalize(params.x.as<float>() + static_cast<size_t>(row) * width, width);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::DoGather(Stream&, const GatherParams& params) const {
  const size_t width = static_cast<size_t>(params.x.dim(1));
  const size_t y_width = static_cast<size_t>(params.y.dim(1));
  ForEachRow(params.y.dim(0), static_cast<double>(width), [&](int64_t r) {
    const float* row =
        params.x.as<float>() + static_cast<size_t>(params.rows.as<int32_t>()[r]) * width;
    std::copy_n(row, width,
                params.y.as<float>() + static_cast<size_t>(r) * y_width +
                    static_cast<size_t>(params.column));
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::DoSoftmax(Stream&, const SoftmaxParams& params) const {
  const size_t width = static_cast<size_t>(params.x.dim(1));
  ForEachRow(params.x.dim(0), 4 * static_cast<double>(width), [&](int64_t row) {
    scores_.softmax(params.x.as<float>() + static_cast<size_t>(row) * width, width);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::DoTopK(Stream&, const TopKParams& params) const {
  const size_t width = static_cast<size_t>(params.x.dim(1));
  const size_t k = static_cast<size_t>(params.values.dim(1));
  const bool all = params.columns.rank() == 0;
  const size_t candidates = all ? width : static_cast<size_t>(params.columns.dim(0));
  ForEachRow(params.x.dim(0), 2 * static_cast<double>(candidates), [&](int64_t r) {
    const size_t row = static_cast<size_t>(r);
    SelectLargest(params.x.as<float>() + row * width, all ? nullptr : params.columns.as<int32_t>(),
                  candidates, k, params.values.as<float>() + row * k,
                  params.indices.as<int32_t>() + row * k);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::DoSparsePool(Stream&, const SparsePoolParams& params) const {
  constexpr size_t kColumns = 512;
  const size_t rows = static_cast<size_t>(params.x.dim(0));
  const size_t width = static_cast<size_t>(params.x.dim(1));
  const double elements = static_cast<double>(rows * kColumns);
  ForEachRow(static_cast<int64_t>(CeilDivide(width, kColumns)), elements, [&](int64_t block) {
    const size_t column = static_cast<size_t>(block) * kColumns;
    scores_.sparse_pool(params.x.as<float>() + column, rows, width,
                        std::min(kColumns, width - column), params.sum, params.log_twice,
                        params.y.as<float>() + column);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::DoBestSpans(Stream& stream, const SpanParams& params) const {
  auto& cpu_stream = static_cast<CpuStream&>(stream);
  const int64_t tokens = params.logits.dim(0), sequences = params.null_tokens.dim(0);
  BERTRAND_RETURN_IF_ERROR(cpu_stream.CheckTokens("BestSpans", tokens));
  const auto number = [](const TensorView& of, int64_t index) {
    return static_cast<size_t>(of.as<int32_t>()[index]);
  };
  // An exponential is worth some ten elements.
  const double elements = 20 * static_cast<double>(tokens) / static_cast<double>(sequences);
  ForEachRow(sequences, elements, [&](int64_t i) {
    const size_t begin = number(params.cu_seqlens, i), first = number(params.first, i);
    SearchSpans({
        .logits = params.logits.as<float>() + 2 * begin,
        .masked = params.masked.as<int32_t>() + begin,
        .size = number(params.cu_seqlens, i + 1) - begin,
        .null_token = number(params.null_tokens, i),
        .tokens_max = number(params.tokens_max, i),
        .probabilities = cpu_stream.probabilities() + 2 * begin,
        .spans = static_cast<ScoredSpan*>(params.spans.data()) + first,
        .rows = number(params.first, i + 1) - first,
    });
  });
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(ThreadPool& pool) {
  const size_t scratch_floats = AttentionScratchFloats() * static_cast<size_t>(pool.num_slots());
  std::unique_ptr<Buffer> scratch = AllocateHostBuffer(scratch_floats * sizeof(float));
  if (scratch == nullptr) {
    return ResourceExhausted("no host memory for the threads' scratch of " +
                             std::to_string(scratch_floats * sizeof(float)) + " bytes");
  }
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(pool, std::move(scratch)));
}

}  // namespace bertrand
