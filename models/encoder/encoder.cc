#include "models/encoder/encoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <tuple>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

// What a layer reads: x, or the same in float8.
const TensorView& InputOf(const PackedLinear& layer, const TensorView& x,
                          const TensorView& narrow) {
  return layer.input_scale() ? narrow : x;
}

// A layer's input as an output of what comes before it, if the layer reads float8.
NarrowOutput NarrowFor(const PackedLinear& layer, const TensorView& narrow) {
  return layer.input_scale() ? NarrowOutput{narrow, layer.input_scale()} : NarrowOutput{};
}

// Texts have larger values than those that a model was calibrated with, which would all become the
// largest. Room for twice as much costs one of e4m3's 15 powers of two, at the other end; a number
// is rounded to as many bits as before (docs/fp8.md has what it did).
BlockInputs WithHeadroom(const BlockInputs& inputs) {
  constexpr float kHeadroom = 2;
  return {kHeadroom * inputs.qkv, kHeadroom * inputs.out, kHeadroom * inputs.up,
          kHeadroom * inputs.down};
}

// Not a number is larger than all.
void KeepLargest(const TensorView& x, float* largest) {
  const std::span<const float> values(x.as<float>(), static_cast<size_t>(x.num_elements()));
  float kept = *largest;
  bool has_nan = false;
  for (const float value : values) {
    kept = std::max(kept, std::abs(value));
    has_nan |= std::isnan(value);
  }
  *largest = has_nan ? std::numeric_limits<float>::infinity() : kept;
}

}  // namespace

std::string Encoder::BlockName(std::string_view pattern, int64_t group, int64_t index) {
  const size_t first = pattern.find("{}");
  BERTRAND_CHECK(first != std::string_view::npos, pattern);
  std::string name = std::string(pattern.substr(0, first)) + std::to_string(group);
  const std::string_view rest = pattern.substr(first + 2);
  const size_t second = rest.find("{}");
  if (second == std::string_view::npos) return name + std::string(rest);
  return name + std::string(rest.substr(0, second)) + std::to_string(index) +
         std::string(rest.substr(second + 2));
}

absl::StatusOr<EncoderWorkspace> EncoderWorkspace::Create(const Backend& backend,
                                                          const Encoder& encoder,
                                                          int64_t max_tokens,
                                                          int64_t max_sequences) {
  const EncoderConfig& config = encoder.config();
  EncoderWorkspace workspace;
  workspace.dtype_ = backend.activation_dtype();
  workspace.hidden_size_ = config.hidden_size;
  const auto allocate = [&](int64_t width) {
    return backend.Allocate(static_cast<size_t>(max_tokens * width) * SizeOf(workspace.dtype_));
  };
  BERTRAND_ASSIGN_OR_RETURN(workspace.hidden_, allocate(config.hidden_size));
  BERTRAND_ASSIGN_OR_RETURN(workspace.context_, allocate(config.hidden_size));
  BERTRAND_ASSIGN_OR_RETURN(workspace.wide_,
                            allocate(std::max({3 * config.hidden_size, config.intermediate_size,
                                               config.embedding_size})));
  if (encoder.is_float8()) {
    BERTRAND_ASSIGN_OR_RETURN(
        workspace.narrow_hidden_,
        backend.Allocate(static_cast<size_t>(max_tokens * config.hidden_size)));
    BERTRAND_ASSIGN_OR_RETURN(
        workspace.narrow_inner_,
        backend.Allocate(static_cast<size_t>(max_tokens * config.intermediate_size)));
  }
  if (!config.is_relative()) return workspace;
  workspace.attention_memory_.reserve(static_cast<size_t>(max_sequences));
  const int64_t farthest = max_tokens - 1;
  if (IsStored(config, {farthest, farthest})) return workspace;
  BERTRAND_ASSIGN_OR_RETURN(
      workspace.sinusoids_,
      backend.Allocate(static_cast<size_t>((2 * farthest + 1) * config.hidden_size) *
                       SizeOf(workspace.dtype_)));
  BERTRAND_ASSIGN_OR_RETURN(workspace.distances_,
                            backend.Allocate(workspace.sinusoids_->size_bytes()));
  workspace.sinusoids_center_ = farthest;
  workspace.sinusoid_rows_.reserve(
      std::max(kSinusoidsEach, static_cast<size_t>(config.hidden_size)));
  return workspace;
}

