#include "server/engine.h"

#include <absl/strings/str_cat.h>
#include <pthread.h>

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "server/overload.h"
#include "server/quote.h"

namespace bertrand {
namespace {

// Text that one urgent task tokenises: a millisecond or so.
constexpr size_t kTextBytesPerTask = 8192;
constexpr char kCancelledByClient[] = "the client cancelled the call";
constexpr int64_t kRetryAfterMsMin = 50;
constexpr int64_t kRetryAfterMsMax = 10'000;

BatchLimits RaisedTo(BatchLimits limits, const std::vector<std::unique_ptr<ServedModel>>& models) {
  for (const auto& model : models) {
    limits.max_tokens = std::max(limits.max_tokens, model->input_tokens_max);
  }
  return limits;
}

EngineOptions WithLimits(EngineOptions options,
                         const std::vector<std::unique_ptr<ServedModel>>& models) {
  options.batch = RaisedTo(options.batch, models);
  return options;
}

absl::Status LacksTask(const ServedModel& served, Task task) {
  return Annotate(served.model->CheckTask(task), absl::StrCat("model ", Quote(served.name)));
}

// A sequence of the current stage, as the client knows it where it can.
std::string SequenceName(const TaskRequest& request, size_t index) {
  const bool one_each = request.sequences().size() == request.num_inputs();
  return absl::StrCat(one_each ? "inputs[" : "sequence [", index, "]");
}

// The lengths of the current stage's sequences, for the queue. What no batch can hold ends the job
// here: in a batch it would fail the others, too.
absl::Status ReadLengths(int64_t batch_tokens_max, Job* job) {
  const std::span<const SequenceWork> sequences = job->request->sequences();
  job->lengths.clear();
  for (size_t i = 0; i < sequences.size(); ++i) {
    const size_t length = sequences[i].ids.size();
    if (length == 0 || static_cast<int64_t>(length) > job->model->input_tokens_max) {
      return InvalidArgument(absl::StrCat(SequenceName(*job->request, i), ": ", length,
                                          " tokens; the model takes 1 to ",
                                          job->model->input_tokens_max));
    }
    const int64_t memory = sequences[i].memory != nullptr ? sequences[i].memory->max_tokens() : 0;
    if (static_cast<int64_t>(length) + memory > batch_tokens_max) {
      return InvalidArgument(absl::StrCat("long_input: a segment of ", length,
                                          " tokens with a memory of ", memory,
                                          " does not fit --max-batch-tokens (", batch_tokens_max,
                                          "); ask for a smaller window_tokens or memory_tokens"));
    }
    job->lengths.push_back(static_cast<int32_t>(length));
  }
  return absl::OkStatus();
}

// Memories are on the first device.
bool HasMemory(const Batch& batch) {
  for (const JobSlice& slice : batch.slices) {
    for (const SequenceWork& work :
         slice.job->request->sequences().subspan(slice.first, slice.count)) {
      if (work.memory != nullptr) return true;
    }
  }
  return false;
}

absl::Status CheckAnswerBytes(const Job& job) {
  const int64_t bytes = job.request->answer_bytes();
  if (bytes <= job.answer_bytes_max) return absl::OkStatus();
  return ResourceExhausted(absl::StrCat("the answer would have about ", bytes,
                                        " bytes, above --max-response-bytes (",
                                        job.answer_bytes_max, ")"));
}

}  // namespace

// A job that is being tokenised by several tasks.
struct Engine::Preparation {
  explicit Preparation(std::shared_ptr<Job> job) : job(std::move(job)) {}
  const std::shared_ptr<Job> job;
  std::atomic<size_t> num_ranges_left{0};
  std::atomic<bool> failed{false};
  Mutex mutex;
  size_t failed_index ABSL_GUARDED_BY(mutex) = 0;
  absl::Status status ABSL_GUARDED_BY(mutex);
};

void Job::Cancel() {
  cancelled_.store(true);
  if (Engine* const engine = engine_.load()) {
    engine->TakeOut(*this, Cancelled(kCancelledByClient));
  }
}

absl::Status Job::abandoned(TimePoint now) const {
  if (cancelled_.load(std::memory_order_relaxed)) return Cancelled(kCancelledByClient);
  if (now >= deadline) return DeadlineExceeded("the request expired before it was computed");
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::vector<std::unique_ptr<ServedModel>> models, const EngineOptions& options,
    const Surroundings& surroundings) {
  BERTRAND_CHECK(!models.empty(), "an engine needs a model");
  for (size_t i = 0; i < models.size(); ++i) {
    ServedModel& served = *models[i];
    served.index = static_cast<int>(i);
    const ModelDescription& about = served.model->description();
    served.input_tokens_max = about.max_ids > 0 ? about.max_ids : options.batch.max_tokens;
    served.text_tokens_max = about.max_tokens > 0 ? about.max_tokens : served.input_tokens_max;
  }
  auto engine = std::unique_ptr<Engine>(new Engine(std::move(models), options, surroundings));
  const BatchLimits& limits = engine->options_.batch;
  const size_t num_devices = engine->models_.front()->num_devices();
  for (const auto& served : engine->models_) {
    BERTRAND_CHECK(served->num_devices() == num_devices, served->name);
  }
  for (size_t device = 0; device < num_devices; ++device) {
    for (int lane = 0; lane < options.num_lanes; ++lane) {
      BERTRAND_ASSIGN_OR_RETURN(
          auto worker,
          Worker::Create(engine->models_, device, limits.max_tokens, limits.max_sequences));
      engine->workers_.push_back(std::move(worker));
      MutexLock lock(engine->mutex_);
      engine->free_lanes_.push_back(engine->workers_.size() - 1);
    }
  }
  MutexLock lock(engine->mutex_);
  engine->device_tokens_.assign(num_devices, 0);
  return engine;
}

absl::Status Engine::WarmUp() {
  for (const auto& worker : workers_) BERTRAND_RETURN_IF_ERROR(worker->WarmUp(models_));
  return absl::OkStatus();
}

Engine::Engine(std::vector<std::unique_ptr<ServedModel>> models, const EngineOptions& options,
               const Surroundings& surroundings)
    : models_(std::move(models)),
      options_(WithLimits(options, models_)),
      around_(surroundings),
      queue_(options_.batch) {
  if (options_.batch.max_delay.count() > 0) {
    timer_ = std::thread([this] { RunTimer(); });
    pthread_setname_np(timer_.native_handle(), "batch-timer");
  }
}

Engine::~Engine() {
  WaitIdle();
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    timer_wakes_.NotifyAll();
  }
  if (timer_.joinable()) timer_.join();
}

