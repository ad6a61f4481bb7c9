#pragma once

// Everything between a protocol and a model: tokenizing, the queue, batches, and the way back.
//
//   Start: tokenise (urgent tasks, big requests in several) -> reserve what it needs -> stage
//   stage: the request lays out its next sequences -> reserve tokens -> queue; none left -> `done`
//   Pump:  while a lane is free, the scheduler's next batch becomes a task of the pool
//   batch: Forward -> lane free, Pump -> next stage of every job whose stage is complete, on this
//          thread
//
// It knows requests by models/task/request.h alone, and so nothing of tasks.
//
// Owns models, lanes and queue; the pool, the admission, the metrics and the clock must outlive it.
// All methods are thread-safe. The destructor waits for what was started.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/mutex.h"
#include "kernels/thread_pool.h"
#include "server/admission.h"
#include "server/clock.h"
#include "server/job.h"
#include "server/metrics.h"
#include "server/queue.h"
#include "server/worker.h"

namespace bertrand {

struct EngineOptions {
  int num_lanes = 1;  // batches in flight, of each device
  BatchLimits batch;  // max_tokens is raised to the longest input that a model takes
};

class Engine {
 public:
  struct Surroundings {
    ThreadPool* pool = nullptr;
    Admission* admission = nullptr;
    Metrics* metrics = nullptr;
    const Clock* clock = nullptr;
    // Called once, on a compute thread, when a device is lost: what runs on it fails, and the
    // process had better end. May be empty.
    std::function<void(const absl::Status&)> device_lost;
  };

  // Allocates all workspaces. `models` is not empty, and all are on as many devices; the first one
  // is the default.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::vector<std::unique_ptr<ServedModel>> models, const EngineOptions& options,
      const Surroundings& surroundings);
  ~Engine();

  // One small batch on every lane and model, on this thread. Requires: nothing was started yet.
  absl::Status WarmUp();

  const std::vector<std::unique_ptr<ServedModel>>& models() const { return models_; }
  Admission& admission() const { return *around_.admission; }
  Metrics& metrics() const { return *around_.metrics; }
  const Clock& clock() const { return *around_.clock; }

  // The model of a name (NotFound), which must have the task (FailedPrecondition lists those it
  // has). No name: the default model if it has the task, else the first that has it. No task: any.
  absl::StatusOr<const ServedModel*> Resolve(std::string_view name, std::optional<Task> task) const;

  // Runs a short task on the pool, before batches.
  void RunUrgent(std::function<void()> task);

  // Takes the job on its way. To be called from an urgent task: small jobs are tokenised in it.
  void Start(const std::shared_ptr<Job>& job);

  RequestQueue::State queue_state() const { return queue_.state(clock().Now()); }
  // Until no job, no batch and no task is left. New ones may still be started by others.
  void WaitIdle();

 private:
  friend class Job;
  struct Preparation;

  Engine(std::vector<std::unique_ptr<ServedModel>> models, const EngineOptions& options,
         const Surroundings& surroundings);
  void PrepareRange(const std::shared_ptr<Preparation>& preparation, size_t first, size_t last);
  void ReserveWork(const std::shared_ptr<Job>& job);
  void NextStage(const std::shared_ptr<Job>& job);
  void QueueStage(const std::shared_ptr<Job>& job);
  // For a job that waits when the server is full: calls `step` again. Null for others.
  Admission::Waiter WaiterFor(const std::shared_ptr<Job>& job,
                              void (Engine::*step)(const std::shared_ptr<Job>&));
  void Pump();
  // The free lane for a batch on the device with the least work; none where the batch has to wait
  // for its device.
  std::optional<size_t> TakeLane(const Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunBatch(size_t lane, const Batch& batch);
  // What a batch's jobs are told, when its device is lost.
  absl::Status LoseDevice(const absl::Status& reason);
  void UpdateRetryHint(const Batch& batch, int64_t batch_us);
  void End(const std::shared_ptr<Job>& job, absl::Status status);
  // Out of the queue, where it is there: ended now, or when its running batches are over.
  void TakeOut(Job& job, const absl::Status& reason);
  void TaskBegins();
  void TaskEnds();
  void RunTimer();

  const std::vector<std::unique_ptr<ServedModel>> models_;
  const EngineOptions options_;
  const Surroundings around_;
  RequestQueue queue_;
  std::vector<std::unique_ptr<Worker>> workers_;

  Mutex mutex_;
  CondVar idle_, timer_wakes_;
  // Lane i is on device i / num_lanes.
  std::vector<size_t> free_lanes_ ABSL_GUARDED_BY(mutex_);
  std::vector<int64_t> device_tokens_ ABSL_GUARDED_BY(mutex_);  // in the lanes of each device
  // Cut, and waiting for a lane of the first device; without slices: none.
  Batch held_ ABSL_GUARDED_BY(mutex_);
  bool device_lost_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t num_tasks_ ABSL_GUARDED_BY(mutex_) = 0;  // submitted to the pool and not over
  int64_t num_jobs_ ABSL_GUARDED_BY(mutex_) = 0;   // started and not ended
  double us_per_token_ ABSL_GUARDED_BY(mutex_) = 0;
  TimePoint wake_at_ ABSL_GUARDED_BY(mutex_) = TimePoint::max();
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread timer_;  // only with a max_delay
};

}  // namespace bertrand
