#pragma once

// EmbedStream: requests of one stream in flight side by side, answers in the order of the requests.
//
// Overload is flow control: with --max-stream-requests in flight, or when the server is full,
// nothing more is read, so the client's messages wait in its own buffers. A bad request ends the
// stream with its status. When the server drains, what was read is answered and the stream ends
// UNAVAILABLE.

#include <grpcpp/completion_queue.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/byte_buffer.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "kernels/mutex.h"
#include "server/grpc/exchange.h"
#include "server/grpc/unary_call.h"

namespace bertrand {

class StreamCall : public std::enable_shared_from_this<StreamCall> {
 public:
  using Stream = grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
  using RequestFn =
      std::function<void(grpc::ServerContext*, Stream*, grpc::ServerCompletionQueue*, void* tag)>;
  // The streams that there are, so that they can be told to end.
  class Registry {
   public:
    void Add(StreamCall* call);
    void Remove(StreamCall* call);
    // Every stream stops reading.
    void DrainAll();

   private:
    Mutex mutex_;
    std::set<StreamCall*> calls_ ABSL_GUARDED_BY(mutex_);
  };
  struct Source {
    const GrpcSite* site = nullptr;
    size_t method = 0;
    RequestFn request;
    CallCounts* counts = nullptr;
    Registry* registry = nullptr;
  };

  static void Listen(const Source* source, grpc::ServerCompletionQueue* queue);
  ~StreamCall();

 private:
  // A request that was read, until its answer is written.
  struct Slot {
    std::shared_ptr<Exchange> exchange;
    bool answered = false;
    absl::Status status;
    grpc::ByteBuffer answer;
  };

  StreamCall(const Source* source, grpc::ServerCompletionQueue* queue);
  void OnRequested(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void OnDone(bool ok);
  void Drain();
  void BeginRequest(const std::shared_ptr<Slot>& slot);
  // Reads, writes or finishes, whatever can be done now.
  void Advance();
  void AdvanceLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<std::shared_ptr<Exchange>> Exchanges();

  const Source* const source_;
  grpc::ServerCompletionQueue* const queue_;
  bool accepted_ = false;
  grpc::ServerContext context_;
  Stream stream_;

  Mutex mutex_;
  std::deque<std::shared_ptr<Slot>> slots_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Slot> writing_ ABSL_GUARDED_BY(mutex_);  // keeps its reservation while it leaves
  grpc::ByteBuffer read_message_;                          // owned by gRPC while reading_
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool no_more_reads_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_back_ ABSL_GUARDED_BY(mutex_) = false;  // the last request read waits for admission
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;

  CallTag<StreamCall, &StreamCall::OnRequested> requested_;
  CallTag<StreamCall, &StreamCall::OnRead> read_;
  CallTag<StreamCall, &StreamCall::OnWritten> written_;
  CallTag<StreamCall, &StreamCall::OnFinished> finished_;
  CallTag<StreamCall, &StreamCall::OnDone> done_;
};

}  // namespace bertrand
