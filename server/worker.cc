#include "server/worker.h"

#include <utility>

#include "kernels/status.h"

namespace bertrand {

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(
    std::span<const std::unique_ptr<ServedModel>> models, int64_t max_batch_tokens,
    int64_t max_batch_sequences) {
  auto worker = std::unique_ptr<Worker>(new Worker);
  for (const auto& served : models) {
    auto runner = served->model->NewRunner(max_batch_tokens, max_batch_sequences);
    if (!runner.ok()) return Annotate(runner.status(), "model " + served->name);
    worker->runners_.push_back(*std::move(runner));
  }
  worker->sequences_.reserve(static_cast<size_t>(max_batch_sequences));
  return worker;
}

absl::Status Worker::Run(const Batch& batch) {
  sequences_.clear();
  for (const JobSlice& slice : batch.slices) {
    const Job& job = *slice.job;
    for (size_t i = slice.first; i < slice.first + slice.count; ++i) {
      const JobInput& input = job.inputs[i];
      SequenceWork work{.ids = input.prepared.encoding.ids,
                        .type_ids = input.prepared.encoding.type_ids};
      if (job.kind == Job::Kind::kEmbed) {
        work.embed = &input.embed;
      } else {
        work.tokens = &input.tokens;
      }
      sequences_.push_back(work);
    }
  }
  return runners_[static_cast<size_t>(batch.model)]->Forward(sequences_);
}

}  // namespace bertrand
