#include "server/queue.h"

#include <algorithm>
#include <numeric>

#include "kernels/status.h"

namespace bertrand {
namespace {

int64_t SumFrom(const std::vector<int32_t>& lengths, size_t first) {
  return std::accumulate(lengths.begin() + static_cast<int64_t>(first), lengths.end(), int64_t{0});
}

}  // namespace

void RequestQueue::Push(std::shared_ptr<Job> job) {
  MutexLock lock(mutex_);
  const Job* key = job.get();
  Entry& entry = entries_[key];
  entry.job = std::move(job);
  entry.tag = std::max(virtual_time_, key->next_tag);
  entry.order = num_pushed_++;
  waiting_.insert({{entry.tag, entry.order}, &entry});
  arrivals_.insert({key->timing.prepared, entry.order});
  if (key->deadline != TimePoint::max()) deadlines_.emplace(key->deadline, key);
  num_tokens_ += SumFrom(key->lengths, 0);
}

void RequestQueue::Unlist(Entry& entry) {
  waiting_.erase({{entry.tag, entry.order}, &entry});
  arrivals_.erase({entry.job->timing.prepared, entry.order});
  auto [begin, end] = deadlines_.equal_range(entry.job->deadline);
  for (auto i = begin; i != end; ++i) {
    if (i->second != entry.job.get()) continue;
    deadlines_.erase(i);
    break;
  }
}

bool RequestQueue::Abandon(Entry& entry, const absl::Status& reason) {
  if (entry.waiting()) {
    num_tokens_ -= SumFrom(entry.job->lengths, entry.next);
    Unlist(entry);
  }
  if (entry.status.ok()) entry.status = reason;
  if (entry.num_in_flight > 0) return false;
  entries_.erase(entry.job.get());
  return true;
}

void RequestQueue::DropExpired(TimePoint now, std::vector<EndedJob>* dropped) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Entry& entry = entries_.at(deadlines_.begin()->second);
    std::shared_ptr<Job> job = entry.job;
    const absl::Status reason = DeadlineExceeded("the request expired while it was queued");
    if (Abandon(entry, reason)) dropped->push_back({std::move(job), reason});
  }
}

RequestQueue::Taken RequestQueue::Take(TimePoint now) {
  Taken taken;
  MutexLock lock(mutex_);
  DropExpired(now, &taken.dropped);
  // Every request of the model adds a sequence at least, so a longer look would be wasted.
  std::vector<WaitingRequest> requests;
  std::vector<Entry*> entries;
  for (const auto& [tag, entry] : waiting_) {
    if (static_cast<int64_t>(requests.size()) >= limits_.max_sequences) break;
    const Job& job = *entry->job;
    if (!requests.empty() && job.model->index != requests.front().model) continue;
    requests.push_back(
        {job.model->index, job.timing.prepared, std::span(job.lengths).subspan(entry->next)});
    entries.push_back(entry);
  }
  const BatchPlan plan = NextBatch(requests, now, limits_);
  taken.wake_at = plan.wake_at;
  taken.batch.model = plan.model;
  taken.batch.num_tokens = plan.num_tokens;
  taken.batch.num_sequences = plan.num_sequences;
  if (!plan.slices.empty()) virtual_time_ = std::max(virtual_time_, entries[0]->tag);
  for (const BatchPlan::Slice& slice : plan.slices) {
    Entry& entry = *entries[slice.request];
    Job& job = *entry.job;
    if (job.timing.started == TimePoint()) job.timing.started = now;
    job.next_tag = entry.tag + static_cast<double>(slice.tokens);
    taken.batch.slices.push_back({entry.job, entry.next, slice.count, slice.tokens});
    ++entry.num_in_flight;
    num_tokens_ -= slice.tokens;
    if (entry.next + slice.count == job.lengths.size()) {
      Unlist(entry);
      entry.next += slice.count;
      continue;
    }
    waiting_.erase({{entry.tag, entry.order}, &entry});
    entry.next += slice.count;
    entry.tag = job.next_tag;
    waiting_.insert({{entry.tag, entry.order}, &entry});
  }
  return taken;
}

std::vector<EndedJob> RequestQueue::Finish(const Batch& batch, const absl::Status& status,
                                           int64_t batch_us) {
  std::vector<EndedJob> ended;
  MutexLock lock(mutex_);
  for (const JobSlice& slice : batch.slices) {
    Entry& entry = entries_.at(slice.job.get());
    --entry.num_in_flight;
    slice.job->timing.inference_us += batch_us;
    if (!status.ok()) {
      if (Abandon(entry, status)) ended.push_back({slice.job, status});
    } else if (entry.num_in_flight == 0 && !entry.waiting()) {
      ended.push_back({slice.job, entry.status});
      entries_.erase(slice.job.get());
    }
  }
  return ended;
}

bool RequestQueue::Remove(const Job& job, const absl::Status& reason) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(&job);
  return found != entries_.end() && Abandon(found->second, reason);
}

RequestQueue::State RequestQueue::state(TimePoint now) const {
  MutexLock lock(mutex_);
  State state{.num_jobs = static_cast<int64_t>(waiting_.size()), .num_tokens = num_tokens_};
  if (!arrivals_.empty()) {
    state.oldest_age_us = std::max<int64_t>(0, MicrosecondsBetween(arrivals_.begin()->first, now));
  }
  return state;
}

}  // namespace bertrand
