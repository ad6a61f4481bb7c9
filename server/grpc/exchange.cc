#include "server/grpc/exchange.h"

#include <absl/strings/str_cat.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "server/overload.h"

namespace bertrand {

absl::Status Exchange::Begin(Handler handler, Admission::Waiter when_freed) {
  handler_ = handler;
  const auto size = static_cast<int64_t>(message.Length());
  if (site.health->state() == Health::State::kDraining) {
    Answer(Unavailable("the server is shutting down"));
    return absl::OkStatus();
  }
  if (size > site.limits.request_bytes_max) {
    Answer(ResourceExhausted(absl::StrCat("the request's message has ", size,
                                          " bytes, above --max-request-bytes (",
                                          site.limits.request_bytes_max, ")")));
    return absl::OkStatus();
  }
  const bool may_wait = when_freed != nullptr;
  auto admitted = site.engine->admission().Admit(size, std::move(when_freed));
  if (!admitted.ok()) {
    if (may_wait && RetryAfterMs(admitted.status()).has_value()) return admitted.status();
    Answer(admitted.status());
    return absl::OkStatus();
  }
  reservation = *std::move(admitted);
  site.engine->RunUrgent([self = shared_from_this()] { self->Run(); });
  return absl::OkStatus();
}

void Exchange::Run() {
  {
    MutexLock lock(mutex_);
    if (cancelled_) handler_ = nullptr;
  }
  if (handler_ == nullptr) return Answer(Cancelled("the client cancelled the call"));
  if (site.engine->clock().Now() >= deadline) {
    return Answer(DeadlineExceeded("the request expired before it was looked at"));
  }
  if (slice_.size() == 0 && message.Length() > 0 && !message.DumpToSingleSlice(&slice_).ok()) {
    return Answer(Internal("the message could not be read"));
  }
  if (const absl::Status status = handler_(shared_from_this()); !status.ok()) Answer(status);
}

void Exchange::Cancel() {
  std::shared_ptr<Job> job;
  {
    MutexLock lock(mutex_);
    cancelled_ = true;
    job = job_.lock();
  }
  if (job != nullptr) job->Cancel();
}

std::string_view Exchange::bytes() const {
  return {reinterpret_cast<const char*>(slice_.begin()), slice_.size()};
}

absl::StatusOr<bool> Exchange::Grow(int64_t bytes) {
  Admission::Waiter waiter;
  if (wait_when_full) {
    waiter = [self = shared_from_this()] { self->site.engine->RunUrgent([self] { self->Run(); }); };
  }
  const absl::Status status = reservation.Grow(bytes, std::move(waiter));
  if (status.ok()) return true;
  if (wait_when_full && RetryAfterMs(status).has_value()) return false;
  return status;
}

void Exchange::StartJob(std::shared_ptr<Job> job) {
  job->reservation = std::move(reservation);
  job->deadline = deadline;
  job->timing.received = received;
  job->wait_when_full = wait_when_full;
  bool cancelled = false;
  {
    MutexLock lock(mutex_);
    job_ = job;
    cancelled = cancelled_;
  }
  if (cancelled) job->Cancel();
  site.engine->Start(std::move(job));
}

void Exchange::Answer(const absl::Status& status) { Finish(status, {}); }

void Exchange::Answer(const google::protobuf::Message& answer) {
  const size_t size = answer.ByteSizeLong();
  if (static_cast<int64_t>(size) > site.limits.response_bytes_max) {
    return Answer(ResourceExhausted(absl::StrCat("the answer would have ", size,
                                                 " bytes, above --max-response-bytes (",
                                                 site.limits.response_bytes_max, ")")));
  }
  grpc::Slice slice(size);
  answer.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  Finish(absl::OkStatus(), grpc::ByteBuffer(&slice, 1));
}

void Exchange::Finish(const absl::Status& status, const grpc::ByteBuffer& answer) {
  const int64_t duration_us = MicrosecondsBetween(received, site.engine->clock().Now());
  site.engine->metrics().CountRequest(method, static_cast<int>(status.code()), duration_us);
  // The request itself is not needed any more; its reservation stays until the answer has left.
  message.Clear();
  slice_ = grpc::Slice();
  const Reply send = std::move(reply);
  send(status, answer);
}

TimePoint DeadlineOf(const grpc::ServerContext& context, const GrpcSite& site, TimePoint now) {
  const TimePoint latest = now + site.limits.request_time_max;
  // The call's deadline is in the wall clock; without one it is in the year 2262.
  const auto left = context.deadline() - std::chrono::system_clock::now();
  if (left >= site.limits.request_time_max) return latest;
  return std::min(latest, now + std::chrono::duration_cast<std::chrono::microseconds>(left));
}

}  // namespace bertrand