absl::Status EncoderWorkspace::Clear(const Backend& backend, Stream& stream) const {
  const auto rows = static_cast<int64_t>(context_->size_bytes() / SizeOf(dtype_)) / hidden_size_;
  return backend.Clear(stream, View(*context_, {rows, hidden_size_}));
}

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Load(
    const EncoderConfig& config, const EncoderNames& names, const WeightFiles& files,
    const Backend& backend, std::string* files_note, std::span<const BlockInputs> float8) {
  BERTRAND_CHECK(float8.empty() || float8.size() == NumBlocks(config), "inputs of other blocks");
  WeightLoader loader(files, backend, names.prefix, names.word);
  std::unique_ptr<Encoder> encoder(new Encoder(config, backend, !float8.empty()));
  BERTRAND_RETURN_IF_ERROR(encoder->LoadWeights(names, loader, float8));
  loader.set_pass(WeightLoader::Pass::kLoad);
  BERTRAND_RETURN_IF_ERROR(encoder->LoadWeights(names, loader, float8));
  encoder->num_parameters_ = loader.num_parameters();
  encoder->weight_bytes_ = loader.weight_bytes();
  *files_note = loader.UnusedNote(names.ignored_suffixes);
  if (config.is_relative()) BERTRAND_RETURN_IF_ERROR(encoder->StoreDistances());
  return encoder;
}

absl::Status Encoder::LoadWeights(const EncoderNames& names, WeightLoader& loader,
                                  std::span<const BlockInputs> float8) {
  const int64_t hidden = config_.hidden_size;
  BERTRAND_RETURN_IF_ERROR(LoadTables(names, loader));
  blocks_.clear();
  for (int64_t group = 0; group < config_.num_groups; ++group) {
    for (int64_t index = 0; index < config_.blocks_per_layer; ++index) {
      const BlockInputs inputs =
          float8.empty() ? BlockInputs{} : WithHeadroom(float8[blocks_.size()]);
      BERTRAND_ASSIGN_OR_RETURN(BlockWeights block, LoadBlock(names, group, index, inputs, loader));
      blocks_.push_back(std::move(block));
    }
  }
  if (names.pooler.empty()) return absl::OkStatus();
  if (names.pooler_is_outside) {
    const std::string weight = names.pooler + ".weight";
    if (!loader.HasTensor(weight)) return absl::OkStatus();
    BERTRAND_ASSIGN_OR_RETURN(pooler_,
                              loader.LinearOf(weight, names.pooler + ".bias", hidden, hidden));
  } else if (loader.HasPart(names.pooler)) {
    BERTRAND_ASSIGN_OR_RETURN(pooler_, loader.Linear(std::array{names.pooler}, hidden, hidden));
  }
  return absl::OkStatus();
}

absl::Status Encoder::LoadTables(const EncoderNames& names, WeightLoader& loader) {
  const int64_t width = config_.embedding_size;
  BERTRAND_ASSIGN_OR_RETURN(word_, loader.Table(names.word, config_.vocab_size, width));
  if (!names.position.empty()) {
    BERTRAND_ASSIGN_OR_RETURN(position_,
                              loader.Table(names.position, config_.num_positions, width));
  }
  if (!names.token_type.empty()) {
    BERTRAND_ASSIGN_OR_RETURN(token_type_,
                              loader.Table(names.token_type, config_.num_token_types, width));
  }
  if (!names.embedding_norm.empty()) {
    BERTRAND_ASSIGN_OR_RETURN(embedding_norm_, loader.Norm(names.embedding_norm, width));
  }
  if (config_.has_projection) {
    BERTRAND_ASSIGN_OR_RETURN(
        projection_, loader.Linear(std::array{names.projection}, config_.hidden_size, width));
  }
  return absl::OkStatus();
}

