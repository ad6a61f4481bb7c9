#pragma once

// From hidden states to one vector per sequence: pooling, then the modules that
// sentence-transformers checkpoints put after it.
//
// A client's pooling replaces the checkpoint's Pooling module; the modules after it stay, so a
// choice that equals the checkpoint's own gives the same vector. A client's `normalize` switches
// the last Normalize off, or puts one at the end.
//
// An EmbedHead owns its weights on the device, is immutable after Load and thread-safe. An
// EmbedWorkspace is one batch's memory. Running allocates nothing.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "models/checkpoint/sentence_modules.h"
#include "models/checkpoint/weight_loader.h"
#include "models/encoder/encoder.h"
#include "models/model.h"
#include "models/task/pooled_document.h"

namespace bertrand {

// A row of a group that is a segment of a document: its vector is merged into the document's, and
// becomes it.
struct EmbedSegment {
  int64_t row = 0;
  PooledDocument* document = nullptr;
  int64_t num_tokens = 0, skipped = 0;  // as PooledDocument::Merge has them
};

// Sequences of a batch that are pooled alike. Views are int32 [R], rows of the hidden states.
struct EmbedGroup {
  std::optional<PoolingChoice> pooling;
  bool normalize = false;
  TensorView start;  // a sequence's first row
  TensorView begin;  // the first that is pooled: after the prompt's, when those are left out
  TensorView end;
  TensorView document_start;  // `start`, less the tokens of earlier segments
  std::span<const EmbedSegment> segments;
};

class EmbedHead;

class EmbedWorkspace {
 public:
  static absl::StatusOr<EmbedWorkspace> Create(const Backend& backend, const EmbedHead& head,
                                               int64_t max_sequences);

 private:
  friend class EmbedHead;
  EmbedWorkspace() = default;
  std::unique_ptr<Buffer> front_, back_;  // [max_sequences, widest vector]
};

class EmbedHead {
 public:
  // `encoder` and `backend` must outlive the head.
  static absl::StatusOr<std::unique_ptr<EmbedHead>> Load(const SentenceModules& modules,
                                                         const Encoder& encoder,
                                                         const Backend& backend);

  // Model::EmbedDimensions.
  absl::StatusOr<int64_t> Dimensions(std::optional<PoolingChoice> pooling) const;
  // Whether the checkpoint ends with Normalize.
  bool normalizes() const { return normalizes_; }
  int64_t widest() const { return widest_; }
  // Poolings side by side, at most.
  size_t num_poolings() const { return pooling_.size(); }
  uint64_t num_parameters() const { return num_parameters_; }
  uint64_t weight_bytes() const { return weight_bytes_; }

  // Pools `hidden` [T, H] for the R sequences of a group; the view is the result, [R, D] in
  // workspace's memory, until the next Run on the same stream. Requires Dimensions(pooling).ok().
  absl::StatusOr<TensorView> Run(Stream& stream, const EmbedGroup& group, const TensorView& hidden,
                                 EmbedWorkspace& workspace) const;

 private:
  struct Step {
    SentenceModule::Kind kind{};
    int64_t out_features = 0;
    std::unique_ptr<PackedLinear> linear;
    Activation activation = Activation::kNone;
    NormWeights norm;
  };

  EmbedHead(const Encoder& encoder, const Backend& backend)
      : encoder_(encoder), backend_(backend) {}
  absl::Status AddStep(const SentenceModule& module, int64_t width);
  absl::Status MergeSegments(Stream& stream, const EmbedGroup& group,
                             std::span<const PoolingMode> modes, const TensorView& pooled) const;
  absl::StatusOr<TensorView> RunPooling(Stream& stream, const EmbedGroup& group,
                                        const TensorView& hidden, EmbedWorkspace& workspace) const;

  const Encoder& encoder_;
  const Backend& backend_;
  std::vector<PoolingMode> pooling_;
  // Without the Normalize modules at the end, which normalizes_ stands for.
  std::vector<Step> steps_;
  bool normalizes_ = false;
  int64_t widest_ = 0;
  uint64_t num_parameters_ = 0, weight_bytes_ = 0;
};

}  // namespace bertrand
