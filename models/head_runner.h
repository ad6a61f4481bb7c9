#pragma once

// The outputs of a batch that come from heads (LogitsOutput, MaskOutput, SparseOutput, BeamOutput,
// SpanOutput):
// gathers the rows of hidden states that somebody wants, runs the heads on them, and copies the
// results to the host.
//
// Part of a PackedRunner: one thread at a time, allocates nothing after Create. `heads` and
// `backend` must outlive it.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "models/model.h"
#include "models/task/heads.h"

namespace bertrand {

class HeadRunner {
 public:
  static absl::StatusOr<std::unique_ptr<HeadRunner>> Create(const TaskHeads& heads,
                                                            const Backend& backend,
                                                            int64_t max_tokens);

  // Whether the output of a sequence can be made: the head is there, sizes fit. Requires that the
  // ids have been checked.
  absl::Status Check(const SequenceWork& work) const;

  // Every such output of the batch; valid after Synchronize.
  absl::Status Run(Stream& stream, std::span<const SequenceWork> batch,
                   std::span<const int32_t> cu_seqlens, const TensorView& hidden);

 private:
  // A row of the hidden states that a head reads: the `place`th that a sequence wants.
  struct RowRef {
    int32_t row, sequence, place;
  };
  // Consecutive rows of a chunk that belong to one sequence.
  struct Segment {
    size_t sequence;
    int64_t begin, size;  // in the chunk
    int64_t place;        // of the first
  };

  // Sequences that want answers, packed for one call: those of [begin, end) of the batch.
  struct AnswerChunk {
    size_t begin = 0, end = 0;
    int64_t num_sequences = 0, num_tokens = 0, num_spans = 0;
    int64_t block_size = 0;  // of answer_block_
    SpanParams params;       // without the logits
  };

  HeadRunner(const TaskHeads& heads, const Backend& backend, int64_t max_tokens,
             HeadsWorkspace workspace);
  absl::Status CheckLogits(const SequenceWork& work) const;
  absl::Status CheckMask(const SequenceWork& work) const;
  absl::Status CheckBeam(const SequenceWork& work) const;
  absl::Status CheckAnswers(const SequenceWork& work) const;

  // Rows [first, first + count) of a matrix.
  static TensorView Rows(const TensorView& x, int64_t first, int64_t count);
  // Runs run(x, segments of the chunk) over chunks of refs_. `x` holds the gathered rows.
  template <typename RunChunk>
  absl::Status ForChunks(Stream& stream, const TensorView& hidden, int64_t rows_max,
                         const RunChunk& run);
  absl::StatusOr<TensorView> UploadRows(Stream& stream, std::span<const RowRef> refs);
  absl::Status RunLogits(Stream& stream, LogitsHead head, std::span<const SequenceWork> batch,
                         std::span<const int32_t> cu_seqlens, const TensorView& hidden);
  absl::Status RunMasks(Stream& stream, std::span<const SequenceWork> batch,
                        std::span<const int32_t> cu_seqlens, const TensorView& hidden);
  absl::Status TakeCandidates(Stream& stream, const MaskOutput& mask, const Segment& segment,
                              const TensorView& probabilities);
  absl::Status RunSparse(Stream& stream, std::span<const SequenceWork> batch,
                         std::span<const int32_t> cu_seqlens, const TensorView& hidden);
  absl::Status RunBeam(Stream& stream, const BeamOutput& beam, int32_t begin, int32_t end,
                       const TensorView& hidden);
  absl::Status BeamEnds(Stream& stream, int32_t begin, int32_t end, int32_t start,
                        const TensorView& hidden);
  absl::Status BeamNoAnswer(Stream& stream, const BeamOutput& beam, int32_t begin, int32_t end,
                            const TensorView& hidden);
  absl::Status AllocateAnswers(int64_t max_tokens);
  AnswerChunk PackAnswers(std::span<const SequenceWork> batch, size_t* next);
  absl::Status RunAnswers(Stream& stream, std::span<const SequenceWork> batch,
                          std::span<const int32_t> cu_seqlens, const TensorView& hidden);
  absl::Status CopyAnswers(Stream& stream, std::span<const SequenceWork> batch,
                           const AnswerChunk& chunk);
  void AddAllRows(size_t sequence, std::span<const int32_t> cu_seqlens);

  const TaskHeads& heads_;
  const Backend& backend_;
  HeadsWorkspace workspace_;

  std::vector<RowRef> refs_;
  std::vector<Segment> segments_;
  std::vector<std::span<float>> parts_;  // where a chunk's logits go
  // Rows of all chunks since the last Synchronize, so that none is overwritten while it is copied.
  std::unique_ptr<Buffer> rows_;
  std::unique_ptr<Buffer> host_rows_;  // null where the device's memory is the host's
  int64_t rows_used_ = 0, rows_size_ = 0;
  // Of the beam head, on the host: logits of a sequence's tokens, and the mean state of the start.
  std::vector<float> beam_logits_, beam_state_, beam_rows_;
  std::vector<int32_t> beam_order_;
  // Of the answers' head: what BestSpans is told, and what it finds.
  std::unique_ptr<Buffer> answer_block_, answer_spans_;
  std::unique_ptr<Buffer> host_answer_block_;  // null where the device's memory is the host's
};

template <typename RunChunk>
absl::Status HeadRunner::ForChunks(Stream& stream, const TensorView& hidden, int64_t rows_max,
                                   const RunChunk& run) {
  std::span<const RowRef> left(refs_);
  while (!left.empty()) {
    const std::span<const RowRef> chunk =
        left.first(std::min(left.size(), static_cast<size_t>(rows_max)));
    left = left.subspan(chunk.size());
    segments_.clear();
    for (size_t i = 0; i < chunk.size(); ++i) {
      const auto sequence = static_cast<size_t>(chunk[i].sequence);
      if (segments_.empty() || segments_.back().sequence != sequence) {
        segments_.push_back({sequence, static_cast<int64_t>(i), 0, chunk[i].place});
      }
      ++segments_.back().size;
    }
    const TensorView x = workspace_.input(static_cast<int64_t>(chunk.size()));
    BERTRAND_ASSIGN_OR_RETURN(const TensorView rows, UploadRows(stream, chunk));
    BERTRAND_RETURN_IF_ERROR(backend_.Gather(stream, {hidden, rows, 0, x}));
    BERTRAND_RETURN_IF_ERROR(run(x));
  }
  return absl::OkStatus();
}

}  // namespace bertrand