absl::StatusOr<Encoder::BlockWeights> Encoder::LoadBlock(const EncoderNames& names, int64_t group,
                                                         int64_t index, const BlockInputs& inputs,
                                                         WeightLoader& loader) const {
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  const auto name = [group, index](const std::string& pattern) {
    return BlockName(pattern, group, index);
  };
  BlockWeights block;
  if (config_.is_relative()) {
    BERTRAND_RETURN_IF_ERROR(LoadRelative(names, group, index, inputs, loader, &block));
  } else {
    BERTRAND_ASSIGN_OR_RETURN(
        block.qkv, loader.Linear(std::array{name(names.query), name(names.key), name(names.value)},
                                 hidden, hidden, /*with_bias=*/true, inputs.qkv));
    BERTRAND_ASSIGN_OR_RETURN(block.out,
                              loader.Linear(std::array{name(names.attention_out)}, hidden, hidden,
                                            /*with_bias=*/true, inputs.out));
  }
  BERTRAND_ASSIGN_OR_RETURN(block.attention_norm, loader.Norm(name(names.attention_norm), hidden));
  BERTRAND_ASSIGN_OR_RETURN(block.up,
                            loader.Linear(std::array{name(names.up)}, intermediate, hidden,
                                          /*with_bias=*/true, inputs.up));
  BERTRAND_ASSIGN_OR_RETURN(block.down,
                            loader.Linear(std::array{name(names.down)}, hidden, intermediate,
                                          /*with_bias=*/true, inputs.down));
  BERTRAND_ASSIGN_OR_RETURN(block.output_norm, loader.Norm(name(names.output_norm), hidden));
  return block;
}

absl::Status Encoder::Embed(Stream& stream, const EncoderBatch& batch,
                            EncoderWorkspace& workspace) const {
  const int64_t tokens = batch.num_tokens();
  const TensorView hidden = workspace.hidden(tokens);
  EmbeddingParams params;
  params.ids = batch.ids;
  params.word = word_.view;
  if (position_.view) {
    params.position_ids = batch.position_ids;
    params.position = position_.view;
  }
  if (token_type_.view) {
    params.type_ids = batch.type_ids;
    params.type = token_type_.view;
  }
  params.gamma = embedding_norm_.gamma.view;
  params.beta = embedding_norm_.beta.view;
  params.eps = config_.layer_norm_eps;
  const NarrowOutput narrow = HiddenFor(
      0, EncoderWorkspace::Narrow(workspace.narrow_hidden_, {tokens, config_.hidden_size}));
  if (config_.is_relative()) BERTRAND_RETURN_IF_ERROR(PrepareDistances(batch, workspace));
  if (projection_ == nullptr) {
    params.y = hidden;
    params.narrow = narrow;
    return backend_.Embedding(stream, params);
  }
  params.y = workspace.View(*workspace.wide_, {tokens, config_.embedding_size});
  BERTRAND_RETURN_IF_ERROR(backend_.Embedding(stream, params));
  return backend_.Linear(
      stream, {.x = params.y, .weight = projection_.get(), .y = hidden, .narrow = narrow});
}

std::optional<size_t> Encoder::BlockIndex(int64_t place) const {
  const int64_t each = config_.blocks_per_layer;
  if (place >= config_.num_layers * each) return {};
  return static_cast<size_t>(config_.Group(place / each) * each + place % each);
}

NarrowOutput Encoder::HiddenFor(int64_t place, const TensorView& narrow) const {
  const std::optional<size_t> index = BlockIndex(place);
  return index ? NarrowFor(*blocks_[*index].qkv, narrow) : NarrowOutput{};
}

absl::Status Encoder::Layer(Stream& stream, int64_t index, const EncoderBatch& batch,
                            EncoderWorkspace& workspace) const {
  const int64_t each = config_.blocks_per_layer;
  for (int64_t place = index * each; place < (index + 1) * each; ++place) {
    BERTRAND_RETURN_IF_ERROR(RunBlock(stream, place, batch, workspace));
  }
  return absl::OkStatus();
}

