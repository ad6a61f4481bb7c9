#include "models/head_runner.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

constexpr std::array kLogitsHeads = {LogitsHead::kClassifier, LogitsHead::kNextSentence,
                                     LogitsHead::kSentenceOrder, LogitsHead::kTokenClassifier,
                                     LogitsHead::kReplacedToken};

absl::Status WrongSize(const char* what, size_t have, size_t want) {
  if (have == want) return absl::OkStatus();
  return Internal(std::string(what) + " of " + std::to_string(have) + " values, expected " +
                  std::to_string(want));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HeadRunner>> HeadRunner::Create(const TaskHeads& heads,
                                                               const Backend& backend,
                                                               int64_t max_tokens) {
  BERTRAND_ASSIGN_OR_RETURN(HeadsWorkspace workspace,
                            HeadsWorkspace::Create(backend, heads, max_tokens));
  std::unique_ptr<HeadRunner> runner(
      new HeadRunner(heads, backend, max_tokens, std::move(workspace)));
  // A token has at most one place in an output.
  runner->rows_size_ = max_tokens;
  const auto size = static_cast<size_t>(runner->rows_size_);
  BERTRAND_ASSIGN_OR_RETURN(runner->rows_, backend.Allocate(size * sizeof(int32_t)));
  if (!backend.host_memory()) {
    BERTRAND_ASSIGN_OR_RETURN(runner->host_rows_, backend.AllocateHost(size * sizeof(int32_t)));
  }
  if (heads.has(LogitsHead::kAnswerSpan)) {
    BERTRAND_RETURN_IF_ERROR(runner->AllocateAnswers(max_tokens));
  }
  return runner;
}

HeadRunner::HeadRunner(const TaskHeads& heads, const Backend& backend, int64_t max_tokens,
                       HeadsWorkspace workspace)
    : heads_(heads), backend_(backend), workspace_(std::move(workspace)) {
  refs_.reserve(static_cast<size_t>(max_tokens));
  segments_.reserve(static_cast<size_t>(workspace_.rows()));
  parts_.reserve(static_cast<size_t>(workspace_.rows()));
  if (!heads.has_beam()) return;
  const auto width = static_cast<size_t>(workspace_.input(0).dim(1));
  beam_logits_.resize(static_cast<size_t>(max_tokens));
  beam_order_.resize(static_cast<size_t>(max_tokens));
  beam_state_.resize(width);
  beam_rows_.resize(static_cast<size_t>(workspace_.rows()) * width);
}

// ---- Checks

absl::Status HeadRunner::CheckLogits(const SequenceWork& work) const {
  const LogitsHead head = work.logits->head;
  if (!heads_.has(head)) return Internal("the checkpoint has no such head");
  const size_t rows = heads_.reads_every_token(head) ? work.ids.size() : 1;
  return WrongSize("logits", work.logits->logits.size(),
                   rows * static_cast<size_t>(heads_.width(head)));
}

absl::Status HeadRunner::CheckMask(const SequenceWork& work) const {
  const MaskOutput& mask = *work.mask;
  if (!heads_.has_masked_lm()) return Internal("the checkpoint has no masked-LM head");
  const int64_t vocabulary = workspace_.sparse().dim(0);
  if (mask.positions.size() > work.ids.size()) return Internal("more masks than tokens");
  for (const int32_t position : mask.positions) {
    if (position < 0 || static_cast<size_t>(position) >= work.ids.size()) {
      return Internal("mask at " + std::to_string(position));
    }
  }
  for (const int32_t target : mask.targets) {
    if (target < 0 || target >= vocabulary) return Internal("target " + std::to_string(target));
  }
  const int64_t choice =
      mask.targets.empty() ? vocabulary : static_cast<int64_t>(mask.targets.size());
  if (choice > vocabulary || mask.num_candidates < 1 || mask.num_candidates > choice) {
    return Internal(std::to_string(mask.num_candidates) + " candidates of " +
                    std::to_string(choice));
  }
  const size_t want = mask.positions.size() * static_cast<size_t>(mask.num_candidates);
  BERTRAND_RETURN_IF_ERROR(WrongSize("candidates", mask.ids.size(), want));
  return WrongSize("candidates' scores", mask.scores.size(), want);
}

absl::Status HeadRunner::CheckBeam(const SequenceWork& work) const {
  const BeamOutput& beam = *work.beam;
  if (!heads_.has_beam()) return Internal("the checkpoint has no beam head");
  const size_t size = work.ids.size();
  const size_t starts = std::min(size, static_cast<size_t>(heads_.num_starts()));
  const size_t ends = std::min(size, static_cast<size_t>(heads_.num_ends()));
  BERTRAND_RETURN_IF_ERROR(WrongSize("mask", beam.masked.size(), size));
  BERTRAND_RETURN_IF_ERROR(WrongSize("starts", beam.starts.size(), starts));
  BERTRAND_RETURN_IF_ERROR(WrongSize("start scores", beam.start_scores.size(), starts));
  BERTRAND_RETURN_IF_ERROR(WrongSize("ends", beam.ends.size(), starts * ends));
  BERTRAND_RETURN_IF_ERROR(WrongSize("end scores", beam.end_scores.size(), starts * ends));
  if (beam.no_answer_logit == nullptr || beam.cls_index < 0 ||
      static_cast<size_t>(beam.cls_index) >= size) {
    return Internal("<cls> at " + std::to_string(beam.cls_index));
  }
  return absl::OkStatus();
}

absl::Status HeadRunner::Check(const SequenceWork& work) const {
  if (work.logits != nullptr) return CheckLogits(work);
  if (work.mask != nullptr) return CheckMask(work);
  if (work.beam != nullptr) return CheckBeam(work);
  if (work.answers != nullptr) return CheckAnswers(work);
  if (work.sparse == nullptr) return absl::OkStatus();
  if (!heads_.has_masked_lm()) return Internal("the checkpoint has no masked-LM head");
  return WrongSize("sparse vector", work.sparse->weights.size(),
                   static_cast<size_t>(workspace_.sparse().dim(0)));
}

// ---- Rows

TensorView HeadRunner::Rows(const TensorView& x, int64_t first, int64_t count) {
  const int64_t width = x.dim(1);
  return {static_cast<char*>(x.data()) + static_cast<size_t>(first * width) * SizeOf(x.dtype()),
          x.dtype(),
          {count, width}};
}

absl::StatusOr<TensorView> HeadRunner::UploadRows(Stream& stream, std::span<const RowRef> refs) {
  const auto size = static_cast<int64_t>(refs.size());
  if (rows_used_ + size > rows_size_) {
    BERTRAND_RETURN_IF_ERROR(backend_.Synchronize(stream));
    rows_used_ = 0;
  }
  int32_t* const device = static_cast<int32_t*>(rows_->data()) + rows_used_;
  int32_t* const host =
      host_rows_ == nullptr ? device : static_cast<int32_t*>(host_rows_->data()) + rows_used_;
  for (size_t i = 0; i < refs.size(); ++i) host[i] = refs[i].row;
  if (host_rows_ != nullptr) {
    BERTRAND_RETURN_IF_ERROR(
        backend_.CopyToDevice(stream, host, device, refs.size() * sizeof(int32_t)));
  }
  rows_used_ += size;
  return TensorView(device, DType::kInt32, {size});
}

void HeadRunner::AddAllRows(size_t sequence, std::span<const int32_t> cu_seqlens) {
  const int32_t begin = cu_seqlens[sequence], end = cu_seqlens[sequence + 1];
  for (int32_t row = begin; row < end; ++row) {
    refs_.push_back({row, static_cast<int32_t>(sequence), row - begin});
  }
}

absl::Status HeadRunner::Run(Stream& stream, std::span<const SequenceWork> batch,
                             std::span<const int32_t> cu_seqlens, const TensorView& hidden) {
  rows_used_ = 0;
  for (const LogitsHead head : kLogitsHeads) {
    if (!heads_.has(head)) continue;
    BERTRAND_RETURN_IF_ERROR(RunLogits(stream, head, batch, cu_seqlens, hidden));
  }
  if (heads_.has(LogitsHead::kAnswerSpan)) {
    BERTRAND_RETURN_IF_ERROR(RunAnswers(stream, batch, cu_seqlens, hidden));
  }
  if (heads_.has_masked_lm()) {
    BERTRAND_RETURN_IF_ERROR(RunMasks(stream, batch, cu_seqlens, hidden));
    BERTRAND_RETURN_IF_ERROR(RunSparse(stream, batch, cu_seqlens, hidden));
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].beam == nullptr) continue;
    BERTRAND_RETURN_IF_ERROR(
        RunBeam(stream, *batch[i].beam, cu_seqlens[i], cu_seqlens[i + 1], hidden));
  }
  return absl::OkStatus();
}

