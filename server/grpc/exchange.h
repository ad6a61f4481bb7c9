#pragma once

// One request and its answer, whether it came as a unary call or in a stream; and what the methods
// need to answer it.
//
// Made on a completion queue's thread, worked on by one task at a time, answered once, from any
// thread. Cancel may come at any time from any thread. Its reservation lives as long as it does:
// the calls keep it until the answer has left.

#include <absl/status/status.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <functional>
#include <memory>
#include <string_view>

#include "kernels/mutex.h"
#include "server/admission.h"
#include "server/clock.h"
#include "server/engine.h"
#include "server/health.h"

namespace google::protobuf {
class Message;
}

namespace bertrand {

struct GrpcLimits {
  int64_t inputs_per_request_max = 1024;
  int64_t request_bytes_max = int64_t{4} << 20;
  int64_t response_bytes_max = int64_t{64} << 20;
  int64_t stream_requests_max = 8;
  std::chrono::microseconds request_time_max{std::chrono::seconds(60)};
  TruncationMode truncation = TruncationMode::kLongestFirst;
};

// What all calls share. Outlives them.
struct GrpcSite {
  Engine* engine = nullptr;
  const Health* health = nullptr;
  GrpcLimits limits;
};

class Exchange;
// Answers, or starts what will answer; an error returned is the answer. Runs as an urgent task, and
// is called again after it has waited for room (Exchange::Grow).
using Handler = absl::Status (*)(const std::shared_ptr<Exchange>& exchange);

struct Method {
  const char* name;
  Handler handler;
};

class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  using Reply = std::function<void(const absl::Status& status, grpc::ByteBuffer answer)>;

  // `method` indexes AllMethods() of methods.h.
  Exchange(const GrpcSite& site, size_t method, TimePoint received, TimePoint deadline)
      : site(site), method(method), received(received), deadline(deadline) {}

  // Checks the size, reserves a place, and leaves the rest to an urgent task. With `when_freed`, an
  // Overloaded is not answered but returned, and when_freed called when it is time to try again.
  // Everything else is answered through `reply`; returns OK then.
  absl::Status Begin(Handler handler, Admission::Waiter when_freed = nullptr);

  // Drops the work at the next occasion. The answer still comes, and goes nowhere.
  void Cancel();

  // ---- for handlers
  // The message in one piece; valid as long as this.
  std::string_view bytes() const;
  // Reserves what the request will need. False: there is no room now, and the handler will be
  // called again; it must return OK at once.
  absl::StatusOr<bool> Grow(int64_t bytes);
  // Gives the job its reservation, deadline and owner, and starts it.
  void StartJob(std::shared_ptr<Job> job);
  // The answer; call once. Takes the reservation back from a job before that (TakeBack).
  void Answer(const absl::Status& status);
  void Answer(const google::protobuf::Message& message);
  void TakeBack(Job* job) { reservation = std::move(job->reservation); }

  const GrpcSite& site;
  const size_t method;
  const TimePoint received, deadline;
  grpc::ByteBuffer message;
  Admission::Reservation reservation;
  bool wait_when_full = false;
  Reply reply;

 private:
  void Run();
  void Finish(const absl::Status& status, const grpc::ByteBuffer& answer);

  Handler handler_ = nullptr;
  grpc::Slice slice_;
  Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::weak_ptr<Job> job_ ABSL_GUARDED_BY(mutex_);
};

// When a call must be answered: its own deadline, cut by --max-request-time.
TimePoint DeadlineOf(const grpc::ServerContext& context, const GrpcSite& site, TimePoint now);

}  // namespace bertrand
