#include "server/worker.h"

#include <algorithm>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

// As long as a sentence.
constexpr int64_t kWarmUpTokens = 32;

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(
    std::span<const std::unique_ptr<ServedModel>> models, size_t device, int64_t max_batch_tokens,
    int64_t max_batch_sequences) {
  auto worker = std::unique_ptr<Worker>(new Worker);
  for (const auto& served : models) {
    auto runner = served->on(device).NewRunner(max_batch_tokens, max_batch_sequences);
    if (!runner.ok()) return Annotate(runner.status(), "model " + served->name);
    worker->runners_.push_back(*std::move(runner));
  }
  worker->sequences_.reserve(static_cast<size_t>(max_batch_sequences));
  return worker;
}

absl::Status Worker::WarmUp(std::span<const std::unique_ptr<ServedModel>> models) {
  for (const auto& served : models) {
    const ModelDescription& description = served->model->description();
    const int64_t num_tokens = std::min(kWarmUpTokens, served->input_tokens_max);
    // Every vocabulary has the id 0, and every encoder hidden states.
    const std::vector<int32_t> ids(static_cast<size_t>(num_tokens), 0);
    const std::vector<int32_t> layers = {static_cast<int32_t>(description.num_layers)};
    std::vector<float> vectors(static_cast<size_t>(num_tokens * description.hidden_size));
    const TokensOutput output{.layers = layers, .vectors = vectors};
    const SequenceWork work{.ids = ids, .type_ids = ids, .tokens = &output};
    const absl::Status status =
        runners_[static_cast<size_t>(served->index)]->Forward(std::span(&work, 1));
    if (!status.ok()) return Annotate(status, "model " + served->name + ": warm-up");
  }
  return absl::OkStatus();
}

absl::Status Worker::Run(const Batch& batch) {
  sequences_.clear();
  for (const JobSlice& slice : batch.slices) {
    const auto sequences = slice.job->request->sequences().subspan(slice.first, slice.count);
    sequences_.insert(sequences_.end(), sequences.begin(), sequences.end());
  }
  return runners_[static_cast<size_t>(batch.model)]->Forward(sequences_);
}

}  // namespace bertrand
