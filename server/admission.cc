#include "server/admission.h"

#include <absl/strings/str_cat.h>

#include <utility>

#include "kernels/status.h"
#include "server/overload.h"

namespace bertrand {
namespace {

absl::Status NeverFits(const char* what, int64_t wanted, const char* flag, int64_t limit) {
  return ResourceExhausted(
      absl::StrCat("the request needs ", wanted, " ", what, ", above ", flag, " (", limit, ")"));
}

}  // namespace

Admission::Reservation& Admission::Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  Release();
  admission_ = std::exchange(other.admission_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  tokens_ = std::exchange(other.tokens_, 0);
  grown_ = std::exchange(other.grown_, false);
  added_ = std::exchange(other.added_, false);
  return *this;
}

absl::StatusOr<Admission::Reservation> Admission::Admit(int64_t bytes, Waiter when_freed) {
  if (bytes > limits_.bytes_max) {
    return NeverFits("bytes", bytes, "--max-queue-bytes", limits_.bytes_max);
  }
  MutexLock lock(mutex_);
  const bool no_place = usage_.requests >= limits_.requests_max;
  if (no_place || usage_.bytes + bytes > limits_.bytes_max) {
    if (when_freed) waiters_.push_back(std::move(when_freed));
    return no_place ? Full("requests", "--max-queue-requests", limits_.requests_max)
                    : Full("bytes", "--max-queue-bytes", limits_.bytes_max);
  }
  ++usage_.requests;
  usage_.bytes += bytes;
  Reservation reservation;
  reservation.admission_ = this;
  reservation.bytes_ = bytes;
  return reservation;
}

absl::Status Admission::Reservation::Grow(int64_t bytes, Waiter when_freed) {
  Admission& admission = *admission_;
  const int64_t limit = admission.limits_.bytes_max;
  if (bytes_ + bytes > limit) {
    return NeverFits("bytes", bytes_ + bytes, "--max-queue-bytes", limit);
  }
  MutexLock lock(admission.mutex_);
  if (admission.usage_.bytes + bytes > limit && admission.num_grown_ > 0) {
    if (when_freed) admission.waiters_.push_back(std::move(when_freed));
    return admission.Full("bytes", "--max-queue-bytes", limit);
  }
  admission.usage_.bytes += bytes;
  ++admission.num_grown_;
  bytes_ += bytes;
  grown_ = true;
  return absl::OkStatus();
}

absl::Status Admission::Reservation::AddBytes(int64_t bytes, Waiter when_freed) {
  Admission& admission = *admission_;
  const int64_t limit = admission.limits_.bytes_max;
  if (bytes_ + bytes > limit) {
    return NeverFits("bytes", bytes_ + bytes, "--max-queue-bytes", limit);
  }
  MutexLock lock(admission.mutex_);
  const bool may_wait = when_freed != nullptr;
  if (admission.usage_.bytes + bytes > limit && (!may_wait || admission.num_added_ > 0)) {
    if (may_wait) admission.waiters_.push_back(std::move(when_freed));
    return admission.Full("bytes", "--max-queue-bytes", limit);
  }
  admission.usage_.bytes += bytes;
  admission.num_added_ += added_ ? 0 : 1;
  bytes_ += bytes;
  added_ = true;
  return absl::OkStatus();
}

absl::Status Admission::Reservation::AddTokens(int64_t tokens, Waiter when_freed) {
  Admission& admission = *admission_;
  const int64_t limit = admission.limits_.tokens_max;
  if (tokens > limit) return NeverFits("tokens", tokens, "--max-queue-tokens", limit);
  MutexLock lock(admission.mutex_);
  if (admission.usage_.tokens + tokens > limit) {
    if (when_freed) admission.waiters_.push_back(std::move(when_freed));
    return admission.Full("tokens", "--max-queue-tokens", limit);
  }
  admission.usage_.tokens += tokens;
  tokens_ += tokens;
  return absl::OkStatus();
}

void Admission::Reservation::ForceTokens(int64_t tokens) {
  MutexLock lock(admission_->mutex_);
  admission_->usage_.tokens += tokens;
  tokens_ += tokens;
}

void Admission::Reservation::ReleaseTokens(int64_t tokens) {
  if (admission_ == nullptr) return;
  {
    MutexLock lock(admission_->mutex_);
    tokens_ -= tokens;
  }
  admission_->GiveBack({.tokens = tokens});
}

void Admission::Reservation::Release() {
  if (admission_ == nullptr) return;
  std::exchange(admission_, nullptr)
      ->GiveBack(
          {.requests = 1, .bytes = bytes_, .tokens = tokens_, .grown = grown_, .added = added_});
  bytes_ = tokens_ = 0;
  grown_ = added_ = false;
}

Admission::Usage Admission::usage() const {
  MutexLock lock(mutex_);
  return usage_;
}

absl::Status Admission::Full(std::string_view what, std::string_view flag, int64_t limit) {
  std::string message = "the server is full: its queue holds all the ";
  message.append(what).append(" that it may, ").append(flag);
  absl::StrAppend(&message, " ", limit, "; try again later");
  return Overloaded(message, retry_after_ms());
}

void Admission::GiveBack(const Share& share) {
  std::vector<Waiter> waiters;
  {
    MutexLock lock(mutex_);
    usage_.requests -= share.requests;
    usage_.bytes -= share.bytes;
    usage_.tokens -= share.tokens;
    num_grown_ -= share.grown ? 1 : 0;
    num_added_ -= share.added ? 1 : 0;
    waiters.swap(waiters_);
  }
  for (const Waiter& waiter : waiters) waiter();
}

}  // namespace bertrand
