#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <utility>
#include <vector>

#include "kernels/mutex.h"

namespace bertrand {
namespace {

constexpr std::array<const char*, 17> kCodes = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

using Buckets = prometheus::Histogram::BucketBoundaries;

Buckets SecondsBuckets() {
  return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

Buckets PowersOfTwo(int last) {
  Buckets buckets;
  for (int i = 0; i <= last; ++i) buckets.push_back(static_cast<double>(int64_t{1} << i));
  return buckets;
}

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total_pages = 0, resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

// User and system time of the process.
double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

template <typename Family, typename... Arguments>
auto& AddSeries(Family& family, Arguments&&... arguments) {
  return family.Add({}, std::forward<Arguments>(arguments)...);
}

}  // namespace

struct Metrics::Impl {
  explicit Impl(std::span<const char* const> method_names);

  prometheus::Gauge& NewGauge(const char* name, const char* help) {
    return AddSeries(prometheus::BuildGauge().Name(name).Help(help).Register(registry));
  }
  prometheus::Counter& NewCounter(const char* name, const char* help) {
    return AddSeries(prometheus::BuildCounter().Name(name).Help(help).Register(registry));
  }
  prometheus::Histogram& NewHistogram(const char* name, const char* help, const Buckets& buckets) {
    return AddSeries(prometheus::BuildHistogram().Name(name).Help(help).Register(registry),
                     buckets);
  }

  prometheus::Registry registry;
  std::vector<std::array<prometheus::Counter*, kCodes.size()>> requests;  // by method and code
  std::vector<prometheus::Histogram*> durations;                          // by method
  prometheus::Counter& inputs;
  prometheus::Counter& tokens;
  prometheus::Histogram& batch_sequences;
  prometheus::Histogram& batch_tokens;
  prometheus::Histogram& batch_seconds;
  prometheus::Family<prometheus::Counter>& http_requests;
  prometheus::Gauge& queue_tokens;
  prometheus::Gauge& queue_requests;
  prometheus::Gauge& queue_oldest_age;
  prometheus::Gauge& admitted_requests;
  prometheus::Gauge& admitted_bytes;
  prometheus::Gauge& serving;
  prometheus::Gauge& resident_bytes;
  prometheus::Counter& cpu_seconds;

  Mutex mutex;
  std::function<Gauges()> source ABSL_GUARDED_BY(mutex);
};

Metrics::Impl::Impl(std::span<const char* const> method_names)
    : inputs(NewCounter("bertrand_inputs_total", "Inputs tokenised and queued")),
      tokens(NewCounter("bertrand_tokens_total", "Tokens queued, special tokens included")),
      batch_sequences(
          NewHistogram("bertrand_batch_sequences", "Sequences per batch", PowersOfTwo(10))),
      batch_tokens(NewHistogram("bertrand_batch_tokens", "Tokens per batch", PowersOfTwo(16))),
      batch_seconds(
          NewHistogram("bertrand_batch_duration_seconds", "Time of a batch", SecondsBuckets())),
      http_requests(prometheus::BuildCounter()
                        .Name("bertrand_http_requests_total")
                        .Help("HTTP requests by route and status; unknown routes are \"other\"")
                        .Register(registry)),
      queue_tokens(NewGauge("bertrand_queue_tokens", "Tokens that wait for a batch")),
      queue_requests(NewGauge("bertrand_queue_requests", "Requests that wait for a batch")),
      queue_oldest_age(
          NewGauge("bertrand_queue_oldest_age_seconds", "Age of the oldest waiting request")),
      admitted_requests(NewGauge("bertrand_admitted_requests", "Requests from arrival to answer")),
      admitted_bytes(NewGauge("bertrand_admitted_bytes", "Memory reserved for them")),
      serving(NewGauge("bertrand_serving", "1 while the server takes requests")),
      resident_bytes(NewGauge("process_resident_memory_bytes", "Resident memory")),
      cpu_seconds(NewCounter("process_cpu_seconds_total", "User and system time")) {
  auto& request_family = prometheus::BuildCounter()
                             .Name("bertrand_requests_total")
                             .Help("Requests by method and gRPC status")
                             .Register(registry);
  auto& duration_family = prometheus::BuildHistogram()
                              .Name("bertrand_request_duration_seconds")
                              .Help("From arrival to answer")
                              .Register(registry);
  for (const char* method : method_names) {
    auto& by_code = requests.emplace_back();
    for (size_t code = 0; code < kCodes.size(); ++code) {
      by_code[code] = &request_family.Add({{"method", method}, {"code", kCodes[code]}});
    }
    durations.push_back(&duration_family.Add({{"method", method}}, SecondsBuckets()));
  }
  http_requests.Add({{"route", "/health"}, {"status", "200"}});
  http_requests.Add({{"route", "/metrics"}, {"status", "200"}});
  NewGauge("process_start_time_seconds", "Start of the process, seconds since 1970")
      .Set(std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
               .count());
}

Metrics::Metrics(std::span<const char* const> methods) : impl_(std::make_unique<Impl>(methods)) {}
Metrics::~Metrics() = default;

void Metrics::set_source(std::function<Gauges()> source) {
  MutexLock lock(impl_->mutex);
  impl_->source = std::move(source);
}

void Metrics::CountRequest(size_t method, int code, int64_t duration_us) {
  if (code < 0 || code >= static_cast<int>(kCodes.size())) code = 2;  // UNKNOWN
  impl_->requests[method][static_cast<size_t>(code)]->Increment();
  impl_->durations[method]->Observe(static_cast<double>(duration_us) * 1e-6);
}

void Metrics::CountInputs(int64_t num_inputs, int64_t num_tokens) {
  impl_->inputs.Increment(static_cast<double>(num_inputs));
  impl_->tokens.Increment(static_cast<double>(num_tokens));
}

void Metrics::ObserveBatch(int64_t num_sequences, int64_t num_tokens, int64_t duration_us) {
  impl_->batch_sequences.Observe(static_cast<double>(num_sequences));
  impl_->batch_tokens.Observe(static_cast<double>(num_tokens));
  impl_->batch_seconds.Observe(static_cast<double>(duration_us) * 1e-6);
}

void Metrics::CountHttpRequest(const char* route, int status) {
  impl_->http_requests.Add({{"route", route}, {"status", std::to_string(status)}}).Increment();
}

std::string Metrics::Text() {
  Impl& impl = *impl_;
  MutexLock lock(impl.mutex);
  if (impl.source) {
    const Gauges gauges = impl.source();
    impl.queue_tokens.Set(static_cast<double>(gauges.queue_tokens));
    impl.queue_requests.Set(static_cast<double>(gauges.queue_requests));
    impl.queue_oldest_age.Set(gauges.queue_oldest_age_seconds);
    impl.admitted_requests.Set(static_cast<double>(gauges.admitted_requests));
    impl.admitted_bytes.Set(static_cast<double>(gauges.admitted_bytes));
    impl.serving.Set(gauges.serving ? 1 : 0);
  }
  impl.resident_bytes.Set(static_cast<double>(ResidentBytes()));
  if (const double more = CpuSeconds() - impl.cpu_seconds.Value(); more > 0) {
    impl.cpu_seconds.Increment(more);
  }
  return prometheus::TextSerializer().Serialize(impl.registry.Collect());
}

}  // namespace bertrand
