#pragma once

// One request on its way through the engine: the task's own part (models/task/request.h), which has
// the inputs and the results, and what the engine needs to know to carry it. The protocol's side
// makes a Job, gives it to Engine::Start, and gets it back in `done`, called exactly once, on a
// compute thread (or on the thread that cancels).
//
// Who may touch it: the maker until Start; then the engine's tasks, one stage after the other; the
// maker again from `done` on. Only Cancel and abandoned() may be called by anyone at any time.

#include <absl/status/status.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "models/model.h"
#include "models/task/request.h"
#include "server/admission.h"
#include "server/clock.h"

namespace bertrand {

class Engine;

// A model under its name.
struct ServedModel {
  std::string name;
  std::string source;    // as given: a folder or a hub id
  std::string revision;  // of a hub id
  int index = 0;         // into Engine::models()
  std::unique_ptr<Model> model;
  // The same on further devices. Memories of documents are on the first.
  std::vector<std::unique_ptr<Model>> replicas;
  size_t num_devices() const { return 1 + replicas.size(); }
  const Model& on(size_t device) const { return device == 0 ? *model : *replicas[device - 1]; }
  // What one input may have, and what text is cut to: the model's limits, or the batch's where the
  // model has none.
  int64_t input_tokens_max = 0, text_tokens_max = 0;
};

struct JobTiming {
  TimePoint received, prepared, started, finished;  // started: the first batch
  int64_t inference_us = 0;                         // sum over the batches
};

class Job : public std::enable_shared_from_this<Job> {
 public:
  // ---- set by the maker
  const ServedModel* model = nullptr;
  std::shared_ptr<void> owner;  // of what the request's views see
  std::unique_ptr<TaskRequest> request;
  TimePoint deadline = TimePoint::max();
  Admission::Reservation reservation;
  // Of the reservation, what was taken for work_bytes() and the answer before either was known.
  int64_t reserved_bytes = 0;
  int64_t answer_bytes_max = std::numeric_limits<int64_t>::max();
  // Memory that the answer takes while it is made, per byte of answer_bytes().
  int64_t answer_memory_factor = 2;
  bool wait_when_full = false;  // a stream's: full is a reason to wait, not an error
  std::function<void(Job&, const absl::Status&)> done;

  // ---- results
  JobTiming timing;

  // Drops the job at the next occasion; at once if it waits in the queue. Harmless when it is done.
  void Cancel();
  // Cancelled by its client, or expired.
  absl::Status abandoned(TimePoint now) const;

  // ---- of the engine and the queue
  // Tokens of the current stage's sequences.
  std::vector<int32_t> lengths;
  // The start tag of what comes next (server/scheduler.h), so that a request of many stages has no
  // advantage over one that is queued as a whole.
  double next_tag = 0;

 private:
  friend class Engine;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> finished_{false};
  std::atomic<Engine*> engine_{nullptr};  // null until Start, which Cancel may precede
  int64_t num_stages_ = 0;
};

}  // namespace bertrand
