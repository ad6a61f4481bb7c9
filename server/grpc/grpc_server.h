#pragma once

// The gRPC port: bertrand.v1, health and reflection, by completion queues.
//
// One thread, named "grpc-cq-N", polls each queue; it hands every request over at once and never
// computes. Health and reflection are gRPC's own and run on its threads. Shutdown order: see
// docs/architecture.md. Owns the calls; `engine` and `health` must outlive it.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "server/grpc/exchange.h"

namespace bertrand {

struct GrpcOptions {
  std::string address;  // HOST:PORT
  int num_queues = 1;
  int64_t max_concurrent_calls = 4096;  // of one connection
  std::chrono::milliseconds max_connection_age{0};
  GrpcLimits limits;
};

class GrpcServer {
 public:
  // Listens at once, with health NOT_SERVING until SetServing. Unavailable with the reason when it
  // cannot. Called once in a process: gRPC's and protobuf's log handlers are set here.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcOptions& options,
                                                           Engine* engine, const Health* health);
  // Requires: Shutdown.
  ~GrpcServer();

  // HOST:PORT with the port that was taken.
  const std::string& address() const;

  // Health answers SERVING for "", the services and the models, or NOT_SERVING for all.
  void SetServing(bool serving);

  // Waits until every call that a client has made is answered, then closes. New ones are answered
  // UNAVAILABLE meanwhile (Health::State::kDraining, to be set before). False: some were still
  // there at the deadline and were cut off.
  bool Shutdown(TimePoint deadline);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bertrand
