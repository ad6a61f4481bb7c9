#pragma once

// One lane: a batch in flight on one device, with a runner (and so a workspace) for each model.
//
// Owned by the engine, used by one thread at a time. Spans handed to the runner point into the jobs
// of the batch, which the batch keeps alive.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <span>
#include <vector>

#include "models/model.h"
#include "server/job.h"
#include "server/queue.h"

namespace bertrand {

class Worker {
 public:
  // Allocates the workspaces. Errors name the model.
  static absl::StatusOr<std::unique_ptr<Worker>> Create(
      std::span<const std::unique_ptr<ServedModel>> models, size_t device, int64_t max_batch_tokens,
      int64_t max_batch_sequences);

  // A small forward with each model: what is made or touched only once is not left to the first
  // request.
  absl::Status WarmUp(std::span<const std::unique_ptr<ServedModel>> models);

  // Runs a batch to its end; results are in the requests' own memory then.
  absl::Status Run(const Batch& batch);

 private:
  Worker() = default;
  std::vector<std::unique_ptr<ModelRunner>> runners_;  // by model
  std::vector<SequenceWork> sequences_;                // reused from batch to batch
};

}  // namespace bertrand
