// The parts of Encoder that only relative positions need.

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>

#include "kernels/status.h"
#include "models/encoder/encoder.h"

namespace bertrand {
namespace {

// Rows [first, first + count) of a matrix with `width` columns.
TensorView Rows(const Buffer& buffer, DType dtype, int64_t width, int64_t first, int64_t count) {
  return {static_cast<char*>(buffer.data()) + static_cast<size_t>(first * width) * SizeOf(dtype),
          dtype,
          {count, width}};
}

TensorView Slice(const TensorView& view, int64_t first, int64_t count) {
  return {view.as<int32_t>() + first, DType::kInt32, {count}};
}

}  // namespace

absl::Status Encoder::LoadRelative(const EncoderNames& names, int64_t group, int64_t index,
                                   const BlockInputs& inputs, WeightLoader& loader,
                                   BlockWeights* block) const {
  const int64_t hidden = config_.hidden_size;
  const int64_t heads = config_.num_heads, size = config_.head_size;
  const auto name = [group, index](const std::string& pattern) {
    return BlockName(pattern, group, index);
  };
  BERTRAND_ASSIGN_OR_RETURN(
      block->qkv,
      loader.IntoHeads(std::array{name(names.query), name(names.key), name(names.value)}, hidden,
                       heads, size, inputs.qkv));
  BERTRAND_ASSIGN_OR_RETURN(
      block->out, loader.OutOfHeads(name(names.attention_out), hidden, heads, size, inputs.out));
  BERTRAND_ASSIGN_OR_RETURN(
      block->distance, loader.IntoHeads(std::array{name(names.distance)}, hidden, heads, size));
  const std::pair<const std::string&, DeviceTensor*> biases[] = {
      {names.content_bias, &block->content_bias},
      {names.position_bias, &block->position_bias},
      {names.segment_bias, &block->segment_bias}};
  for (const auto& [pattern, tensor] : biases) {
    BERTRAND_ASSIGN_OR_RETURN(*tensor, loader.OfHeads(name(pattern), 0, heads, size));
  }
  BERTRAND_ASSIGN_OR_RETURN(block->segments, loader.OfHeads(name(names.segments), 2, heads, size));
  return absl::OkStatus();
}

absl::Status Encoder::StoreDistances() {
  const DistanceReach reach = StoredReach(config_);
  const int64_t rows = reach.num_rows(), hidden = config_.hidden_size;
  const DType dtype = backend_.activation_dtype();
  const size_t size_bytes = static_cast<size_t>(rows * hidden) * SizeOf(dtype);
  BERTRAND_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> sinusoids, backend_.Allocate(size_bytes));
  std::vector<float> memory;
  BERTRAND_RETURN_IF_ERROR(UploadSinusoids(-reach.behind, reach.ahead, *sinusoids, 0, memory));
  BERTRAND_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, backend_.CreateStream(rows));
  for (BlockWeights& block : blocks_) {
    BERTRAND_ASSIGN_OR_RETURN(block.distances.buffer, backend_.Allocate(size_bytes));
    const Buffer& buffer = *block.distances.buffer;
    BERTRAND_RETURN_IF_ERROR(
        backend_.Linear(*stream, {.x = Rows(*sinusoids, dtype, hidden, 0, rows),
                                  .weight = block.distance.get(),
                                  .y = Rows(buffer, dtype, hidden, 0, rows)}));
    block.distances.view = {buffer.data(), dtype, {rows, config_.num_heads, config_.head_size}};
    weight_bytes_ += size_bytes;
  }
  return backend_.Synchronize(*stream);
}

absl::Status Encoder::UploadSinusoids(int64_t first, int64_t last, const Buffer& to, int64_t row,
                                      std::vector<float>& memory) const {
  const int64_t hidden = config_.hidden_size,
                rows_each = std::max<int64_t>(1, int64_t{kSinusoidsEach} / hidden);
  memory.resize(static_cast<size_t>(rows_each * hidden));
  for (; first <= last; first += rows_each, row += rows_each) {
    const int64_t count = std::min(rows_each, last + 1 - first);
    const std::span<float> rows = std::span(memory).first(static_cast<size_t>(count * hidden));
    for (int64_t i = 0; i < count; ++i) {
      sinusoids_.Row(first + i,
                     rows.subspan(static_cast<size_t>(i * hidden), static_cast<size_t>(hidden)));
    }
    BERTRAND_RETURN_IF_ERROR(
        backend_.Upload(rows, Rows(to, backend_.activation_dtype(), hidden, row, count)));
  }
  return absl::OkStatus();
}