absl::StatusOr<const ServedModel*> Engine::Resolve(std::string_view name,
                                                   std::optional<Task> task) const {
  if (name.empty()) {
    for (const auto& served : models_) {
      if (!task.has_value() || served->model->HasTask(*task)) return served.get();
    }
    return LacksTask(*models_.front(), *task);
  }
  for (const auto& served : models_) {
    if (served->name != name) continue;
    if (!task.has_value() || served->model->HasTask(*task)) return served.get();
    return LacksTask(*served, *task);
  }
  return NotFound(absl::StrCat("no model ", Quote(name), "; ListModels names those there are"));
}

void Engine::TaskBegins() {
  MutexLock lock(mutex_);
  ++num_tasks_;
}

void Engine::TaskEnds() {
  MutexLock lock(mutex_);
  if (--num_tasks_ == 0) idle_.NotifyAll();
}

void Engine::RunUrgent(std::function<void()> task) {
  TaskBegins();
  around_.pool->Submit(TaskPriority::kUrgent, [this, task = std::move(task)]() mutable {
    task();
    task = nullptr;  // what it holds goes before the engine may
    TaskEnds();
  });
}

void Engine::WaitIdle() {
  MutexLock lock(mutex_);
  while (num_tasks_ > 0 || num_jobs_ > 0) idle_.Wait(mutex_);
}

// ---- Tokenizing

void Engine::Start(const std::shared_ptr<Job>& job) {
  job->engine_.store(this);
  {
    MutexLock lock(mutex_);
    ++num_jobs_;
  }
  // Ranges of inputs with about the same amount of text.
  const size_t num_inputs = job->request->num_inputs();
  BERTRAND_CHECK(num_inputs > 0, "a request without inputs is refused before");
  std::vector<size_t> ends;
  size_t bytes = 0;
  for (size_t i = 0; i < num_inputs; ++i) {
    bytes += job->request->input_bytes(i) + 1;
    if (bytes < kTextBytesPerTask && i + 1 < num_inputs) continue;
    ends.push_back(i + 1);
    bytes = 0;
  }
  auto preparation = std::make_shared<Preparation>(job);
  preparation->num_ranges_left = ends.size();
  for (size_t range = 1; range < ends.size(); ++range) {
    RunUrgent([this, preparation, first = ends[range - 1], last = ends[range]] {
      PrepareRange(preparation, first, last);
    });
  }
  PrepareRange(preparation, 0, ends[0]);
}