// ---- Heads

absl::Status HeadRunner::RunLogits(Stream& stream, LogitsHead head,
                                   std::span<const SequenceWork> batch,
                                   std::span<const int32_t> cu_seqlens, const TensorView& hidden) {
  refs_.clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].logits == nullptr || batch[i].logits->head != head) continue;
    if (heads_.reads_every_token(head)) {
      AddAllRows(i, cu_seqlens);
    } else {
      const int32_t row = heads_.reads_last_token(head) ? cu_seqlens[i + 1] - 1 : cu_seqlens[i];
      refs_.push_back({row, static_cast<int32_t>(i), 0});
    }
  }
  return ForChunks(stream, hidden, workspace_.rows(), [&](const TensorView& x) -> absl::Status {
    BERTRAND_ASSIGN_OR_RETURN(const TensorView y, heads_.Logits(stream, head, x, workspace_));
    const auto width = static_cast<size_t>(y.dim(1));
    parts_.clear();
    for (const Segment& segment : segments_) {
      parts_.push_back(batch[segment.sequence].logits->logits.subspan(
          static_cast<size_t>(segment.place) * width, static_cast<size_t>(segment.size) * width));
    }
    return backend_.CopyToHost(stream, y, parts_);
  });
}

absl::Status HeadRunner::RunMasks(Stream& stream, std::span<const SequenceWork> batch,
                                  std::span<const int32_t> cu_seqlens, const TensorView& hidden) {
  refs_.clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].mask == nullptr) continue;
    int32_t place = 0;
    for (const int32_t position : batch[i].mask->positions) {
      refs_.push_back({cu_seqlens[i] + position, static_cast<int32_t>(i), place++});
    }
  }
  return ForChunks(stream, hidden, workspace_.vocabulary_rows(),
                   [&](const TensorView& x) -> absl::Status {
                     BERTRAND_ASSIGN_OR_RETURN(const TensorView logits,
                                               heads_.VocabularyLogits(stream, x, workspace_));
                     BERTRAND_RETURN_IF_ERROR(backend_.Softmax(stream, {logits}));
                     for (const Segment& segment : segments_) {
                       BERTRAND_RETURN_IF_ERROR(
                           TakeCandidates(stream, *batch[segment.sequence].mask, segment, logits));
                     }
                     return absl::OkStatus();
                   });
}

