#pragma once

// The server's figures for Prometheus. Every family has its series from the start, and labels come
// from fixed lists alone: nothing a client sends becomes a label.
//
// Thread-safe. Gauges are read when scraped, through the callbacks given to set_sources.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace bertrand {

class Metrics {
 public:
  struct Gauges {
    int64_t queue_tokens = 0, queue_requests = 0, admitted_requests = 0, admitted_bytes = 0;
    double queue_oldest_age_seconds = 0;
    bool serving = false;
  };

  // `methods`: every RPC's name, in the order of the indices passed to CountRequest.
  explicit Metrics(std::span<const char* const> methods);
  ~Metrics();

  void set_source(std::function<Gauges()> source);

  // A request of a method ended with a gRPC status code (0 to 16).
  void CountRequest(size_t method, int code, int64_t duration_us);
  void CountInputs(int64_t num_inputs, int64_t num_tokens);
  void ObserveBatch(int64_t num_sequences, int64_t num_tokens, int64_t duration_us);
  void CountHttpRequest(const char* route, int status);

  // The text exposition format, 0.0.4.
  std::string Text();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bertrand
