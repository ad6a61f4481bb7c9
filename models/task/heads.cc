#include "models/task/heads.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

constexpr int64_t kRowsMax = 256;
// Values of one chunk's logits over the vocabulary (32 MB), unless that is less than a few rows.
constexpr int64_t kVocabularyValues = int64_t{1} << 23;
constexpr int64_t kVocabularyRowsMin = 16;
// Candidates that a row of a full chunk may have; more make smaller chunks.
constexpr int64_t kCandidatesEach = 128;

// All of the head's tensors are there, of its shapes.
bool Fits(const WeightLoader& loader, const std::vector<HeadLayer>& layers, int64_t width) {
  for (const HeadLayer& layer : layers) {
    if (!loader.FitsLinear(layer.name, layer.out_features, width)) return false;
    width = layer.out_features;
    if (!layer.norm.empty() && !loader.FitsNorm(layer.norm, width)) return false;
  }
  return true;
}

bool HasSome(const WeightLoader& loader, const std::vector<HeadLayer>& layers) {
  return std::any_of(layers.begin(), layers.end(), [&](const HeadLayer& layer) {
    return loader.HasPart(layer.name) || (!layer.norm.empty() && loader.HasPart(layer.norm));
  });
}

// Whether to load a head. One that config.json names: a part of it is there, so that what is
// missing is an error. Another: all of it fits; rests of what the checkpoint was made from are
// what transformers warns of as unused.
bool IsWanted(const WeightLoader& loader, const std::vector<HeadLayer>& layers, int64_t width,
              bool is_named) {
  return is_named ? HasSome(loader, layers) : Fits(loader, layers, width);
}

bool FitsBeam(const WeightLoader& loader, const BeamNames& names, int64_t hidden) {
  return loader.FitsLinear(names.start, 1, hidden) &&
         loader.FitsLinear(names.end_dense, hidden, 2 * hidden) &&
         loader.FitsNorm(names.end_norm, hidden) && loader.FitsLinear(names.end, 1, hidden) &&
         loader.FitsLinear(names.class_dense, hidden, 2 * hidden) &&
         loader.FitsLinear(names.class_out, 1, hidden, /*with_bias=*/false);
}

}  // namespace

// Where the weights that heads share with the encoder lie.
struct TaskHeads::Source {
  const WeightFiles& files;
  std::string word_embeddings;  // with the prefix
  int64_t word_width = 0;
  std::string pooler;  // its weight, with the prefix; empty: the family has none
  bool has_pooler = false;
};

absl::StatusOr<HeadsWorkspace> HeadsWorkspace::Create(const Backend& backend,
                                                      const TaskHeads& heads, int64_t max_tokens) {
  HeadsWorkspace workspace;
  workspace.dtype_ = backend.activation_dtype();
  workspace.hidden_size_ = heads.hidden_size_;
  workspace.vocab_size_ = heads.vocab_size_;
  workspace.rows_ = std::min(max_tokens, kRowsMax);
  int64_t widest = heads.hidden_size_;
  for (const TaskHeads::Stack& stack : heads.logits_) {
    for (const TaskHeads::Layer& layer : stack.layers) {
      widest = std::max(widest, layer.linear->out_features());
    }
  }
  for (size_t i = 0; i + 1 < heads.masked_lm_.layers.size(); ++i) {
    widest = std::max(widest, heads.masked_lm_.layers[i].linear->out_features());
  }
  const auto allocate = [&](int64_t values) {
    return backend.Allocate(static_cast<size_t>(values) * SizeOf(workspace.dtype_));
  };
  BERTRAND_ASSIGN_OR_RETURN(workspace.input_, allocate(workspace.rows_ * heads.hidden_size_ *
                                                       (heads.has_beam() ? 2 : 1)));
  BERTRAND_ASSIGN_OR_RETURN(workspace.front_, allocate(workspace.rows_ * widest));
  BERTRAND_ASSIGN_OR_RETURN(workspace.back_, allocate(workspace.rows_ * widest));
  if (heads.has(LogitsHead::kAnswerSpan)) {
    BERTRAND_ASSIGN_OR_RETURN(workspace.answer_logits_, allocate(max_tokens * 2));
  }
  if (!heads.has_masked_lm()) return workspace;

  const int64_t vocabulary = heads.vocab_size_;
  workspace.vocabulary_rows_ =
      std::min(workspace.rows_, std::max(kVocabularyRowsMin, kVocabularyValues / vocabulary));
  workspace.candidates_max_ =
      std::max(vocabulary, workspace.vocabulary_rows_ * std::min(vocabulary, kCandidatesEach));
  BERTRAND_ASSIGN_OR_RETURN(workspace.logits_, allocate(workspace.vocabulary_rows_ * vocabulary));
  BERTRAND_ASSIGN_OR_RETURN(workspace.sparse_, allocate(vocabulary));
  BERTRAND_ASSIGN_OR_RETURN(workspace.values_, allocate(workspace.candidates_max_));
  const auto candidates = static_cast<size_t>(workspace.candidates_max_);
  BERTRAND_ASSIGN_OR_RETURN(workspace.indices_, backend.Allocate(candidates * sizeof(int32_t)));
  BERTRAND_ASSIGN_OR_RETURN(workspace.targets_,
                            backend.Allocate(static_cast<size_t>(vocabulary) * sizeof(int32_t)));
  return workspace;
}

