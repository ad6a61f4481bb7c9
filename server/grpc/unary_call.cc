#include "server/grpc/unary_call.h"

#include <utility>

#include "server/grpc/methods.h"
#include "server/grpc/rpc_status.h"

namespace bertrand {

void UnaryCall::Listen(const Source* source, grpc::ServerCompletionQueue* queue) {
  const std::shared_ptr<UnaryCall> call(new UnaryCall(source, queue));
  call->context_.AsyncNotifyWhenDone(call->done_.Arm(call));
  source->request(&call->context_, &call->message_, &call->writer_, queue,
                  call->requested_.Arm(call));
}

UnaryCall::UnaryCall(const Source* source, grpc::ServerCompletionQueue* queue)
    : source_(source), queue_(queue), writer_(&context_) {
  source_->counts->live.fetch_add(1);
}

UnaryCall::~UnaryCall() {
  exchange_ = nullptr;  // its reservation goes before the counts say that all is over
  if (accepted_) source_->counts->accepted.fetch_sub(1);
  source_->counts->live.fetch_sub(1);
}

void UnaryCall::OnRequested(bool ok) {
  if (!ok) return done_.Disarm();  // the server shuts down
  accepted_ = true;
  source_->counts->accepted.fetch_add(1);
  source_->counts->accepted_total.fetch_add(1);
  Listen(source_, queue_);
  const GrpcSite& site = *source_->site;
  const TimePoint now = site.engine->clock().Now();
  exchange_ =
      std::make_shared<Exchange>(site, source_->method, now, DeadlineOf(context_, site, now));
  exchange_->message.Swap(&message_);
  exchange_->reply = [self = shared_from_this()](const absl::Status& status,
                                                 const grpc::ByteBuffer& answer) {
    self->Finish(status, answer);
  };
  const absl::Status begun = exchange_->Begin(AllMethods()[source_->method].handler);
  begun.IgnoreError();  // without a waiter everything is answered
}

void UnaryCall::Finish(const absl::Status& status, const grpc::ByteBuffer& answer) {
  if (status.ok()) {
    writer_.Finish(answer, grpc::Status::OK, finished_.Arm(shared_from_this()));
    return;
  }
  AddRetryMetadata(status, &context_);
  writer_.FinishWithError(ToGrpcStatus(status), finished_.Arm(shared_from_this()));
}

void UnaryCall::OnFinished(bool) {}

void UnaryCall::OnDone(bool) {
  if (context_.IsCancelled()) exchange_->Cancel();
}

}  // namespace bertrand
