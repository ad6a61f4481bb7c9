#pragma once

// Unary calls over a completion queue, as raw bytes.
//
// A call is asked for (Listen), comes, is answered through its Exchange from any thread, and is
// freed when both of its last tags are back: that of Finish, and that which tells that it is done
// or cancelled. Each tag holds the call while gRPC has it. One thread polls each queue.

#include <grpcpp/completion_queue.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_unary_call.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <functional>
#include <memory>

#include "server/grpc/exchange.h"

namespace bertrand {

// What a completion queue carries.
class Tag {
 public:
  virtual ~Tag() = default;
  virtual void Proceed(bool ok) = 0;
};

template <typename Call, void (Call::*kHandler)(bool)>
class CallTag final : public Tag {
 public:
  // Keeps `call` until the tag is back.
  void* Arm(std::shared_ptr<Call> call) {
    call_ = std::move(call);
    return this;
  }
  // For a tag that will not come back.
  void Disarm() { call_ = nullptr; }
  void Proceed(bool ok) override {
    const std::shared_ptr<Call> call = std::move(call_);
    (call.get()->*kHandler)(ok);
  }

 private:
  std::shared_ptr<Call> call_;
};

// Calls that are known to gRPC (live), those of them that a client has made (accepted), and how
// many of those there ever were.
struct CallCounts {
  std::atomic<int64_t> live{0};
  std::atomic<int64_t> accepted{0};
  std::atomic<int64_t> accepted_total{0};
};

class UnaryCall : public std::enable_shared_from_this<UnaryCall> {
 public:
  using RequestFn = std::function<void(grpc::ServerContext*, grpc::ByteBuffer*,
                                       grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>*,
                                       grpc::ServerCompletionQueue*, void* tag)>;
  // Everything a call of one method needs to come about; outlives the calls.
  struct Source {
    const GrpcSite* site = nullptr;
    size_t method = 0;
    RequestFn request;
    CallCounts* counts = nullptr;
  };

  // Asks for one call; it asks for the next one when it has come.
  static void Listen(const Source* source, grpc::ServerCompletionQueue* queue);
  ~UnaryCall();

 private:
  UnaryCall(const Source* source, grpc::ServerCompletionQueue* queue);
  void OnRequested(bool ok);
  void OnFinished(bool ok);
  void OnDone(bool ok);
  void Finish(const absl::Status& status, const grpc::ByteBuffer& answer);

  const Source* const source_;
  grpc::ServerCompletionQueue* const queue_;
  bool accepted_ = false;
  grpc::ServerContext context_;
  grpc::ByteBuffer message_;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> writer_;
  std::shared_ptr<Exchange> exchange_;
  CallTag<UnaryCall, &UnaryCall::OnRequested> requested_;
  CallTag<UnaryCall, &UnaryCall::OnFinished> finished_;
  CallTag<UnaryCall, &UnaryCall::OnDone> done_;
};

}  // namespace bertrand
