#pragma once

// The command line: every flag with its default and its environment twin (BERTRAND_ and the flag's
// name in capitals). Pure but for reading the environment.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bertrand {

struct ModelArgument {
  std::string name;
  std::string source;
};

struct Options {
  std::vector<ModelArgument> models;
  std::string grpc_address = "127.0.0.1:50051";
  std::string http_address = "127.0.0.1:8080";
  std::string device = "auto";
  std::string dtype = "auto";
  std::map<std::string, std::string> float8_files;  // by the model's name
  std::string tuning_cache;  // a folder; empty: nothing is kept
  std::chrono::microseconds tuning_time{std::chrono::seconds(30)};
  std::string truncation = "longest-first";
  int64_t threads = 0;  // 0: the cores there are
  int64_t max_batch_tokens = 4096;
  int64_t max_batches = 0;  // of a device; 0: on a GPU 2, else as many as threads, at most 16
  int64_t max_queue_tokens = int64_t{1} << 20;
  int64_t max_queue_bytes = int64_t{256} << 20;
  int64_t max_queue_requests = 4096;
  std::chrono::microseconds max_queue_delay{0};
  int64_t max_inputs_per_request = 1024;
  int64_t max_request_bytes = int64_t{4} << 20;
  int64_t max_response_bytes = int64_t{64} << 20;
  std::chrono::microseconds max_request_time{std::chrono::seconds(60)};
  int64_t max_stream_requests = 8;
  int64_t max_concurrent_calls = 4096;
  int64_t max_http_connections = 256;
  std::chrono::microseconds max_connection_age{std::chrono::hours(1)};
  std::chrono::microseconds drain_timeout{std::chrono::seconds(30)};
  std::string log_level = "info";
  std::string log_format = "text";
  bool unverified_kernels = false;
  bool check = false;
  // Of `bertrand calibrate`: nothing is served. Empty: no calibration.
  std::string calibrate;         // a file of texts; "-": standard input
  std::string calibrate_output;  // empty: bertrand-fp8.json in the model's folder
};

struct ParsedOptions {
  Options options;
  // Not empty: --help or --version; print it to standard output and end with 0.
  std::string text_to_print;
  std::vector<std::string> warnings;
};

// InvalidArgument is one line that names the flag, or the variable.
absl::StatusOr<ParsedOptions> ParseOptions(int argc, const char* const* argv);

// "NAME=SOURCE" or "SOURCE".
absl::StatusOr<ModelArgument> ParseModelArgument(std::string_view text);

// "1.5s", "200ms", "2m", or a plain number of seconds; 0 or more.
absl::StatusOr<std::chrono::microseconds> ParseDuration(const std::string& text);

}  // namespace bertrand
