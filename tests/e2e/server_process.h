#pragma once

// bertrand-server as a child process, on free ports, with a tiny checkpoint; and a client of it.
//
// The child is killed when the object goes. Used by one thread at a time.

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "proto/bertrand.grpc.pb.h"

namespace bertrand {

// A committed checkpoint with random weights.
inline constexpr char kCheckpoint[] = "tests/parity/checkpoints/plain";

class ServerProcess {
 public:
  // With `--model tiny=kCheckpoint` and free ports before `arguments`; waits for the ready line
  // (null after 60 s, or when it ends).
  static std::unique_ptr<ServerProcess> StartReady(const std::vector<std::string>& arguments = {});
  // With `arguments` alone; does not wait.
  static std::unique_ptr<ServerProcess> Start(const std::vector<std::string>& arguments);
  ~ServerProcess();

  const std::string& grpc_address() const { return grpc_address_; }
  const std::string& http_address() const { return http_address_; }
  std::string standard_output() const;
  std::string standard_error() const;
  int64_t resident_bytes() const;

  void Signal(int number) const;
  // The exit status, or -1 when it has not ended by then or was killed by a signal.
  int WaitForEnd(std::chrono::seconds time);

  // A stub over a new connection of its own.
  std::unique_ptr<v1::Inference::Stub> NewClient() const;
  std::shared_ptr<grpc::Channel> NewChannel() const;
  // One plain HTTP exchange on a new connection: everything the server sends until it closes.
  std::string Http(const std::string& request) const;
  std::string HttpGet(const std::string& path) const;

 private:
  bool WaitForReady();

  std::string folder_;  // of its output
  pid_t pid_ = -1;
  std::string grpc_address_, http_address_;
};

// A call's deadline.
void SetDeadline(grpc::ClientContext* context, std::chrono::milliseconds time);

v1::EmbedRequest NewRequest(const std::vector<std::string>& texts);
grpc::Status Embed(v1::Inference::Stub& stub, const v1::EmbedRequest& request,
                   v1::EmbedResponse* response,
                   std::chrono::milliseconds time = std::chrono::seconds(20));
// A good request on a new connection is answered within 2 s: the server is well.
void ExpectWell(const ServerProcess& server);

}  // namespace bertrand
