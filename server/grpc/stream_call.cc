#include "server/grpc/stream_call.h"

#include <utility>
#include <vector>

#include "kernels/status.h"
#include "server/grpc/methods.h"
#include "server/grpc/rpc_status.h"

namespace bertrand {

void StreamCall::Registry::Add(StreamCall* call) {
  MutexLock lock(mutex_);
  calls_.insert(call);
}

void StreamCall::Registry::Remove(StreamCall* call) {
  MutexLock lock(mutex_);
  calls_.erase(call);
}

void StreamCall::Registry::DrainAll() {
  std::vector<std::shared_ptr<StreamCall>> calls;
  {
    MutexLock lock(mutex_);
    for (StreamCall* call : calls_) {
      // Empty when the call is being freed this moment.
      if (auto held = call->weak_from_this().lock()) calls.push_back(std::move(held));
    }
  }
  for (const auto& call : calls) call->Drain();
}

void StreamCall::Listen(const Source* source, grpc::ServerCompletionQueue* queue) {
  const std::shared_ptr<StreamCall> call(new StreamCall(source, queue));
  call->context_.AsyncNotifyWhenDone(call->done_.Arm(call));
  source->request(&call->context_, &call->stream_, queue, call->requested_.Arm(call));
}

StreamCall::StreamCall(const Source* source, grpc::ServerCompletionQueue* queue)
    : source_(source), queue_(queue), stream_(&context_) {
  source_->counts->live.fetch_add(1);
}

StreamCall::~StreamCall() {
  if (accepted_) {
    source_->registry->Remove(this);
    source_->counts->accepted.fetch_sub(1);
  }
  {
    MutexLock lock(mutex_);
    slots_.clear();
    writing_ = nullptr;
  }
  source_->counts->live.fetch_sub(1);
}

void StreamCall::OnRequested(bool ok) {
  if (!ok) return done_.Disarm();  // the server shuts down
  accepted_ = true;
  source_->counts->accepted.fetch_add(1);
  source_->counts->accepted_total.fetch_add(1);
  source_->registry->Add(this);
  Listen(source_, queue_);
  if (source_->site->health->state() == Health::State::kDraining) return Drain();
  Advance();
}

void StreamCall::OnRead(bool ok) {
  std::shared_ptr<Slot> slot;
  {
    MutexLock lock(mutex_);
    reading_ = false;
    if (!ok) {
      no_more_reads_ = true;  // the client has sent all, or is gone
    } else if (!finishing_) {
      slot = std::make_shared<Slot>();
      const GrpcSite& site = *source_->site;
      const TimePoint now = site.engine->clock().Now();
      slot->exchange =
          std::make_shared<Exchange>(site, source_->method, now, DeadlineOf(context_, site, now));
      slot->exchange->message.Swap(&read_message_);
      slot->exchange->wait_when_full = true;
      slots_.push_back(slot);
      held_back_ = true;  // until BeginRequest has brought it in
    }
  }
  if (slot != nullptr) return BeginRequest(slot);
  Advance();
}

void StreamCall::BeginRequest(const std::shared_ptr<Slot>& slot) {
  slot->exchange->reply = [self = shared_from_this(), weak = std::weak_ptr<Slot>(slot)](
                              const absl::Status& status, grpc::ByteBuffer answer) {
    if (const auto answered = weak.lock()) {
      MutexLock lock(self->mutex_);
      answered->answered = true;
      answered->status = status;
      answered->answer.Swap(&answer);
    }
    self->Advance();
  };
  const auto begin_again = [self = shared_from_this(), slot] {
    self->source_->site->engine->RunUrgent([self, slot] { self->BeginRequest(slot); });
  };
  const Handler handler = AllMethods()[source_->method].handler;
  if (!slot->exchange->Begin(handler, begin_again).ok()) return;  // full: held back
  {
    MutexLock lock(mutex_);
    held_back_ = false;
  }
  Advance();
}

void StreamCall::Advance() {
  MutexLock lock(mutex_);
  AdvanceLocked();
}

void StreamCall::AdvanceLocked() {
  if (finishing_) return;
  if (writing_ == nullptr && !slots_.empty() && slots_.front()->answered) {
    const std::shared_ptr<Slot> slot = slots_.front();
    slots_.pop_front();
    if (!slot->status.ok()) return FinishLocked(slot->status);
    writing_ = slot;
    stream_.Write(slot->answer, written_.Arm(shared_from_this()));
  }
  const bool room = static_cast<int64_t>(slots_.size()) < source_->site->limits.stream_requests_max;
  if (!reading_ && !held_back_ && !no_more_reads_ && !draining_ && room) {
    reading_ = true;
    stream_.Read(&read_message_, read_.Arm(shared_from_this()));
  }
  if (writing_ != nullptr || !slots_.empty()) return;
  if (no_more_reads_) return FinishLocked(absl::OkStatus());
  // A read that is under way is not waited for: the client need not send anything.
  if (draining_) FinishLocked(Unavailable("the server is shutting down"));
}

void StreamCall::FinishLocked(const absl::Status& status) {
  finishing_ = true;
  AddRetryMetadata(status, &context_);
  stream_.Finish(ToGrpcStatus(status), finished_.Arm(shared_from_this()));
}

void StreamCall::OnWritten(bool ok) {
  MutexLock lock(mutex_);
  writing_ = nullptr;
  if (!ok) no_more_reads_ = true;  // the client is gone; OnDone cancels what is left
  AdvanceLocked();
}

std::vector<std::shared_ptr<Exchange>> StreamCall::Exchanges() {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Exchange>> exchanges;
  for (const auto& slot : slots_) exchanges.push_back(slot->exchange);
  return exchanges;
}

void StreamCall::OnFinished(bool) {
  // The requests behind the bad one.
  for (const auto& exchange : Exchanges()) exchange->Cancel();
}

void StreamCall::OnDone(bool) {
  if (!context_.IsCancelled()) return;
  for (const auto& exchange : Exchanges()) exchange->Cancel();
}

void StreamCall::Drain() {
  MutexLock lock(mutex_);
  draining_ = true;
  AdvanceLocked();
}

}  // namespace bertrand
