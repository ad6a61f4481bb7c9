// The beam head of HeadRunner: logits come to the host between the steps, because each step depends
// on what the one before has chosen.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/status.h"
#include "models/head_runner.h"

namespace bertrand {
namespace {

// modeling_xlnet.py, XLNetPoolerStartLogits and EndLogits: x * (1 - p_mask) - 1e30 * p_mask, then a
// softmax over the sequence.
void MaskedSoftmax(std::span<const uint8_t> masked, std::span<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (masked[i] != 0) values[i] = -1e30f;
  }
  const double max = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const float value : values) sum += std::exp(value - max);
  for (float& value : values) value = static_cast<float>(std::exp(value - max) / sum);
}

// The largest values and where they are, in `order`, which is scratch.
void TakeLargest(std::span<const float> values, std::span<int32_t> order, std::span<float> scores,
                 std::span<int32_t> indices) {
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(indices.size()),
                    order.end(), [&](int32_t a, int32_t b) {
                      const float x = values[static_cast<size_t>(a)];
                      const float y = values[static_cast<size_t>(b)];
                      return x > y || (x == y && a < b);
                    });
  for (size_t i = 0; i < indices.size(); ++i) {
    indices[i] = order[i];
    scores[i] = values[static_cast<size_t>(order[i])];
  }
}

}  // namespace

absl::Status HeadRunner::RunBeam(Stream& stream, const BeamOutput& beam, int32_t begin, int32_t end,
                                 const TensorView& hidden) {
  const auto size = static_cast<size_t>(end - begin);
  const std::span<float> logits = std::span(beam_logits_).first(size);
  const std::span<int32_t> order = std::span(beam_order_).first(size);
  for (size_t first = 0; first < size;) {
    const size_t count = std::min(size - first, static_cast<size_t>(workspace_.rows()));
    refs_.clear();
    for (size_t i = first; i < first + count; ++i) {
      refs_.push_back({begin + static_cast<int32_t>(i), 0, 0});
    }
    const TensorView x = workspace_.input(static_cast<int64_t>(count));
    BERTRAND_ASSIGN_OR_RETURN(const TensorView rows, UploadRows(stream, refs_));
    BERTRAND_RETURN_IF_ERROR(backend_.Gather(stream, {hidden, rows, 0, x}));
    BERTRAND_ASSIGN_OR_RETURN(const TensorView y, heads_.BeamStarts(stream, x, workspace_));
    BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(stream, y, logits.subspan(first, count)));
    first += count;
  }
  BERTRAND_RETURN_IF_ERROR(backend_.Synchronize(stream));
  MaskedSoftmax(beam.masked, logits);
  TakeLargest(logits, order, beam.start_scores, beam.starts);
  BERTRAND_RETURN_IF_ERROR(BeamNoAnswer(stream, beam, begin, end, hidden));
  const size_t ends_each = beam.ends.size() / beam.starts.size();
  for (size_t i = 0; i < beam.starts.size(); ++i) {
    BERTRAND_RETURN_IF_ERROR(BeamEnds(stream, begin, end, begin + beam.starts[i], hidden));
    MaskedSoftmax(beam.masked, logits);
    TakeLargest(logits, order, beam.end_scores.subspan(i * ends_each, ends_each),
                beam.ends.subspan(i * ends_each, ends_each));
  }
  return absl::OkStatus();
}

// Logits of all ends for one start, in beam_logits_.
absl::Status HeadRunner::BeamEnds(Stream& stream, int32_t begin, int32_t end, int32_t start,
                                  const TensorView& hidden) {
  const int64_t width = hidden.dim(1);
  for (int32_t first = begin; first < end;) {
    const auto count = static_cast<int32_t>(std::min<int64_t>(end - first, workspace_.rows()));
    const TensorView pairs = workspace_.pairs(count);
    for (const bool is_start : {false, true}) {
      refs_.clear();
      for (int32_t i = 0; i < count; ++i) refs_.push_back({is_start ? start : first + i, 0, i});
      BERTRAND_ASSIGN_OR_RETURN(const TensorView rows, UploadRows(stream, refs_));
      BERTRAND_RETURN_IF_ERROR(
          backend_.Gather(stream, {hidden, rows, is_start ? width : 0, pairs}));
    }
    BERTRAND_ASSIGN_OR_RETURN(const TensorView y, heads_.BeamEnds(stream, pairs, workspace_));
    BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(
        stream, y,
        std::span(beam_logits_)
            .subspan(static_cast<size_t>(first - begin), static_cast<size_t>(count))));
    first += count;
  }
  return backend_.Synchronize(stream);
}

// From [the states' mean under P(start), the state of <cls>]. beam_logits_ holds P(start).
absl::Status HeadRunner::BeamNoAnswer(Stream& stream, const BeamOutput& beam, int32_t begin,
                                      int32_t end, const TensorView& hidden) {
  const auto width = static_cast<size_t>(hidden.dim(1));
  std::fill(beam_state_.begin(), beam_state_.end(), 0.0f);
  for (int32_t first = begin; first < end;) {
    const auto count = static_cast<int32_t>(std::min<int64_t>(end - first, workspace_.rows()));
    const TensorView states(static_cast<char*>(hidden.data()) +
                                static_cast<size_t>(first) * width * SizeOf(hidden.dtype()),
                            hidden.dtype(), {count, hidden.dim(1)});
    const std::span<float> rows = std::span(beam_rows_).first(static_cast<size_t>(count) * width);
    BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(stream, states, rows));
    BERTRAND_RETURN_IF_ERROR(backend_.Synchronize(stream));
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      const float weight = beam_logits_[static_cast<size_t>(first - begin) + i];
      for (size_t j = 0; j < width; ++j) beam_state_[j] += weight * rows[i * width + j];
    }
    first += count;
  }
  const TensorView pair = workspace_.pairs(1);
  BERTRAND_RETURN_IF_ERROR(
      backend_.Upload(beam_state_, {pair.data(), pair.dtype(), {hidden.dim(1)}}));
  refs_.clear();
  refs_.push_back({begin + beam.cls_index, 0, 0});
  BERTRAND_ASSIGN_OR_RETURN(const TensorView row, UploadRows(stream, refs_));
  BERTRAND_RETURN_IF_ERROR(backend_.Gather(stream, {hidden, row, hidden.dim(1), pair}));
  BERTRAND_ASSIGN_OR_RETURN(const TensorView y, heads_.BeamNoAnswer(stream, pair, workspace_));
  BERTRAND_RETURN_IF_ERROR(backend_.CopyToHost(stream, y, std::span(beam.no_answer_logit, 1)));
  return backend_.Synchronize(stream);
}

}  // namespace bertrand