void Engine::PrepareRange(const std::shared_ptr<Preparation>& preparation, size_t first,
                          size_t last) {
  Job& job = *preparation->job;
  for (size_t i = first; i < last && !preparation->failed.load(); ++i) {
    absl::Status status = job.abandoned(clock().Now());
    if (status.ok()) status = job.request->Prepare(i);
    if (status.ok()) continue;
    MutexLock lock(preparation->mutex);
    if (preparation->status.ok() || i < preparation->failed_index) {
      preparation->failed_index = i;
      preparation->status = status;
    }
    preparation->failed = true;
  }
  if (preparation->num_ranges_left.fetch_sub(1) > 1) return;
  absl::Status status;
  {
    MutexLock lock(preparation->mutex);
    status = preparation->status;
  }
  job.timing.prepared = clock().Now();
  if (status.ok()) status = CheckAnswerBytes(job);
  if (!status.ok()) return End(preparation->job, std::move(status));
  ReserveWork(preparation->job);
}

// ---- Stages

Admission::Waiter Engine::WaiterFor(const std::shared_ptr<Job>& job,
                                    void (Engine::*step)(const std::shared_ptr<Job>&)) {
  if (!job->wait_when_full) return nullptr;
  return [this, job, step] { RunUrgent([this, job, step] { (this->*step)(job); }); };
}

void Engine::ReserveWork(const std::shared_ptr<Job>& job) {
  absl::Status status = job->abandoned(clock().Now());
  if (!status.ok()) return End(job, std::move(status));
  const TaskRequest& request = *job->request;
  const int64_t bytes = request.work_bytes() + request.answer_bytes() * job->answer_memory_factor;
  status = job->reservation.AddBytes(std::max<int64_t>(bytes - job->reserved_bytes, 0),
                                     WaiterFor(job, &Engine::ReserveWork));
  if (status.ok()) return NextStage(job);
  if (job->wait_when_full && RetryAfterMs(status).has_value()) return;  // the waiter goes on
  End(job, std::move(status));
}

void Engine::NextStage(const std::shared_ptr<Job>& job) {
  do {
    const auto more = job->request->NextStage();
    if (!more.ok() || !*more) return End(job, more.status());
  } while (job->request->sequences().empty());
  ++job->num_stages_;
  if (absl::Status status = ReadLengths(options_.batch.max_tokens, job.get()); !status.ok()) {
    return End(job, std::move(status));
  }
  QueueStage(job);
}

void Engine::QueueStage(const std::shared_ptr<Job>& job) {
  absl::Status status = job->abandoned(clock().Now());
  if (!status.ok()) return End(job, std::move(status));
  int64_t num_tokens = 0;
  for (const int32_t length : job->lengths) num_tokens += length;
  const bool first = job->num_stages_ == 1;
  if (first) {
    status = job->reservation.AddTokens(num_tokens, WaiterFor(job, &Engine::QueueStage));
    if (!status.ok()) {
      if (job->wait_when_full && RetryAfterMs(status).has_value()) return;  // the waiter goes on
      return End(job, std::move(status));
    }
  } else {
    job->reservation.ForceTokens(num_tokens);
  }
  const auto num_inputs = static_cast<int64_t>(job->request->num_inputs());
  metrics().CountInputs(first ? num_inputs : 0, num_tokens);
  queue_.Push(job);
  // A Cancel that came before the push found nothing in the queue.
  if (status = job->abandoned(clock().Now()); !status.ok()) TakeOut(*job, status);
  Pump();
}

// ---- Batches

void Engine::Pump() {
  for (;;) {
    std::vector<EndedJob> all_dropped;
    Batch batch;
    std::optional<size_t> lane;
    {
      MutexLock lock(mutex_);
      if (free_lanes_.empty()) return;
      if (held_.slices.empty()) {
        RequestQueue::Taken taken = queue_.Take(clock().Now());
        held_ = std::move(taken.batch);
        all_dropped = std::move(taken.dropped);
        wake_at_ = taken.wake_at;
        if (wake_at_ != TimePoint::max()) timer_wakes_.NotifyAll();
      }
      if (!held_.slices.empty()) lane = TakeLane(held_);
      if (lane.has_value()) {
        batch = std::exchange(held_, {});
        ++num_tasks_;
      }
    }
    for (EndedJob& dropped : all_dropped) End(dropped.job, std::move(dropped.status));
    if (!lane.has_value()) return;
    for (const JobSlice& slice : batch.slices) slice.job->reservation.ReleaseTokens(slice.tokens);
    around_.pool->Submit(TaskPriority::kBatch,
                         [this, lane = *lane, batch = std::move(batch)]() mutable {
                           RunBatch(lane, batch);
                           batch.slices.clear();
                           TaskEnds();
                         });
  }
}