// How far the batch's keys lie, and the sinusoids of what no table has.
absl::Status Encoder::PrepareDistances(const EncoderBatch& batch,
                                       EncoderWorkspace& workspace) const {
  DistanceReach reach;
  for (size_t s = 1; s < batch.cu_seqlens_host.size(); ++s) {
    const int64_t length = batch.cu_seqlens_host[s] - batch.cu_seqlens_host[s - 1];
    reach.ahead = std::max(reach.ahead, length - 1);
  }
  reach.behind = reach.ahead;
  for (const BatchMemory& memory : batch.memories) {
    const int64_t length =
        batch.cu_seqlens_host[memory.sequence + 1] - batch.cu_seqlens_host[memory.sequence];
    reach.behind = std::max(reach.behind, memory.memory->num_tokens() + length - 1);
  }
  workspace.reach_ = reach;
  workspace.is_stored_ = IsStored(config_, reach);
  if (workspace.is_stored_) return absl::OkStatus();
  const int64_t center = workspace.sinusoids_center_;
  BERTRAND_CHECK(workspace.sinusoids_ != nullptr && reach.behind <= center,
                 "a longer sequence than the workspace is for");
  // Only what earlier batches had no need of: after a few there is nothing more to do.
  DistanceReach& filled = workspace.filled_;
  const auto fill = [&](int64_t first, int64_t last) {
    return UploadSinusoids(first, last, *workspace.sinusoids_, center + first,
                           workspace.sinusoid_rows_);
  };
  BERTRAND_RETURN_IF_ERROR(fill(-reach.behind, -filled.behind - 1));
  BERTRAND_RETURN_IF_ERROR(fill(filled.ahead + 1, reach.ahead));
  filled = {std::max(filled.behind, reach.behind), std::max(filled.ahead, reach.ahead)};
  return absl::OkStatus();
}

absl::Status Encoder::AttendRelative(Stream& stream, const BlockWeights& block, int64_t place,
                                     const EncoderBatch& batch, EncoderWorkspace& workspace) const {
  const int64_t tokens = batch.num_tokens(), hidden = config_.hidden_size;
  const int64_t heads = config_.num_heads, head_size = config_.head_size;
  RelativeAttentionParams params;
  params.positions = block.distances.view;
  params.center = StoredReach(config_).behind;
  if (!workspace.is_stored_) {
    const int64_t rows = workspace.reach_.num_rows();
    params.center = workspace.reach_.behind;
    params.positions = workspace.View(*workspace.distances_, {rows, heads, head_size});
    const int64_t first = workspace.sinusoids_center_ - params.center;
    const int64_t rows_each = workspace.sinusoids_center_ + 1;  // what the stream is made for
    for (int64_t row = 0; row < rows; row += rows_each) {
      const int64_t count = std::min(rows_each, rows - row);
      const DType dtype = workspace.dtype_;
      BERTRAND_RETURN_IF_ERROR(backend_.Linear(
          stream, {.x = Rows(*workspace.sinusoids_, dtype, hidden, first + row, count),
                   .weight = block.distance.get(),
                   .y = Rows(*workspace.distances_, dtype, hidden, row, count)}));
    }
  }
  params.qkv = workspace.View(*workspace.wide_, {tokens, 3, heads, head_size});
  params.content_bias = block.content_bias.view;
  params.position_bias = block.position_bias.view;
  params.segment_bias = block.segment_bias.view;
  params.segments = block.segments.view;
  params.type_ids = batch.type_ids;
  params.cu_seqlens = batch.cu_seqlens;
  params.cu_seqlens_host = batch.cu_seqlens_host;
  if (!batch.memories.empty()) {
    workspace.attention_memory_.assign(batch.cu_seqlens_host.size() - 1, AttentionMemory{});
    for (const BatchMemory& memory : batch.memories) {
      workspace.attention_memory_[memory.sequence] = memory.memory->Block(place);
    }
    params.memory = workspace.attention_memory_;
  }
  params.scale = 1.0f / std::sqrt(static_cast<float>(head_size));
  std::tie(params.out, params.narrow) = ContextFor(block, tokens, workspace);
  BERTRAND_RETURN_IF_ERROR(backend_.RelativeAttention(stream, params));
  return Remember(stream, place, batch, workspace);
}

// The batch's keys and values to where the memories have room, or their oldest rows. Nobody reads
// those any more: the next layer has a memory of its own.
absl::Status Encoder::Remember(Stream& stream, int64_t place, const EncoderBatch& batch,
                               EncoderWorkspace& workspace) const {
  const int64_t hidden = config_.hidden_size;
  const TensorView qkv = workspace.View(*workspace.wide_, {3 * batch.num_tokens(), hidden});
  for (const BatchMemory& memory : batch.memories) {
    const AttentionMemory block = memory.memory->Block(place);
    const int64_t count = memory.num_rows();
    const EncoderMemory::Place next = memory.memory->NextPlace(count);
    for (const bool is_key : {true, false}) {
      const TensorView& rows = is_key ? memory.key_rows : memory.value_rows;
      void* const ring = (is_key ? block.keys : block.values).data();
      const auto copy = [&](int64_t first, int64_t to, int64_t size) {
        const TensorView y(
            static_cast<char*>(ring) + static_cast<size_t>(to * hidden) * SizeOf(qkv.dtype()),
            qkv.dtype(), {size, hidden});
        return backend_.Gather(stream, {qkv, Slice(rows, first, size), 0, y});
      };
      BERTRAND_RETURN_IF_ERROR(copy(0, next.row, next.size));
      if (next.size < count) BERTRAND_RETURN_IF_ERROR(copy(next.size, 0, count - next.size));
    }
  }
  return absl::OkStatus();
}

}  // namespace bertrand
