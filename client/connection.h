#pragma once

// A connection to a server, for commands: where it is, how long a call may take, what to say when
// it fails. A command makes one and uses it from one thread.

#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "proto/bertrand.grpc.pb.h"

namespace bertrand::client {

struct ConnectionOptions {
  std::string address = "127.0.0.1:50051";
  double timeout_s = 60;
};

// Adds --address (env BERTRAND_ADDRESS) and --timeout to a command.
void AddConnectionOptions(CLI::App& command, ConnectionOptions& options);

class Connection {
 public:
  explicit Connection(const ConnectionOptions& options);

  v1::Inference::Stub& inference() { return *inference_; }
  v1::Models::Stub& models() { return *models_; }

  // Runs call(&context), which makes one unary call, until it succeeds or fails for good: a full
  // server is asked again when it wants to be, within the timeout.
  template <typename UnaryCall>
  grpc::Status Call(UnaryCall call) {
    const auto deadline = std::chrono::system_clock::now() + timeout_;
    while (true) {
      grpc::ClientContext context;
      context.set_deadline(deadline);
      const grpc::Status status = call(&context);
      const auto delay = RetryDelay(status, context);
      if (!delay || std::chrono::system_clock::now() + *delay >= deadline) return status;
      std::this_thread::sleep_for(*delay);
    }
  }

  // Prints a failed call to standard error, with how to start a server where there is none.
  // Returns the exit status, which is not 0.
  int Report(const grpc::Status& status) const;

 private:
  static std::optional<std::chrono::milliseconds> RetryDelay(const grpc::Status& status,
                                                             const grpc::ClientContext& context);

  std::string address_;
  std::chrono::milliseconds timeout_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Models::Stub> models_;
};

}  // namespace bertrand::client
