#include "models/encoder/encoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

// "encoder.layer.{}.output" of layer 3: "encoder.layer.3.output".
std::string LayerName(std::string_view pattern, int64_t index) {
  const size_t at = pattern.find("{}");
  BERTRAND_CHECK(at != std::string_view::npos, pattern);
  return std::string(pattern.substr(0, at)) + std::to_string(index) +
         std::string(pattern.substr(at + 2));
}

}  // namespace

absl::StatusOr<EncoderWorkspace> EncoderWorkspace::Create(const Backend& backend,
                                                          const EncoderConfig& config,
                                                          int64_t max_tokens) {
  EncoderWorkspace workspace;
  workspace.dtype_ = backend.activation_dtype();
  workspace.hidden_size_ = config.hidden_size;
  const auto allocate = [&](int64_t width) {
    return backend.Allocate(static_cast<size_t>(max_tokens * width) * SizeOf(workspace.dtype_));
  };
  BERTRAND_ASSIGN_OR_RETURN(workspace.hidden_, allocate(config.hidden_size));
  BERTRAND_ASSIGN_OR_RETURN(workspace.context_, allocate(config.hidden_size));
  BERTRAND_ASSIGN_OR_RETURN(workspace.wide_,
                            allocate(std::max(3 * config.hidden_size, config.intermediate_size)));
  return workspace;
}

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Load(const EncoderConfig& config,
                                                       const EncoderNames& names,
                                                       const WeightFiles& files,
                                                       const Backend& backend,
                                                       std::string* files_note) {
  WeightLoader loader(files, backend, names.prefix, names.word);
  std::unique_ptr<Encoder> encoder(new Encoder(config, backend));
  BERTRAND_RETURN_IF_ERROR(encoder->LoadWeights(names, loader));
  loader.set_pass(WeightLoader::Pass::kLoad);
  BERTRAND_RETURN_IF_ERROR(encoder->LoadWeights(names, loader));
  encoder->num_parameters_ = loader.num_parameters();
  encoder->weight_bytes_ = loader.weight_bytes();
  *files_note = loader.UnusedNote(names.ignored_suffixes);
  return encoder;
}

absl::Status Encoder::LoadWeights(const EncoderNames& names, WeightLoader& loader) {
  const int64_t hidden = config_.hidden_size;
  BERTRAND_ASSIGN_OR_RETURN(word_, loader.Table(names.word, config_.vocab_size, hidden));
  BERTRAND_ASSIGN_OR_RETURN(position_, loader.Table(names.position, config_.num_positions, hidden));
  if (config_.num_token_types > 0) {
    BERTRAND_ASSIGN_OR_RETURN(token_type_,
                              loader.Table(names.token_type, config_.num_token_types, hidden));
  }
  BERTRAND_ASSIGN_OR_RETURN(embedding_norm_, loader.Norm(names.embedding_norm, hidden));
  layers_.clear();
  for (int64_t index = 0; index < config_.num_layers; ++index) {
    BERTRAND_ASSIGN_OR_RETURN(LayerWeights layer, LoadLayer(names, index, loader));
    layers_.push_back(std::move(layer));
  }
  if (!names.pooler.empty() && loader.Has(names.pooler)) {
    BERTRAND_ASSIGN_OR_RETURN(pooler_, loader.Linear(std::array{names.pooler}, hidden, hidden));
  }
  return absl::OkStatus();
}

