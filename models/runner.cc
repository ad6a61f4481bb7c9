#include "models/runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "kernels/status.h"
#include "models/document_memory.h"

namespace bertrand {
namespace {

// int32 values in 256 bytes, the alignment of a part.
constexpr int64_t kPartAlignment = 64;
// kUnset and the seven choices, each normalised or not.
constexpr int kNumPoolings = 8;
constexpr int kGroupsMax = 2 * kNumPoolings;

int64_t Aligned(int64_t size) {
  return (size + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
}

int GroupKey(const EmbedOutput& embed, bool normalizes) {
  const int pooling = embed.pooling ? static_cast<int>(*embed.pooling) : 0;
  return 2 * pooling + (embed.normalize.value_or(normalizes) ? 1 : 0);
}

// The row of the position table for each token.
void NumberTokens(const EncoderConfig& config, std::span<const int32_t> ids, int32_t* positions) {
  auto next = static_cast<int32_t>(config.position_offset);
  const auto before_first = next - 1;
  for (size_t i = 0; i < ids.size(); ++i) {
    positions[i] = ids[i] == config.unnumbered_id ? before_first : next++;
  }
}

std::string Where(size_t index) { return "sequence " + std::to_string(index) + ": "; }

TensorView Slice(const TensorView& view, int64_t first, int64_t count) {
  return {view.as<int32_t>() + first, DType::kInt32, {count}};
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelRunner>> PackedRunner::Create(
    const Encoder& encoder, const EmbedHead& head, const Backend& backend, int64_t max_tokens,
    int64_t max_sequences, const TaskHeads* heads, std::span<BlockInputs> observed) {
  constexpr int64_t kTokensMax = std::numeric_limits<int32_t>::max() / 2;
  if (max_tokens < 1 || max_tokens > kTokensMax || max_sequences < 1) {
    return InvalidArgument("a runner for " + std::to_string(max_tokens) + " tokens in " +
                           std::to_string(max_sequences) + " sequences, expected 1 to " +
                           std::to_string(kTokensMax) + " tokens in at least one sequence");
  }
  // No sequence is empty.
  max_sequences = std::min(max_sequences, max_tokens);
  // Batches are filled up where they are replayed.
  const int64_t rows_max = backend.replays() ? FilledTokens(max_tokens) : max_tokens;
  const int64_t lengths_max =
      backend.replays() ? std::max(max_sequences, ReplaySequencesMax(rows_max)) : max_sequences;
  BERTRAND_ASSIGN_OR_RETURN(EncoderWorkspace encoder_workspace,
                            EncoderWorkspace::Create(backend, encoder, rows_max, max_sequences));
  encoder_workspace.Observe(observed);
  BERTRAND_ASSIGN_OR_RETURN(EmbedWorkspace embed_workspace,
                            EmbedWorkspace::Create(backend, head, max_sequences));
  std::unique_ptr<PackedRunner> runner(new PackedRunner(encoder, head, backend, max_tokens,
                                                        max_sequences, std::move(encoder_workspace),
                                                        std::move(embed_workspace)));
  if (heads != nullptr && heads->any()) {
    BERTRAND_ASSIGN_OR_RETURN(runner->head_runner_,
                              HeadRunner::Create(*heads, backend, max_tokens));
  }
  BERTRAND_ASSIGN_OR_RETURN(runner->stream_, backend.CreateStream(rows_max));
  BERTRAND_RETURN_IF_ERROR(runner->encoder_workspace_.Clear(backend, *runner->stream_));
  BERTRAND_ASSIGN_OR_RETURN(runner->device_flag_, backend.Allocate(sizeof(int32_t)));
  const int64_t memory_rows = encoder.config().is_relative() ? 2 * max_tokens : 0;
  const int64_t block_size = 3 * Aligned(rows_max) + Aligned(lengths_max + 1) +
                             Aligned(memory_rows) + 4 * Aligned(max_sequences);
  BERTRAND_ASSIGN_OR_RETURN(runner->block_,
                            backend.Allocate(static_cast<size_t>(block_size) * sizeof(int32_t)));
  if (!backend.host_memory()) {
    BERTRAND_ASSIGN_OR_RETURN(runner->host_block_,
                              backend.AllocateHost(runner->block_->size_bytes()));
  }
  runner->row_sequence_.reserve(static_cast<size_t>(max_sequences));
  runner->parts_.reserve(static_cast<size_t>(max_sequences));
  runner->groups_.reserve(kGroupsMax);
  if (encoder.config().is_relative()) {
    runner->memories_.reserve(static_cast<size_t>(max_sequences));
    runner->segments_.reserve(static_cast<size_t>(max_sequences));
  }
  runner->run_layers_ = [runner = runner.get()] { return runner->RunLayers(); };
  return std::unique_ptr<ModelRunner>(std::move(runner));
}

PackedRunner::PackedRunner(const Encoder& encoder, const EmbedHead& head, const Backend& backend,
                           int64_t max_tokens, int64_t max_sequences,
                           EncoderWorkspace encoder_workspace, EmbedWorkspace embed_workspace)
    : encoder_(encoder),
      head_(head),
      backend_(backend),
      max_tokens_(max_tokens),
      max_sequences_(max_sequences),
      encoder_workspace_(std::move(encoder_workspace)),
      embed_workspace_(std::move(embed_workspace)) {}

absl::Status PackedRunner::Forward(std::span<const SequenceWork> batch) {
  if (batch.empty()) return absl::OkStatus();
  num_tokens_ = 0;
  BERTRAND_RETURN_IF_ERROR(Check(batch, &num_tokens_));
  block_used_ = 0;
  shape_ = ChooseShape(batch);
  PackTokens(batch);
  PackMemories(batch);
  PackGroups(batch);
  if (!backend_.host_memory()) {
    BERTRAND_RETURN_IF_ERROR(
        backend_.CopyToDevice(*stream_, host_block_->data(), block_->data(),
                              static_cast<size_t>(block_used_) * sizeof(int32_t)));
  }
  absl::Status status = RunEncoder(batch);
  for (size_t i = 0; status.ok() && i < groups_.size(); ++i) status = RunGroup(groups_[i], batch);
  if (status.ok() && head_runner_ != nullptr) {
    status = head_runner_->Run(*stream_, batch, packed_.cu_seqlens_host,
                               encoder_workspace_.hidden(num_tokens_));
  }
  if (status.ok()) status = StartCheck();
  // In any case: copies to the outputs may be under way.
  const absl::Status synchronized = backend_.Synchronize(*stream_);
  AdvanceMemories();
  if (status.ok()) status = synchronized;
  if (status.ok() && flag_[0] != 0) status = SpoilNonFinite(batch);
  // A backend's internal error is its device's, and final.
  if (status.code() == absl::StatusCode::kInternal) {
    return absl::DataLossError(backend_.name() + " is lost: " + Message(status));
  }
  return status;
}

void PackedRunner::AdvanceMemories() {
  for (const BatchMemory& memory : memories_) memory.memory->Advance(memory.num_rows());
}

absl::Status PackedRunner::StartCheck() {
  flag_[0] = 0;
  if (backend_.activation_dtype() == DType::kFloat32) return absl::OkStatus();
  const TensorView flag(device_flag_->data(), DType::kInt32, {1});
  BERTRAND_RETURN_IF_ERROR(backend_.Clear(*stream_, flag));
  BERTRAND_RETURN_IF_ERROR(
      backend_.CheckFinite(*stream_, encoder_workspace_.hidden(num_tokens_), flag));
  return backend_.CopyToHost(*stream_, flag, std::span(flag_));
}

absl::Status PackedRunner::SpoilNonFinite(std::span<const SequenceWork> batch) {
  const auto spoil = [](std::span<float> values) {
    std::fill(values.begin(), values.end(), std::numeric_limits<float>::quiet_NaN());
  };
  const TensorView hidden = encoder_workspace_.hidden(num_tokens_);
  // The one allocation of a runner, for what hardly ever happens.
  std::vector<float> states(static_cast<size_t>(hidden.num_elements()));
  BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(*stream_, hidden, std::span(states)));
  BERTRAND_RETURN_IF_ERROR(backend_.Synchronize(*stream_));
  const auto row = [&](int32_t index) { return states.begin() + index * hidden.dim(1); };
  for (size_t index = 0; index < batch.size(); ++index) {
    const SequenceWork& work = batch[index];
    const auto is_finite = [](float value) { return std::isfinite(value); };
    if (std::all_of(row(packed_.cu_seqlens_host[index]), row(packed_.cu_seqlens_host[index + 1]),
                    is_finite)) {
      continue;
    }
    if (work.embed != nullptr) spoil(work.embed->vector);
    if (work.tokens != nullptr) spoil(work.tokens->vectors);
    if (work.logits != nullptr) spoil(work.logits->logits);
    if (work.mask != nullptr) spoil(work.mask->scores);
    if (work.sparse != nullptr) spoil(work.sparse->weights);
    if (work.beam != nullptr) spoil(work.beam->start_scores);
  }
  return absl::OkStatus();
}

// The requirements of Forward. They were seen to where requests come in; memory is at stake, and
// the look costs little beside the work.
absl::Status PackedRunner::Check(std::span<const SequenceWork> batch, int64_t* num_tokens) const {
  if (static_cast<int64_t>(batch.size()) > max_sequences_) {
    return Internal("batch of " + std::to_string(batch.size()) + " sequences, the runner is for " +
                    std::to_string(max_sequences_));
  }
  const EncoderConfig& config = encoder_.config();
  // Without token types they are not looked at.
  const int64_t types =
      config.num_token_types > 0 ? config.num_token_types : std::numeric_limits<int32_t>::max();
  for (size_t index = 0; index < batch.size(); ++index) {
    const SequenceWork& work = batch[index];
    const auto size = static_cast<int64_t>(work.ids.size());
    const int64_t longest = config.max_tokens() > 0 ? config.max_tokens() : max_tokens_;
    if (size < 1 || size > longest || work.type_ids.size() != work.ids.size()) {
      return Internal(Where(index) + std::to_string(size) + " ids and " +
                      std::to_string(work.type_ids.size()) + " type ids, expected as many, 1 to " +
                      std::to_string(longest));
    }
    for (size_t i = 0; i < work.ids.size(); ++i) {
      if (work.ids[i] < 0 || work.ids[i] >= config.vocab_size || work.type_ids[i] < 0 ||
          work.type_ids[i] >= types) {
        return Internal(Where(index) + "id " + std::to_string(work.ids[i]) + ", type id " +
                        std::to_string(work.type_ids[i]) + ", expected below " +
                        std::to_string(config.vocab_size) + " and " + std::to_string(types));
      }
    }
    *num_tokens += size;
    BERTRAND_RETURN_IF_ERROR(CheckMemory(batch, index));
    BERTRAND_RETURN_IF_ERROR(CheckOutputs(work, index));
  }
  if (*num_tokens > max_tokens_) {
    return Internal("batch of " + std::to_string(*num_tokens) + " tokens, the runner is for " +
                    std::to_string(max_tokens_));
  }
  return absl::OkStatus();
}

absl::Status PackedRunner::CheckMemory(std::span<const SequenceWork> batch, size_t index) const {
  const SequenceWork& work = batch[index];
  if (work.memory == nullptr) return absl::OkStatus();
  if (!encoder_.config().is_relative()) return Internal(Where(index) + "a memory of no use");
  const int64_t keys = static_cast<int64_t>(work.ids.size()) + work.memory->max_tokens();
  if (keys > max_tokens_) {
    return Internal(Where(index) + std::to_string(keys) +
                    " tokens together with the memory, the runner is for " +
                    std::to_string(max_tokens_));
  }
  const bool is_double =
      std::any_of(batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(index),
                  [&](const SequenceWork& other) { return other.memory == work.memory; });
  return is_double ? Internal(Where(index) + "has the memory of an earlier one") : absl::OkStatus();
}

absl::Status PackedRunner::CheckOutputs(const SequenceWork& work, size_t index) const {
  const int num_outputs = (work.embed != nullptr) + (work.tokens != nullptr) +
                          (work.logits != nullptr) + (work.mask != nullptr) +
                          (work.sparse != nullptr) + (work.beam != nullptr) +
                          (work.answers != nullptr);
  if (num_outputs == 0 && work.memory != nullptr) return absl::OkStatus();
  if (num_outputs != 1) {
    return Internal(Where(index) + std::to_string(num_outputs) + " outputs, expected one");
  }
  if (work.embed == nullptr && work.tokens == nullptr) {
    if (head_runner_ == nullptr) return Internal(Where(index) + "the checkpoint has no heads");
    return Annotate(head_runner_->Check(work), "sequence " + std::to_string(index));
  }
  size_t have = 0, want = 0;
  if (work.embed != nullptr) {
    const absl::StatusOr<int64_t> dimensions = head_.Dimensions(work.embed->pooling);
    if (!dimensions.ok()) return Annotate(dimensions.status(), "sequence " + std::to_string(index));
    have = work.embed->vector.size();
    want = static_cast<size_t>(*dimensions);
  } else {
    for (const int32_t layer : work.tokens->layers) {
      if (layer < 0 || layer > encoder_.config().num_layers) {
        return Internal(Where(index) + "layer " + std::to_string(layer) + ", expected 0 to " +
                        std::to_string(encoder_.config().num_layers));
      }
    }
    have = work.tokens->vectors.size();
    want = work.ids.size() * work.tokens->layers.size() *
           static_cast<size_t>(encoder_.config().hidden_size);
  }
  if (have == want) return absl::OkStatus();
  return Internal(Where(index) + "output of " + std::to_string(have) + " values, expected " +
                  std::to_string(want));
}

PackedRunner::Part PackedRunner::NextPart(int64_t size) {
  int32_t* const device = static_cast<int32_t*>(block_->data()) + block_used_;
  Part part;
  part.host =
      host_block_ == nullptr ? device : static_cast<int32_t*>(host_block_->data()) + block_used_;
  part.device = TensorView(device, DType::kInt32, {size});
  block_used_ += Aligned(size);
  return part;
}

// A batch is replayed when all that the encoder does for it follows from the shape, and nothing is
// looked at on the way.
std::optional<ReplayShape> PackedRunner::ChooseShape(std::span<const SequenceWork> batch) const {
  if (!backend_.replays()) return {};
  const auto num_layers = static_cast<int32_t>(encoder_.config().num_layers);
  size_t longest = 0;
  for (const SequenceWork& work : batch) {
    longest = std::max(longest, work.ids.size());
    if (work.memory != nullptr) return {};
    if (work.tokens == nullptr) continue;
    for (const int32_t layer : work.tokens->layers) {
      if (layer != num_layers) return {};
    }
  }
  if (!encoder_.HasFixedWork(static_cast<int64_t>(longest))) return {};
  return ReplayShapeOf(num_tokens_, static_cast<int64_t>(batch.size()));
}

// Where a batch is filled up, the further rows are tokens of id 0 that belong to no sequence, and
// the further sequences are empty.
void PackedRunner::PackTokens(std::span<const SequenceWork> batch) {
  const int64_t rows = shape_ ? shape_->tokens : num_tokens_;
  const int64_t num_sequences = shape_ ? shape_->sequences : static_cast<int64_t>(batch.size());
  const Part ids = NextPart(rows), positions = NextPart(rows), types = NextPart(rows);
  const Part cu_seqlens = NextPart(num_sequences + 1);
  int32_t at = 0;
  for (size_t index = 0; index < batch.size(); ++index) {
    const SequenceWork& work = batch[index];
    cu_seqlens.host[index] = at;
    std::copy(work.ids.begin(), work.ids.end(), ids.host + at);
    std::copy(work.type_ids.begin(), work.type_ids.end(), types.host + at);
    NumberTokens(encoder_.config(), work.ids, positions.host + at);
    at += static_cast<int32_t>(work.ids.size());
  }
  for (const Part* part : {&ids, &positions, &types}) {
    std::fill(part->host + at, part->host + rows, 0);
  }
  std::fill(cu_seqlens.host + batch.size(), cu_seqlens.host + num_sequences + 1, at);
  packed_.ids = ids.device;
  packed_.position_ids = positions.device;
  packed_.type_ids = types.device;
  packed_.cu_seqlens = cu_seqlens.device;
  packed_.cu_seqlens_host = {cu_seqlens.host, static_cast<size_t>(num_sequences) + 1};
}

void PackedRunner::PackMemories(std::span<const SequenceWork> batch) {
  packed_.memories = {};
  memories_.clear();
  const int64_t reuse = encoder_.config().memory_reuse_tokens;
  const auto num_rows = [reuse](const SequenceWork& work) {
    if (work.memory == nullptr) return int64_t{0};
    const auto size = static_cast<int64_t>(work.ids.size());
    return std::min(reuse > 0 ? std::min(reuse, size) : size, work.memory->max_tokens());
  };
  int64_t total = 0;
  for (const SequenceWork& work : batch) total += num_rows(work);
  if (total == 0) return;
  const Part rows = NextPart(2 * total);
  int64_t used = 0;
  for (size_t index = 0; index < batch.size(); ++index) {
    const int64_t count = num_rows(batch[index]);
    if (count == 0) continue;
    const auto size = static_cast<int64_t>(batch[index].ids.size());
    const int64_t end = packed_.cu_seqlens_host[index] + (reuse > 0 ? std::min(reuse, size) : size);
    for (int64_t i = 0; i < count; ++i) {
      const auto token = static_cast<int32_t>(end - count + i);
      rows.host[used + i] = 3 * token + 1;
      rows.host[used + count + i] = 3 * token + 2;
    }
    auto& memory = static_cast<DocumentMemory&>(*batch[index].memory).encoder();
    memories_.push_back(
        {&memory, index, Slice(rows.device, used, count), Slice(rows.device, used + count, count)});
    used += 2 * count;
  }
  packed_.memories = memories_;
}

void PackedRunner::PackRow(const SequenceWork& work, size_t index) {
  const size_t row = row_sequence_.size();
  const int32_t start = packed_.cu_seqlens_host[index], end = packed_.cu_seqlens_host[index + 1];
  int64_t before = 0;
  if (work.memory != nullptr) {
    before = static_cast<DocumentMemory&>(*work.memory).pooled().num_tokens();
  }
  const int64_t skipped =
      std::clamp<int64_t>(work.embed->num_prompt_tokens - before, 0, end - start);
  start_.host[row] = start;
  begin_.host[row] = static_cast<int32_t>(start + skipped);
  end_.host[row] = end;
  document_start_.host[row] = static_cast<int32_t>(start - before);
  row_sequence_.push_back(static_cast<int64_t>(index));
  if (work.memory == nullptr) return;
  segments_.push_back({static_cast<int64_t>(row),
                       &static_cast<DocumentMemory&>(*work.memory).pooled(), end - start, skipped});
}

void PackedRunner::PackGroups(std::span<const SequenceWork> batch) {
  groups_.clear();
  row_sequence_.clear();
  segments_.clear();
  const auto num_rows = static_cast<int64_t>(std::count_if(
      batch.begin(), batch.end(), [](const SequenceWork& work) { return work.embed != nullptr; }));
  if (num_rows == 0) return;
  for (Part* part : {&start_, &begin_, &end_, &document_start_}) *part = NextPart(num_rows);
  for (int key = 0; key < kGroupsMax; ++key) {
    const auto first_row = static_cast<int64_t>(row_sequence_.size());
    const size_t first_segment = segments_.size();
    for (size_t index = 0; index < batch.size(); ++index) {
      const EmbedOutput* embed = batch[index].embed;
      if (embed != nullptr && GroupKey(*embed, head_.normalizes()) == key) {
        PackRow(batch[index], index);
      }
    }
    const auto count = static_cast<int64_t>(row_sequence_.size()) - first_row;
    if (count == 0) continue;
    for (size_t i = first_segment; i < segments_.size(); ++i) segments_[i].row -= first_row;
    const EmbedOutput& sample = *batch[static_cast<size_t>(row_sequence_.back())].embed;
    groups_.push_back({sample.pooling, key % 2 == 1, first_row, count, first_segment,
                       segments_.size() - first_segment});
  }
}

// No further than anyone wants to look.
int64_t PackedRunner::LastLayer(std::span<const SequenceWork> batch) const {
  int64_t last = 0;
  for (const SequenceWork& work : batch) {
    // A memory is of every layer.
    if (work.tokens == nullptr || work.memory != nullptr) return encoder_.config().num_layers;
    for (const int32_t layer : work.tokens->layers) last = std::max<int64_t>(last, layer);
  }
  return last;
}

absl::Status PackedRunner::RunLayers() {
  BERTRAND_RETURN_IF_ERROR(encoder_.Embed(*stream_, packed_, encoder_workspace_));
  for (int64_t index = 0; index < encoder_.config().num_layers; ++index) {
    BERTRAND_RETURN_IF_ERROR(encoder_.Layer(*stream_, index, packed_, encoder_workspace_));
  }
  return absl::OkStatus();
}

absl::Status PackedRunner::RunEncoder(std::span<const SequenceWork> batch) {
  if (shape_) {
    BERTRAND_RETURN_IF_ERROR(backend_.Replay(*stream_, shape_->key(), run_layers_));
    return CopyLayer(batch, encoder_.config().num_layers);
  }
  BERTRAND_RETURN_IF_ERROR(encoder_.Embed(*stream_, packed_, encoder_workspace_));
  BERTRAND_RETURN_IF_ERROR(CopyLayer(batch, 0));
  const int64_t last = LastLayer(batch);
  for (int64_t index = 0; index < last; ++index) {
    BERTRAND_RETURN_IF_ERROR(encoder_.Layer(*stream_, index, packed_, encoder_workspace_));
    BERTRAND_RETURN_IF_ERROR(CopyLayer(batch, index + 1));
  }
  return absl::OkStatus();
}

// Hidden states of `layer` to everyone who wants them. One layer alone is one copy; of several,
// each row has its place between the other layers' and is copied by itself: a rare request, and it
// needs no memory.
absl::Status PackedRunner::CopyLayer(std::span<const SequenceWork> batch, int64_t layer) {
  const TensorView hidden = encoder_workspace_.hidden(num_tokens_);
  const int64_t width = hidden.dim(1);
  const size_t row_bytes = static_cast<size_t>(width) * SizeOf(hidden.dtype());
  for (size_t index = 0; index < batch.size(); ++index) {
    if (batch[index].tokens == nullptr) continue;
    const TokensOutput& output = *batch[index].tokens;
    const size_t num_layers = output.layers.size();
    const int64_t begin = packed_.cu_seqlens_host[index], end = packed_.cu_seqlens_host[index + 1];
    for (size_t place = 0; place < num_layers; ++place) {
      if (output.layers[place] != layer) continue;
      const int64_t rows_each = num_layers == 1 ? end - begin : 1;
      for (int64_t row = begin; row < end; row += rows_each) {
        const TensorView from(
            static_cast<char*>(hidden.data()) + static_cast<size_t>(row) * row_bytes,
            hidden.dtype(), {rows_each, width});
        const size_t at =
            (static_cast<size_t>(row - begin) * num_layers + place) * static_cast<size_t>(width);
        BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(
            *stream_, from, output.vectors.subspan(at, static_cast<size_t>(from.num_elements()))));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status PackedRunner::RunGroup(const Group& group, std::span<const SequenceWork> batch) {
  EmbedGroup rows;
  rows.pooling = group.pooling;
  rows.normalize = group.normalize;
  rows.start = Slice(start_.device, group.first_row, group.num_rows);
  rows.begin = Slice(begin_.device, group.first_row, group.num_rows);
  rows.end = Slice(end_.device, group.first_row, group.num_rows);
  rows.document_start = Slice(document_start_.device, group.first_row, group.num_rows);
  rows.segments = std::span(segments_).subspan(group.first_segment, group.num_segments);
  BERTRAND_ASSIGN_OR_RETURN(
      const TensorView vectors,
      head_.Run(*stream_, rows, encoder_workspace_.hidden(num_tokens_), embed_workspace_));
  parts_.clear();
  for (int64_t row = group.first_row; row < group.first_row + group.num_rows; ++row) {
    const auto index = static_cast<size_t>(row_sequence_[static_cast<size_t>(row)]);
    parts_.push_back(batch[index].embed->vector);
  }
  return backend_.CopyToHost(*stream_, vectors, parts_);
}

}  // namespace bertrand