absl::StatusOr<std::unique_ptr<TaskHeads>> TaskHeads::Load(const HeadConfig& config,
                                                           const EncoderNames& names,
                                                           const EncoderConfig& encoder,
                                                           const WeightFiles& files,
                                                           const Backend& backend) {
  std::unique_ptr<TaskHeads> heads(new TaskHeads(encoder, backend));
  // Heads lie beside the encoder, without its prefix.
  WeightLoader loader(files, backend, "", "");
  const std::string prefix = files.Has(names.prefix + names.word + ".weight") ? names.prefix : "";
  Source source{files, prefix + names.word + ".weight"};
  const std::span<const int64_t> shape = files.Shape(source.word_embeddings);
  if (shape.size() == 2) source.word_width = shape[1];
  if (!names.pooler.empty()) source.pooler = prefix + names.pooler + ".weight";
  source.has_pooler = files.Has(source.pooler);
  BERTRAND_RETURN_IF_ERROR(heads->LoadAll(config, source, loader));
  loader.set_pass(WeightLoader::Pass::kLoad);
  BERTRAND_RETURN_IF_ERROR(heads->LoadAll(config, source, loader));
  heads->num_parameters_ = loader.num_parameters();
  if (heads->has_masked_lm() && config.masked_lm.tied) {
    // The encoder counts them.
    heads->num_parameters_ -= static_cast<uint64_t>(encoder.vocab_size * source.word_width);
  }
  heads->weight_bytes_ = loader.weight_bytes();
  heads->used_tensors_ = loader.used_tensors();
  return heads;
}

