// The answers' head of HeadRunner: logits of all tokens of all sequences that want answers, then
// their best spans, found on the device.

#include <algorithm>
#include <string>

#include "kernels/status.h"
#include "models/head_runner.h"

namespace bertrand {
namespace {

// Rows of spans that come from one call.
constexpr int64_t kSpanRowsMax = static_cast<int64_t>(SpanOutput::kSpansMax) + 1;

}  // namespace

absl::Status HeadRunner::AllocateAnswers(int64_t max_tokens) {
  // A mask of each token, and four numbers of each sequence, of two of them one more.
  const auto size = static_cast<size_t>(5 * max_tokens + 2);
  BERTRAND_ASSIGN_OR_RETURN(answer_block_, backend_.Allocate(size * sizeof(int32_t)));
  BERTRAND_ASSIGN_OR_RETURN(answer_spans_, backend_.Allocate(kSpanRowsMax * sizeof(ScoredSpan)));
  if (!backend_.host_memory()) {
    BERTRAND_ASSIGN_OR_RETURN(host_answer_block_, backend_.AllocateHost(size * sizeof(int32_t)));
  }
  return absl::OkStatus();
}

absl::Status HeadRunner::CheckAnswers(const SequenceWork& work) const {
  const SpanOutput& output = *work.answers;
  if (!heads_.has(LogitsHead::kAnswerSpan)) {
    return Internal("the checkpoint has no head for answers");
  }
  if (output.masked.size() != work.ids.size()) {
    return Internal("mask of " + std::to_string(output.masked.size()) + " tokens, expected " +
                    std::to_string(work.ids.size()));
  }
  if (output.null_token < 0 || static_cast<size_t>(output.null_token) >= work.ids.size() ||
      output.tokens_max < 1) {
    return Internal("null token " + std::to_string(output.null_token) + ", spans of " +
                    std::to_string(output.tokens_max));
  }
  if (output.spans.empty() || output.spans.size() > SpanOutput::kSpansMax) {
    return Internal(std::to_string(output.spans.size()) + " spans");
  }
  return absl::OkStatus();
}

// Packs sequences from *next on, as many as there is room for spans, and moves *next behind them.
HeadRunner::AnswerChunk HeadRunner::PackAnswers(std::span<const SequenceWork> batch, size_t* next) {
  AnswerChunk chunk;
  chunk.begin = *next;
  for (; *next < batch.size(); ++*next) {
    const SpanOutput* output = batch[*next].answers;
    if (output == nullptr) continue;
    const auto rows = static_cast<int64_t>(output->spans.size());
    if (chunk.num_spans + rows > kSpanRowsMax) break;
    chunk.num_spans += rows;
    chunk.num_tokens += static_cast<int64_t>(batch[*next].ids.size());
    ++chunk.num_sequences;
  }
  chunk.end = *next;

  auto* const device = static_cast<int32_t*>(answer_block_->data());
  int32_t* const host =
      host_answer_block_ == nullptr ? device : static_cast<int32_t*>(host_answer_block_->data());
  const int64_t n = chunk.num_sequences, tokens = chunk.num_tokens;
  int32_t* const masked = host;
  int32_t* const cu_seqlens = masked + tokens;
  int32_t* const first = cu_seqlens + n + 1;
  int32_t* const null_tokens = first + n + 1;
  int32_t* const tokens_max = null_tokens + n;
  chunk.block_size = tokens_max + n - host;
  const auto view = [&](const int32_t* part, int64_t size) {
    return TensorView(device + (part - host), DType::kInt32, {size});
  };
  chunk.params = {.logits = {},
                  .masked = view(masked, tokens),
                  .cu_seqlens = view(cu_seqlens, n + 1),
                  .cu_seqlens_host = {cu_seqlens, static_cast<size_t>(n + 1)},
                  .null_tokens = view(null_tokens, n),
                  .tokens_max = view(tokens_max, n),
                  .first = view(first, n + 1),
                  .spans = {answer_spans_->data(), DType::kInt32, {chunk.num_spans, 3}}};
  int64_t i = 0;
  cu_seqlens[0] = first[0] = 0;
  for (size_t sequence = chunk.begin; sequence < chunk.end; ++sequence) {
    const SpanOutput* output = batch[sequence].answers;
    if (output == nullptr) continue;
    std::copy(output->masked.begin(), output->masked.end(), masked + cu_seqlens[i]);
    cu_seqlens[i + 1] = cu_seqlens[i] + static_cast<int32_t>(output->masked.size());
    first[i + 1] = first[i] + static_cast<int32_t>(output->spans.size());
    null_tokens[i] = output->null_token;
    tokens_max[i] = output->tokens_max;
    ++i;
  }
  return chunk;
}

absl::Status HeadRunner::RunAnswers(Stream& stream, std::span<const SequenceWork> batch,
                                    std::span<const int32_t> cu_seqlens, const TensorView& hidden) {
  refs_.clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].answers != nullptr) AddAllRows(i, cu_seqlens);
  }
  if (refs_.empty()) return absl::OkStatus();
  const TensorView logits = workspace_.answer_logits(static_cast<int64_t>(refs_.size()));
  int64_t row = 0;
  BERTRAND_RETURN_IF_ERROR(
      ForChunks(stream, hidden, workspace_.rows(), [&](const TensorView& x) -> absl::Status {
        const TensorView y = Rows(logits, row, x.dim(0));
        row += x.dim(0);
        return heads_.AnswerLogits(stream, x, workspace_, y);
      }));

  row = 0;
  for (size_t next = 0; next < batch.size();) {
    // The chunk before may still be on its way to the device.
    if (row > 0) BERTRAND_RETURN_IF_ERROR(backend_.Synchronize(stream));
    AnswerChunk chunk = PackAnswers(batch, &next);
    if (chunk.num_sequences == 0) break;
    chunk.params.logits = Rows(logits, row, chunk.num_tokens);
    row += chunk.num_tokens;
    if (host_answer_block_ != nullptr) {
      BERTRAND_RETURN_IF_ERROR(
          backend_.CopyToDevice(stream, host_answer_block_->data(), answer_block_->data(),
                                static_cast<size_t>(chunk.block_size) * sizeof(int32_t)));
    }
    BERTRAND_RETURN_IF_ERROR(backend_.BestSpans(stream, chunk.params));
    BERTRAND_RETURN_IF_ERROR(CopyAnswers(stream, batch, chunk));
  }
  return absl::OkStatus();
}

absl::Status HeadRunner::CopyAnswers(Stream& stream, std::span<const SequenceWork> batch,
                                     const AnswerChunk& chunk) {
  int64_t first = 0;
  for (size_t sequence = chunk.begin; sequence < chunk.end; ++sequence) {
    const SpanOutput* output = batch[sequence].answers;
    if (output == nullptr) continue;
    const auto size = static_cast<int64_t>(output->spans.size());
    const std::span<int32_t> to(reinterpret_cast<int32_t*>(output->spans.data()),
                                3 * output->spans.size());
    BERTRAND_RETURN_IF_ERROR(
        backend_.CopyToHost(stream, Rows(chunk.params.spans, first, size), to));
    first += size;
  }
  return absl::OkStatus();
}

}  // namespace bertrand