absl::StatusOr<Encoder::LayerWeights> Encoder::LoadLayer(const EncoderNames& names, int64_t index,
                                                         WeightLoader& loader) const {
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  const auto name = [index](const std::string& pattern) { return LayerName(pattern, index); };
  LayerWeights layer;
  BERTRAND_ASSIGN_OR_RETURN(
      layer.qkv, loader.Linear(std::array{name(names.query), name(names.key), name(names.value)},
                               hidden, hidden));
  BERTRAND_ASSIGN_OR_RETURN(layer.out,
                            loader.Linear(std::array{name(names.attention_out)}, hidden, hidden));
  BERTRAND_ASSIGN_OR_RETURN(layer.attention_norm, loader.Norm(name(names.attention_norm), hidden));
  BERTRAND_ASSIGN_OR_RETURN(layer.up,
                            loader.Linear(std::array{name(names.up)}, intermediate, hidden));
  BERTRAND_ASSIGN_OR_RETURN(layer.down,
                            loader.Linear(std::array{name(names.down)}, hidden, intermediate));
  BERTRAND_ASSIGN_OR_RETURN(layer.output_norm, loader.Norm(name(names.output_norm), hidden));
  return layer;
}

absl::Status Encoder::Embed(Stream& stream, const EncoderBatch& batch,
                            EncoderWorkspace& workspace) const {
  EmbeddingParams params;
  params.ids = batch.ids;
  params.position_ids = batch.position_ids;
  params.word = word_.view;
  params.position = position_.view;
  if (config_.num_token_types > 0) {
    params.type_ids = batch.type_ids;
    params.type = token_type_.view;
  }
  params.gamma = embedding_norm_.gamma.view;
  params.beta = embedding_norm_.beta.view;
  params.eps = config_.layer_norm_eps;
  params.y = workspace.hidden(batch.num_tokens());
  return backend_.Embedding(stream, params);
}

absl::Status Encoder::Layer(Stream& stream, int64_t index, const EncoderBatch& batch,
                            EncoderWorkspace& workspace) const {
  const LayerWeights& layer = layers_[static_cast<size_t>(index)];
  const int64_t tokens = batch.num_tokens(), hidden = config_.hidden_size;
  const int64_t heads = config_.num_heads, head_size = config_.head_size;
  const TensorView x = workspace.hidden(tokens);
  const TensorView context = workspace.View(*workspace.context_, {tokens, hidden});
  const TensorView qkv = workspace.View(*workspace.wide_, {tokens, 3 * hidden});
  const TensorView inner = workspace.View(*workspace.wide_, {tokens, config_.intermediate_size});

  BERTRAND_RETURN_IF_ERROR(backend_.Linear(stream, {.x = x, .weight = layer.qkv.get(), .y = qkv}));
  AttentionParams attention;
  attention.qkv = workspace.View(*workspace.wide_, {tokens, 3, heads, head_size});
  attention.cu_seqlens = batch.cu_seqlens;
  attention.cu_seqlens_host = batch.cu_seqlens_host;
  attention.scale = 1.0f / std::sqrt(static_cast<float>(head_size));
  attention.out = workspace.View(*workspace.context_, {tokens, heads, head_size});
  BERTRAND_RETURN_IF_ERROR(backend_.Attention(stream, attention));
  BERTRAND_RETURN_IF_ERROR(
      backend_.Linear(stream, {.x = context, .weight = layer.out.get(), .residual = x, .y = x}));
  BERTRAND_RETURN_IF_ERROR(Norm(stream, layer.attention_norm, x));

  BERTRAND_RETURN_IF_ERROR(backend_.Linear(
      stream, {.x = x, .weight = layer.up.get(), .activation = config_.activation, .y = inner}));
  BERTRAND_RETURN_IF_ERROR(
      backend_.Linear(stream, {.x = inner, .weight = layer.down.get(), .residual = x, .y = x}));
  return Norm(stream, layer.output_norm, x);
}

absl::Status Encoder::Norm(Stream& stream, const NormWeights& norm, const TensorView& x) const {
  return backend_.LayerNorm(stream, {.x = x,
                                     .gamma = norm.gamma.view,
                                     .beta = norm.beta.view,
                                     .eps = config_.layer_norm_eps,
                                     .y = x});
}

absl::Status Encoder::Pool(Stream& stream, const TensorView& x, const TensorView& y) const {
  return backend_.Linear(
      stream, {.x = x, .weight = pooler_.get(), .activation = Activation::kTanh, .y = y});
}

}  // namespace bertrand