absl::Status TaskHeads::LoadAll(const HeadConfig& config, const Source& source,
                                WeightLoader& loader) {
  logits_.clear();
  for (const LogitsHeadNames& names : config.logits) {
    if (!IsWanted(loader, names.layers, hidden_size_, names.is_named)) continue;
    if (names.on_pooler && !source.has_pooler) {
      if (!names.is_named) continue;
      BERTRAND_RETURN_IF_ERROR(source.files.Check(source.pooler, {hidden_size_, hidden_size_}));
    }
    Stack stack{names.head, names.on_pooler, names.on_last_token, {}};
    BERTRAND_ASSIGN_OR_RETURN(stack.layers, LoadLayers(names.layers, loader));
    logits_.push_back(std::move(stack));
  }
  BERTRAND_RETURN_IF_ERROR(LoadMaskedLm(config.masked_lm, source, loader));
  BERTRAND_RETURN_IF_ERROR(LoadBeam(config.beam, loader));
  bool names_any = false, has_named = false;
  const auto look = [&](bool is_named, bool is_there) {
    names_any |= is_named;
    has_named |= is_named && is_there;
  };
  for (const LogitsHeadNames& names : config.logits) look(names.is_named, has(names.head));
  look(config.masked_lm.is_named, has_masked_lm());
  look(config.beam.is_named, has_beam());
  lacks_named_head_ = names_any && !has_named;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TaskHeads::Layer>> TaskHeads::LoadLayers(
    const std::vector<HeadLayer>& layers, WeightLoader& loader) const {
  std::vector<Layer> loaded;
  int64_t width = hidden_size_;
  for (const HeadLayer& names : layers) {
    Layer layer;
    layer.activation = names.activation;
    BERTRAND_ASSIGN_OR_RETURN(layer.linear,
                              loader.Linear(std::array{names.name}, names.out_features, width));
    width = names.out_features;
    if (!names.norm.empty()) {
      BERTRAND_ASSIGN_OR_RETURN(layer.norm, loader.Norm(names.norm, width));
      layer.has_norm = true;
      layer.norm_eps = names.norm_eps;
    }
    loaded.push_back(std::move(layer));
  }
  return loaded;
}

absl::Status TaskHeads::LoadMaskedLm(const MaskedLmNames& names, const Source& source,
                                     WeightLoader& loader) {
  masked_lm_.layers.clear();
  if (names.layers.empty() || !IsWanted(loader, names.layers, hidden_size_, names.is_named)) {
    return absl::OkStatus();
  }
  // transformers ties the decoder to the word embeddings even where the file has both.
  const std::string weight = names.tied ? source.word_embeddings : names.decoder + ".weight";
  const int64_t width = names.layers.back().out_features;
  std::string bias;
  for (const std::string& name : names.bias_tensors) {
    if (bias.empty() && source.files.Has(name)) bias = name;
  }
  if (!names.is_named && (!source.files.Check(weight, {vocab_size_, width}).ok() ||
                          (!bias.empty() && !source.files.Check(bias, {vocab_size_}).ok()))) {
    return absl::OkStatus();
  }
  for (const std::string& name : names.bias_tensors) {
    if (source.files.Has(name)) loader.MarkUsed(name);  // copies of the first
  }
  loader.MarkUsed(names.decoder + ".weight");
  BERTRAND_ASSIGN_OR_RETURN(masked_lm_.layers, LoadLayers(names.layers, loader));
  Layer decoder;
  BERTRAND_ASSIGN_OR_RETURN(decoder.linear, loader.LinearOf(weight, bias, vocab_size_, width));
  masked_lm_.layers.push_back(std::move(decoder));
  return absl::OkStatus();
}

absl::Status TaskHeads::LoadBeam(const BeamNames& names, WeightLoader& loader) {
  if (names.start.empty()) return absl::OkStatus();
  if (names.is_named) {
    const std::array parts = {&names.start, &names.end_dense,   &names.end_norm,
                              &names.end,   &names.class_dense, &names.class_out};
    const auto is_there = [&](const std::string* name) { return loader.HasPart(*name); };
    if (std::none_of(parts.begin(), parts.end(), is_there)) return absl::OkStatus();
  } else if (!FitsBeam(loader, names, hidden_size_)) {
    return absl::OkStatus();
  }
  const int64_t hidden = hidden_size_;
  beam_.num_starts = names.num_starts;
  beam_.num_ends = names.num_ends;
  BERTRAND_ASSIGN_OR_RETURN(beam_.start, loader.Linear(std::array{names.start}, 1, hidden));
  BERTRAND_ASSIGN_OR_RETURN(beam_.end_dense.linear,
                            loader.Linear(std::array{names.end_dense}, hidden, 2 * hidden));
  BERTRAND_ASSIGN_OR_RETURN(beam_.end_dense.norm, loader.Norm(names.end_norm, hidden));
  beam_.end_dense.activation = Activation::kTanh;
  beam_.end_dense.has_norm = true;
  beam_.end_dense.norm_eps = names.norm_eps;
  BERTRAND_ASSIGN_OR_RETURN(beam_.end.linear, loader.Linear(std::array{names.end}, 1, hidden));
  BERTRAND_ASSIGN_OR_RETURN(beam_.class_dense.linear,
                            loader.Linear(std::array{names.class_dense}, hidden, 2 * hidden));
  beam_.class_dense.activation = Activation::kTanh;
  BERTRAND_ASSIGN_OR_RETURN(beam_.class_out.linear, loader.Linear(std::array{names.class_out}, 1,
                                                                  hidden, /*with_bias=*/false));
  return absl::OkStatus();
}

const TaskHeads::Stack* TaskHeads::Find(LogitsHead head) const {
  const auto found = std::find_if(logits_.begin(), logits_.end(),
                                  [head](const Stack& stack) { return stack.head == head; });
  return found == logits_.end() ? nullptr : &*found;
}

int64_t TaskHeads::width(LogitsHead head) const {
  return Find(head)->layers.back().linear->out_features();
}

absl::StatusOr<TensorView> TaskHeads::RunLayer(Stream& stream, const Layer& layer,
                                               const TensorView& x, void* y) const {
  const TensorView out(y, x.dtype(), {x.dim(0), layer.linear->out_features()});
  BERTRAND_RETURN_IF_ERROR(backend_.Linear(
      stream, {.x = x, .weight = layer.linear.get(), .activation = layer.activation, .y = out}));
  if (layer.has_norm) {
    BERTRAND_RETURN_IF_ERROR(backend_.LayerNorm(stream, {.x = out,
                                                         .gamma = layer.norm.gamma.view,
                                                         .beta = layer.norm.beta.view,
                                                         .eps = layer.norm_eps,
                                                         .y = out}));
  }
  return out;
}

// The first `count` layers; the result is in front_ or back_.
absl::StatusOr<TensorView> TaskHeads::RunLayers(Stream& stream, const std::vector<Layer>& layers,
                                                size_t count, TensorView x,
                                                HeadsWorkspace& workspace) const {
  for (size_t i = 0; i < count; ++i) {
    const bool in_front = x.data() == workspace.front_->data();
    BERTRAND_ASSIGN_OR_RETURN(
        x, RunLayer(stream, layers[i], x, (in_front ? workspace.back_ : workspace.front_)->data()));
  }
  return x;
}

absl::StatusOr<TensorView> TaskHeads::Logits(Stream& stream, LogitsHead head, const TensorView& x,
                                             HeadsWorkspace& workspace) const {
  const Stack& stack = *Find(head);
  TensorView in = x;
  if (stack.on_pooler) {
    in = workspace.View(*workspace.front_, x.dim(0), hidden_size_);
    BERTRAND_RETURN_IF_ERROR(encoder_->Pool(stream, x, in));
  }
  return RunLayers(stream, stack.layers, stack.layers.size(), in, workspace);
}

absl::Status TaskHeads::AnswerLogits(Stream& stream, const TensorView& x, HeadsWorkspace& workspace,
                                     const TensorView& y) const {
  const std::vector<Layer>& layers = Find(LogitsHead::kAnswerSpan)->layers;
  BERTRAND_ASSIGN_OR_RETURN(const TensorView states,
                            RunLayers(stream, layers, layers.size() - 1, x, workspace));
  return RunLayer(stream, layers.back(), states, y.data()).status();
}

absl::StatusOr<TensorView> TaskHeads::VocabularyLogits(Stream& stream, const TensorView& x,
                                                       HeadsWorkspace& workspace) const {
  const std::vector<Layer>& layers = masked_lm_.layers;
  BERTRAND_ASSIGN_OR_RETURN(const TensorView states,
                            RunLayers(stream, layers, layers.size() - 1, x, workspace));
  return RunLayer(stream, layers.back(), states, workspace.logits_->data());
}

absl::StatusOr<TensorView> TaskHeads::BeamStarts(Stream& stream, const TensorView& x,
                                                 HeadsWorkspace& workspace) const {
  const TensorView y = workspace.View(*workspace.front_, x.dim(0), 1);
  BERTRAND_RETURN_IF_ERROR(backend_.Linear(stream, {.x = x, .weight = beam_.start.get(), .y = y}));
  return y;
}

absl::StatusOr<TensorView> TaskHeads::BeamEnds(Stream& stream, const TensorView& pairs,
                                               HeadsWorkspace& workspace) const {
  BERTRAND_ASSIGN_OR_RETURN(const TensorView states,
                            RunLayer(stream, beam_.end_dense, pairs, workspace.front_->data()));
  return RunLayer(stream, beam_.end, states, workspace.back_->data());
}

absl::StatusOr<TensorView> TaskHeads::BeamNoAnswer(Stream& stream, const TensorView& pairs,
                                                   HeadsWorkspace& workspace) const {
  BERTRAND_ASSIGN_OR_RETURN(const TensorView states,
                            RunLayer(stream, beam_.class_dense, pairs, workspace.front_->data()));
  return RunLayer(stream, beam_.class_out, states, workspace.back_->data());
}

}  // namespace bertrand
