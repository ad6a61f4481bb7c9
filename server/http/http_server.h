#pragma once

// The HTTP port: /health for probes and /metrics for Prometheus, HTTP/1.1 by Boost.Beast.
//
// One thread, named "http", runs an event loop; routes answer at once. Limits: connections, 64 KB
// of header (431), a megabyte of body (413), and time on each read and write, so that slow clients
// hold nothing for long. `health` and `metrics` must outlive the server.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "server/health.h"
#include "server/metrics.h"

namespace bertrand {

struct HttpOptions {
  std::string address;  // HOST:PORT
  int64_t max_connections = 256;
  std::chrono::milliseconds read_timeout{15'000};
  std::chrono::milliseconds write_timeout{15'000};
};

class HttpServer {
 public:
  // Listens at once. Unavailable with the reason when it cannot.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpOptions& options,
                                                           const Health* health, Metrics* metrics);
  // Closes everything and joins the thread.
  ~HttpServer();

  // HOST:PORT with the port that was taken.
  const std::string& address() const;

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bertrand