absl::Status Encoder::RunBlock(Stream& stream, int64_t place, const EncoderBatch& batch,
                               EncoderWorkspace& workspace) const {
  const size_t index = *BlockIndex(place);
  const BlockWeights& block = blocks_[index];
  const int64_t tokens = batch.num_tokens();
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  const TensorView x = workspace.hidden(tokens);
  const TensorView context = workspace.View(*workspace.context_, {tokens, hidden});
  const TensorView qkv = workspace.View(*workspace.wide_, {tokens, 3 * hidden});
  const TensorView inner = workspace.View(*workspace.wide_, {tokens, intermediate});
  const auto& narrow = EncoderWorkspace::Narrow;
  const TensorView x8 = narrow(workspace.narrow_hidden_, {tokens, hidden});
  const TensorView context8 = narrow(workspace.context_, {tokens, hidden});
  const TensorView inner8 = narrow(workspace.narrow_inner_, {tokens, intermediate});
  const auto multiply = [&](const LinearParams& params, float BlockInputs::*input) {
    if (!workspace.observed_.empty()) KeepLargest(params.x, &(workspace.observed_[index].*input));
    return backend_.Linear(stream, params);
  };

  BERTRAND_RETURN_IF_ERROR(multiply(
      {.x = InputOf(*block.qkv, x, x8), .weight = block.qkv.get(), .y = qkv}, &BlockInputs::qkv));
  BERTRAND_RETURN_IF_ERROR(config_.is_relative()
                               ? AttendRelative(stream, block, place, batch, workspace)
                               : Attend(stream, block, batch, workspace));
  BERTRAND_RETURN_IF_ERROR(multiply({.x = InputOf(*block.out, context, context8),
                                     .weight = block.out.get(),
                                     .residual = x,
                                     .y = x,
                                     .narrow = NarrowFor(*block.up, x8),
                                     .norm = RowNormOf(block.attention_norm)},
                                    &BlockInputs::out));
  BERTRAND_RETURN_IF_ERROR(multiply({.x = InputOf(*block.up, x, x8),
                                     .weight = block.up.get(),
                                     .activation = config_.activation,
                                     .y = inner,
                                     .narrow = NarrowFor(*block.down, inner8)},
                                    &BlockInputs::up));
  return multiply({.x = InputOf(*block.down, inner, inner8),
                   .weight = block.down.get(),
                   .residual = x,
                   .y = x,
                   .narrow = HiddenFor(place + 1, x8),
                   .norm = RowNormOf(block.output_norm)},
                  &BlockInputs::down);
}

// From workspace.wide_, which has QKV, to workspace.context_.
absl::Status Encoder::Attend(Stream& stream, const BlockWeights& block, const EncoderBatch& batch,
                             EncoderWorkspace& workspace) const {
  const int64_t tokens = batch.num_tokens();
  const int64_t heads = config_.num_heads, head_size = config_.head_size;
  AttentionParams attention;
  attention.qkv = workspace.View(*workspace.wide_, {tokens, 3, heads, head_size});
  attention.cu_seqlens = batch.cu_seqlens;
  attention.cu_seqlens_host = batch.cu_seqlens_host;
  attention.scale = 1.0f / std::sqrt(static_cast<float>(head_size));
  std::tie(attention.out, attention.narrow) = ContextFor(block, tokens, workspace);
  return backend_.Attention(stream, attention);
}

std::pair<TensorView, NarrowOutput> Encoder::ContextFor(const BlockWeights& block, int64_t tokens,
                                                        const EncoderWorkspace& workspace) const {
  const auto shape = {tokens, config_.num_heads, config_.head_size};
  const NarrowOutput narrow =
      NarrowFor(*block.out, EncoderWorkspace::Narrow(workspace.context_, shape));
  if (narrow.values) return {TensorView(), narrow};
  return {workspace.View(*workspace.context_, shape), narrow};
}

RowNorm Encoder::RowNormOf(const NormWeights& norm) const {
  return {norm.gamma.view, norm.beta.view, config_.layer_norm_eps};
}

absl::Status Encoder::Pool(Stream& stream, const TensorView& x, const TensorView& y) const {
  return backend_.Linear(
      stream, {.x = x, .weight = pooler_.get(), .activation = config_.pooler_activation, .y = y});
}

}  // namespace bertrand
