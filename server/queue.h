#pragma once

// Jobs that wait for a batch, in the order of their start tags (server/scheduler.h), and those of
// which some sequences are in batches now. A job is here once for each of its stages. Its size is
// bounded by Admission, which every job has passed.
//
// Owns the jobs while they are in it. Thread-safe. Time comes in as an argument.

#include <absl/status/status.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/mutex.h"
#include "server/job.h"
#include "server/scheduler.h"

namespace bertrand {

// Sequences [first, first + count) of a job's current stage, in a batch.
struct JobSlice {
  std::shared_ptr<Job> job;
  size_t first = 0, count = 0;
  int64_t tokens = 0;
};

struct Batch {
  int model = 0;
  std::vector<JobSlice> slices;
  int64_t num_tokens = 0, num_sequences = 0;
};

// A job that leaves the queue, with the reason; OK: all of its stage is computed.
struct EndedJob {
  std::shared_ptr<Job> job;
  absl::Status status;
};

class RequestQueue {
 public:
  struct Taken {
    Batch batch;                    // without slices: nothing leaves now
    std::vector<EndedJob> dropped;  // expired before their turn
    TimePoint wake_at = TimePoint::max();
  };
  struct State {
    int64_t num_jobs = 0, num_tokens = 0;  // that wait
    int64_t oldest_age_us = 0;
  };

  explicit RequestQueue(const BatchLimits& limits) : limits_(limits) {}

  // Requires: job->lengths set, and timing.prepared as the arrival.
  void Push(std::shared_ptr<Job> job);
  // Drops what has expired and cuts the next batch.
  Taken Take(TimePoint now);
  // The slices' batch is over, with `status` for all of them. Returns the jobs whose stage is
  // thereby complete (each once).
  std::vector<EndedJob> Finish(const Batch& batch, const absl::Status& status, int64_t batch_us);
  // Takes a job out, if it is here; its running slices are waited for. Returns true when the job
  // has left, and so is the caller's to end.
  bool Remove(const Job& job, const absl::Status& reason);
  State state(TimePoint now) const;

 private:
  struct Entry {
    std::shared_ptr<Job> job;
    double tag = 0;
    uint64_t order = 0;  // of arrival
    size_t next = 0;     // first sequence that no batch has taken
    size_t num_in_flight = 0;
    absl::Status status;  // of the first thing that went wrong
    bool waiting() const { return status.ok() && next < job->lengths.size(); }
  };
  using ByTag = std::set<std::pair<std::pair<double, uint64_t>, Entry*>>;
  using ByDeadline = std::multimap<TimePoint, const Job*>;

  void Unlist(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropExpired(TimePoint now, std::vector<EndedJob>* dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends an entry's waiting part; true and erased when nothing of it runs.
  bool Abandon(Entry& entry, const absl::Status& reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const BatchLimits limits_;
  mutable Mutex mutex_;
  std::unordered_map<const Job*, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  ByTag waiting_ ABSL_GUARDED_BY(mutex_);
  ByDeadline deadlines_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, uint64_t>> arrivals_ ABSL_GUARDED_BY(mutex_);
  double virtual_time_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_pushed_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace bertrand
