#include "models/task/embed.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

// torch.nn.LayerNorm's default, which models/LayerNorm.py leaves as it is.
constexpr float kModuleNormEps = 1e-5f;

PoolingMode ModeOf(PoolingChoice choice, bool pools_last_token) {
  switch (choice) {
    case PoolingChoice::kMean:
      return PoolingMode::kMean;
    case PoolingChoice::kMax:
      return PoolingMode::kMax;
    case PoolingChoice::kMeanSqrtLen:
      return PoolingMode::kMeanSqrtLen;
    case PoolingChoice::kWeightedMean:
      return PoolingMode::kWeightedMean;
    case PoolingChoice::kLastToken:
      return PoolingMode::kLastToken;
    case PoolingChoice::kPooler:
      return pools_last_token ? PoolingMode::kLastToken : PoolingMode::kCls;
    case PoolingChoice::kCls:
      break;
  }
  return PoolingMode::kCls;
}

TensorView Rows(const Buffer& buffer, DType dtype, int64_t rows, int64_t columns) {
  return {buffer.data(), dtype, {rows, columns}};
}

}  // namespace

absl::StatusOr<EmbedWorkspace> EmbedWorkspace::Create(const Backend& backend, const EmbedHead& head,
                                                      int64_t max_sequences) {
  EmbedWorkspace workspace;
  const size_t size_bytes =
      static_cast<size_t>(max_sequences * head.widest()) * SizeOf(backend.activation_dtype());
  BERTRAND_ASSIGN_OR_RETURN(workspace.front_, backend.Allocate(size_bytes));
  BERTRAND_ASSIGN_OR_RETURN(workspace.back_, backend.Allocate(size_bytes));
  return workspace;
}

absl::StatusOr<std::unique_ptr<EmbedHead>> EmbedHead::Load(const SentenceModules& modules,
                                                           const Encoder& encoder,
                                                           const Backend& backend) {
  std::unique_ptr<EmbedHead> head(new EmbedHead(encoder, backend));
  head->pooling_ = modules.pooling;
  size_t count = modules.modules.size();
  while (count > 0 && modules.modules[count - 1].kind == SentenceModule::Kind::kNormalize) --count;
  head->normalizes_ = count < modules.modules.size();

  const int64_t hidden = encoder.config().hidden_size;
  int64_t width = hidden * static_cast<int64_t>(modules.pooling.size());
  head->widest_ = width;
  for (size_t i = 0; i < count; ++i) {
    BERTRAND_RETURN_IF_ERROR(head->AddStep(modules.modules[i], width));
    width = head->steps_.back().out_features;
    head->widest_ = std::max(head->widest_, width);
  }
  return head;
}

absl::Status EmbedHead::AddStep(const SentenceModule& module, int64_t width) {
  Step step;
  step.kind = module.kind;
  step.out_features = width;
  if (module.kind == SentenceModule::Kind::kNormalize) {
    steps_.push_back(std::move(step));
    return absl::OkStatus();
  }
  if (module.in_features != width) {
    return InvalidArgument(module.folder + ": the module takes " +
                           std::to_string(module.in_features) + " values, those before it give " +
                           std::to_string(width));
  }
  step.out_features = module.out_features;
  step.activation = module.activation;
  BERTRAND_ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::Open(module.folder));
  WeightLoader loader(files, backend_, "", "");
  for (const auto pass : {WeightLoader::Pass::kCheck, WeightLoader::Pass::kLoad}) {
    loader.set_pass(pass);
    if (module.kind == SentenceModule::Kind::kDense) {
      BERTRAND_ASSIGN_OR_RETURN(
          step.linear, loader.Linear(std::array{std::string("linear")}, module.out_features,
                                     module.in_features, module.has_bias));
    } else {
      BERTRAND_ASSIGN_OR_RETURN(step.norm, loader.Norm("norm", width));
    }
  }
  // sentence-transformers refuses them too: the module is not what its configuration says.
  if (const std::string note = loader.UnusedNote({}); !note.empty()) return InvalidArgument(note);
  num_parameters_ += loader.num_parameters();
  weight_bytes_ += loader.weight_bytes();
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<int64_t> EmbedHead::Dimensions(std::optional<PoolingChoice> pooling) const {
  const int64_t hidden = encoder_.config().hidden_size;
  int64_t width = hidden * static_cast<int64_t>(pooling_.size());
  if (pooling) {
    if (*pooling == PoolingChoice::kPooler && !encoder_.has_pooler()) {
      return InvalidArgument("pooling: this checkpoint has no pooler");
    }
    // A Dense or LayerNorm made for a concatenation does not fit one vector.
    const bool takes_any = std::all_of(steps_.begin(), steps_.end(), [](const Step& step) {
      return step.kind == SentenceModule::Kind::kNormalize;
    });
    if (!takes_any && width != hidden) {
      return InvalidArgument("pooling: gives " + std::to_string(hidden) +
                             " values, the modules after it take " + std::to_string(width) +
                             ": leave it unset");
    }
    width = hidden;
  }
  for (const Step& step : steps_) {
    if (step.kind != SentenceModule::Kind::kNormalize) width = step.out_features;
  }
  return width;
}