absl::Status HeadRunner::TakeCandidates(Stream& stream, const MaskOutput& mask,
                                        const Segment& segment, const TensorView& probabilities) {
  TensorView columns;
  if (!mask.targets.empty()) {
    columns = workspace_.targets(static_cast<int64_t>(mask.targets.size()));
    BERTRAND_RETURN_IF_ERROR(backend_.CopyToDevice(stream, mask.targets.data(), columns.data(),
                                                   mask.targets.size_bytes()));
  }
  const int64_t k = mask.num_candidates;
  const int64_t rows_each = std::max<int64_t>(1, workspace_.candidates_max() / k);
  for (int64_t row = 0; row < segment.size; row += rows_each) {
    const int64_t rows = std::min(rows_each, segment.size - row);
    const TensorView values = workspace_.values(rows, k), indices = workspace_.indices(rows, k);
    BERTRAND_RETURN_IF_ERROR(backend_.TopK(
        stream, {Rows(probabilities, segment.begin + row, rows), columns, values, indices}));
    const auto at = static_cast<size_t>((segment.place + row) * k);
    const auto size = static_cast<size_t>(rows * k);
    BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(stream, values, mask.scores.subspan(at, size)));
    BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(stream, indices, mask.ids.subspan(at, size)));
  }
  return absl::OkStatus();
}

absl::Status HeadRunner::RunSparse(Stream& stream, std::span<const SequenceWork> batch,
                                   std::span<const int32_t> cu_seqlens, const TensorView& hidden) {
  refs_.clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].sparse != nullptr) AddAllRows(i, cu_seqlens);
  }
  const TensorView weights = workspace_.sparse();
  return ForChunks(
      stream, hidden, workspace_.vocabulary_rows(), [&](const TensorView& x) -> absl::Status {
        BERTRAND_ASSIGN_OR_RETURN(const TensorView logits,
                                  heads_.VocabularyLogits(stream, x, workspace_));
        for (const Segment& segment : segments_) {
          const SparseOutput& output = *batch[segment.sequence].sparse;
          if (segment.place == 0) BERTRAND_RETURN_IF_ERROR(backend_.Clear(stream, weights));
          BERTRAND_RETURN_IF_ERROR(backend_.SparsePool(
              stream, {Rows(logits, segment.begin, segment.size), heads_.sparse_pooling().sum,
                       heads_.sparse_pooling().log_twice, weights}));
          const auto done = static_cast<size_t>(segment.place + segment.size);
          if (done < batch[segment.sequence].ids.size()) continue;
          BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(stream, weights, output.weights));
        }
        return absl::OkStatus();
      });
}

}  // namespace bertrand