std::optional<size_t> Engine::TakeLane(const Batch& batch) {
  const auto lanes_each = static_cast<size_t>(options_.num_lanes);
  const bool has_memory = HasMemory(batch);
  std::optional<size_t> best;  // index into free_lanes_; the one that was freed last, of equal ones
  for (size_t i = 0; i < free_lanes_.size(); ++i) {
    const size_t device = free_lanes_[i] / lanes_each;
    if (has_memory && device != 0) continue;
    if (!best.has_value() ||
        device_tokens_[device] <= device_tokens_[free_lanes_[*best] / lanes_each]) {
      best = i;
    }
  }
  if (!best.has_value()) return {};
  const size_t lane = free_lanes_[*best];
  free_lanes_.erase(free_lanes_.begin() + static_cast<std::ptrdiff_t>(*best));
  device_tokens_[lane / lanes_each] += batch.num_tokens;
  return lane;
}

absl::Status Engine::LoseDevice(const absl::Status& reason) {
  bool first = false;
  {
    MutexLock lock(mutex_);
    first = !std::exchange(device_lost_, true);
  }
  if (first && around_.device_lost) around_.device_lost(reason);
  return Unavailable(Message(reason));
}

void Engine::RunBatch(size_t lane, const Batch& batch) {
  const TimePoint begin = clock().Now();
  absl::Status status = workers_[lane]->Run(batch);
  if (status.code() == absl::StatusCode::kDataLoss) status = LoseDevice(status);
  const int64_t batch_us = MicrosecondsBetween(begin, clock().Now());
  metrics().ObserveBatch(batch.num_sequences, batch.num_tokens, batch_us);
  std::vector<EndedJob> ended = queue_.Finish(batch, status, batch_us);
  UpdateRetryHint(batch, batch_us);
  {
    MutexLock lock(mutex_);
    free_lanes_.push_back(lane);
    device_tokens_[lane / static_cast<size_t>(options_.num_lanes)] -= batch.num_tokens;
  }
  Pump();  // before the post-processing, so that the device does not wait for it
  for (EndedJob& job : ended) {
    if (!job.status.ok()) {
      End(job.job, std::move(job.status));
    } else {
      NextStage(job.job);
    }
  }
}

void Engine::UpdateRetryHint(const Batch& batch, int64_t batch_us) {
  const int64_t waiting = queue_.state(clock().Now()).num_tokens;
  MutexLock lock(mutex_);
  const double us_per_token = static_cast<double>(batch_us) / static_cast<double>(batch.num_tokens);
  us_per_token_ = us_per_token_ == 0 ? us_per_token : 0.9 * us_per_token_ + 0.1 * us_per_token;
  const double wait_ms =
      static_cast<double>(waiting) * us_per_token_ / 1000 / static_cast<double>(workers_.size());
  around_.admission->set_retry_after_ms(
      std::clamp(static_cast<int64_t>(wait_ms), kRetryAfterMsMin, kRetryAfterMsMax));
}

void Engine::TakeOut(Job& job, const absl::Status& reason) {
  if (queue_.Remove(job, reason)) End(job.shared_from_this(), reason);
}

void Engine::End(const std::shared_ptr<Job>& job, absl::Status status) {
  BERTRAND_CHECK(!job->finished_.exchange(true), "a job ends once");
  job->timing.finished = clock().Now();
  // Moved out, since `done` may hold what holds the job.
  const auto done = std::move(job->done);
  done(*job, status);
  MutexLock lock(mutex_);
  if (--num_jobs_ == 0) idle_.NotifyAll();
}

void Engine::RunTimer() {
  for (;;) {
    {
      MutexLock lock(mutex_);
      while (!stopping_ && wake_at_ > std::chrono::steady_clock::now()) {
        if (wake_at_ == TimePoint::max()) {
          timer_wakes_.Wait(mutex_);
        } else {
          timer_wakes_.WaitUntil(mutex_, wake_at_);
        }
      }
      if (stopping_) return;
      wake_at_ = TimePoint::max();
    }
    Pump();
  }
}

}  // namespace bertrand