// On the host, where the sums of the segments before are.
absl::Status EmbedHead::MergeSegments(Stream& stream, const EmbedGroup& group,
                                      std::span<const PoolingMode> modes,
                                      const TensorView& pooled) const {
  const auto row_of = [&](const EmbedSegment& segment) {
    const size_t row_bytes = static_cast<size_t>(pooled.dim(1)) * SizeOf(pooled.dtype());
    return TensorView(
        static_cast<char*>(pooled.data()) + static_cast<size_t>(segment.row) * row_bytes,
        pooled.dtype(), {pooled.dim(1)});
  };
  if (group.segments.empty()) return absl::OkStatus();
  for (const EmbedSegment& segment : group.segments) {
    BERTRAND_RETURN_IF_ERROR(
        backend_.CopyToHost(stream, row_of(segment), segment.document->row(modes.size())));
  }
  BERTRAND_RETURN_IF_ERROR(backend_.Synchronize(stream));
  for (const EmbedSegment& segment : group.segments) {
    const std::span<float> row = segment.document->row(modes.size());
    segment.document->Merge(modes, segment.num_tokens, segment.skipped, row);
    BERTRAND_RETURN_IF_ERROR(backend_.Upload(row, row_of(segment)));
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorView> EmbedHead::RunPooling(Stream& stream, const EmbedGroup& group,
                                                 const TensorView& hidden,
                                                 EmbedWorkspace& workspace) const {
  const PoolingMode chosen =
      ModeOf(group.pooling.value_or(PoolingChoice::kMean), encoder_.config().pools_last_token);
  const std::span<const PoolingMode> modes =
      group.pooling ? std::span(&chosen, 1) : std::span<const PoolingMode>(pooling_);
  const int64_t rows = group.start.dim(0), width = hidden.dim(1);
  const DType dtype = hidden.dtype();
  const TensorView pooled =
      Rows(*workspace.front_, dtype, rows, width * static_cast<int64_t>(modes.size()));
  PoolParams params;
  params.x = hidden;
  params.end = group.end;
  params.weight_begin = group.document_start;
  params.out = pooled;
  for (const PoolingMode mode : modes) {
    // cls is the sequence's first token even where the prompt is left out.
    params.begin = mode == PoolingMode::kCls ? group.start : group.begin;
    params.mode = mode;
    BERTRAND_RETURN_IF_ERROR(backend_.Pool(stream, params));
    params.column += width;
  }
  BERTRAND_RETURN_IF_ERROR(MergeSegments(stream, group, modes, pooled));
  if (group.pooling != PoolingChoice::kPooler) return pooled;
  const TensorView out = Rows(*workspace.back_, dtype, rows, width);
  BERTRAND_RETURN_IF_ERROR(encoder_.Pool(stream, pooled, out));
  return out;
}

absl::StatusOr<TensorView> EmbedHead::Run(Stream& stream, const EmbedGroup& group,
                                          const TensorView& hidden,
                                          EmbedWorkspace& workspace) const {
  BERTRAND_ASSIGN_OR_RETURN(TensorView x, RunPooling(stream, group, hidden, workspace));
  for (const Step& step : steps_) {
    switch (step.kind) {
      case SentenceModule::Kind::kDense: {
        const bool is_front = x.data() == workspace.front_->data();
        const TensorView y = Rows(is_front ? *workspace.back_ : *workspace.front_, x.dtype(),
                                  x.dim(0), step.out_features);
        BERTRAND_RETURN_IF_ERROR(backend_.Linear(
            stream, {.x = x, .weight = step.linear.get(), .activation = step.activation, .y = y}));
        x = y;
        break;
      }
      case SentenceModule::Kind::kLayerNorm:
        BERTRAND_RETURN_IF_ERROR(backend_.LayerNorm(stream, {.x = x,
                                                             .gamma = step.norm.gamma.view,
                                                             .beta = step.norm.beta.view,
                                                             .eps = kModuleNormEps,
                                                             .y = x}));
        break;
      case SentenceModule::Kind::kNormalize:
        BERTRAND_RETURN_IF_ERROR(backend_.Normalize(stream, {.x = x}));
        break;
    }
  }
  if (group.normalize) BERTRAND_RETURN_IF_ERROR(backend_.Normalize(stream, {.x = x}));
  return x;
}

}  // namespace bertrand
