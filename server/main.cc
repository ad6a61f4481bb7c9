// bertrand-server: loads models, listens, and prints one line to standard output when it is ready.
//
// Threads and the order of shutdown are in docs/architecture.md.

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "kernels/thread_pool.h"
#include "models/model.h"
#include "server/calibrate.h"
#include "server/cores.h"
#include "server/devices.h"
#include "server/engine.h"
#include "server/example.h"
#include "server/grpc/grpc_server.h"
#include "server/grpc/methods.h"
#include "server/health.h"
#include "server/http/http_server.h"
#include "server/options.h"
#include "server/source.h"
#include "server/unverified_kernels.h"

namespace bertrand {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

// Each lane has a workspace for a full batch, some 100 MB for a BERT-base: a lane a core is too
// much on a large machine, and its batches use idle cores all the same.
constexpr int kLanesMax = 16, kMostLanes = 1024;
// While a GPU runs one batch, the next is packed, copied and waiting.
constexpr int kGpuLanes = 2;

// Without a device every call fails at once.
constexpr std::chrono::microseconds kLostDeviceTimeout{std::chrono::seconds(2)};

void SetUpLog(const Options& options) {
  // The default logger writes to standard output, where only the ready line belongs.
  auto logger = spdlog::stderr_logger_mt("bertrand");
  const bool json = options.log_format == "json";
  logger->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%v"})"
                           : "%Y-%m-%d %H:%M:%S.%e %l %v");
  logger->set_level(spdlog::level::from_str(options.log_level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

// A log message that is safe inside the JSON of --log-format json too.
std::string ForLog(std::string text) {
  std::replace(text.begin(), text.end(), '"', '\'');
  std::replace(text.begin(), text.end(), '\\', '/');
  return text;
}

TruncationMode TruncationOf(const std::string& name) {
  if (name == "fail") return TruncationMode::kFail;
  if (name == "only-first") return TruncationMode::kOnlyFirst;
  if (name == "only-second") return TruncationMode::kOnlySecond;
  return TruncationMode::kLongestFirst;
}

// SIGTERM and SIGINT, which every other thread has blocked: while models load, the first ends the
// process (a download goes on where it stopped, next time); later the first asks to drain, and the
// second ends the process at once. Owns the thread "signals".
class Signals {
 public:
  // To be called before any other thread is made: they inherit the mask.
  static sigset_t Block() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    return set;
  }

  explicit Signals(const sigset_t& set)
      : thread_([set, this] {
          const int number = Wait(set);
          {
            MutexLock lock(mutex_);
            if (!serving_) {
              spdlog::warn("a signal, before anything is served: ending");
              _exit(128 + number);
            }
            asked_ = true;
            changed_.NotifyAll();
          }
          Wait(set);
          spdlog::warn("second signal: ending at once, what was accepted is lost");
          _exit(1);
        }) {
    pthread_setname_np(thread_.native_handle(), "signals");
    thread_.detach();  // it lives as long as the process
  }

  // As a first signal, with a reason that is an error.
  void Stop(const absl::Status& reason) {
    MutexLock lock(mutex_);
    if (reason_.ok()) reason_ = reason;
    asked_ = true;
    changed_.NotifyAll();
  }

  // From here on there is something to drain.
  void StartServing() {
    MutexLock lock(mutex_);
    serving_ = true;
  }

  // OK, or the reason of Stop.
  absl::Status WaitForFirst() {
    MutexLock lock(mutex_);
    while (!asked_) changed_.Wait(mutex_);
    return reason_;
  }

 private:
  static int Wait(const sigset_t& set) {
    int number = 0;
    sigwait(&set, &number);
    return number;
  }

  Mutex mutex_;
  CondVar changed_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  bool asked_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status reason_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// For every model of the server, so that nobody gets another type than was asked for.
absl::Status ExplainFloat8(const absl::Status& status) {
  if (!absl::IsNotFound(status)) return status;
  return NotFound(Message(status) +
                  ", or --fp8-scales names it; a model without belongs on another server, "
                  "with another --dtype");
}

absl::StatusOr<std::unique_ptr<ServedModel>> LoadModel(const Options& options,
                                                       const ModelArgument& argument,
                                                       Devices& devices) {
  BERTRAND_ASSIGN_OR_RETURN(ResolvedSource source,
                            ResolveSource(argument.source, [](const std::string& line) {
                              spdlog::info("{}", ForLog(line));
                            }));
  const auto begin = std::chrono::steady_clock::now();
  auto served = std::make_unique<ServedModel>();
  served->name = argument.name;
  served->source = argument.source;
  served->revision = source.revision;
  // What is wrong with the files, Load says better.
  const DType stored = StoredType(source.folder).value_or(DType::kFloat32);
  for (size_t device = 0; device < devices.size(); ++device) {
    BERTRAND_ASSIGN_OR_RETURN(const Backend* const backend, devices.For(device, stored));
    LoadOptions load;
    if (devices.is_float8()) {
      load.dtype = Name(DType::kFloat8);
      const auto file = options.float8_files.find(argument.name);
      if (file != options.float8_files.end()) load.float8_path = file->second;
    }
    auto model = Model::Load(source.folder, *backend, load);
    if (!model.ok()) return devices.is_float8() ? ExplainFloat8(model.status()) : model.status();
    (device == 0 ? served->model : served->replicas.emplace_back()) = *std::move(model);
  }
  const ModelDescription& description = served->model->description();
  const auto elapsed = duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
  const std::string limit = description.max_tokens > 0
                                ? "up to " + std::to_string(description.max_tokens) + " tokens"
                                : "texts of any length that a batch holds";
  spdlog::info("model {}: {}, {} MB of {} on {}, {}, loaded in {} ms", served->name,
               description.architecture.empty() ? "a checkpoint without architectures"
                                                : ForLog(description.architecture),
               description.weight_bytes >> 20, description.compute_type, description.device, limit,
               elapsed.count());
  for (const std::string& note : description.load_notes) {
    spdlog::info("model {}: {}", served->name, ForLog(note));
  }
  return served;
}

// Batches in flight on each device.
int NumLanes(const Options& options, const std::string& device, int cores) {
  if (options.max_batches > 0) {
    return static_cast<int>(std::min<int64_t>(options.max_batches, kMostLanes));
  }
  return IsGpu(device) ? kGpuLanes : std::min(cores, kLanesMax);
}

absl::StatusOr<std::unique_ptr<Engine>> MakeEngine(const Options& options, Devices& devices,
                                                   int num_lanes,
                                                   const Engine::Surroundings& surroundings) {
  std::vector<std::unique_ptr<ServedModel>> models;
  for (const ModelArgument& argument : options.models) {
    auto model = LoadModel(options, argument, devices);
    if (!model.ok()) return Annotate(model.status(), "--model " + argument.name);
    models.push_back(*std::move(model));
  }
  EngineOptions engine;
  engine.num_lanes = num_lanes;
  engine.batch.max_tokens = options.max_batch_tokens;
  engine.batch.quantum_tokens = std::max<int64_t>(options.max_batch_tokens / 4, 1);
  engine.batch.max_delay = options.max_queue_delay;
  return Engine::Create(std::move(models), engine, surroundings);
}

GrpcOptions GrpcOptionsOf(const Options& options, int cores) {
  GrpcOptions grpc;
  grpc.address = options.grpc_address;
  grpc.num_queues = std::clamp(cores / 16, 1, 4);
  grpc.max_concurrent_calls = options.max_concurrent_calls;
  grpc.max_connection_age = duration_cast<milliseconds>(options.max_connection_age);
  grpc.limits = {.inputs_per_request_max = options.max_inputs_per_request,
                 .request_bytes_max = options.max_request_bytes,
                 .response_bytes_max = options.max_response_bytes,
                 .stream_requests_max = options.max_stream_requests,
                 .request_time_max = options.max_request_time,
                 .truncation = TruncationOf(options.truncation)};
  return grpc;
}

Metrics::Gauges ReadGauges(const Engine& engine, const Admission& admission, const Health& health) {
  const RequestQueue::State queue = engine.queue_state();
  const Admission::Usage usage = admission.usage();
  return {.queue_tokens = queue.num_tokens,
          .queue_requests = queue.num_jobs,
          .admitted_requests = usage.requests,
          .admitted_bytes = usage.bytes,
          .queue_oldest_age_seconds = static_cast<double>(queue.oldest_age_us) * 1e-6,
          .serving = health.serving()};
}

// tests/gpu/record.json says which kernels a GPU has tested, and with which sources.
void WarnOfUnverifiedKernels() {
  // Not absl::StrJoin: abseil's string_view may be its own type.
  std::string names;
  for (const std::string_view kernel : kUnverifiedKernels) {
    names.append(names.empty() ? "" : ", ").append(kernel);
  }
  if (names.empty()) return;
  spdlog::warn("kernels of this build that are not verified on a GPU: {}", names);
}

// Whether the kernels that wait for each other by phases in memory, and would hang where they are
// wrong, have run on a GPU as they are.
bool HopperIsVerified() {
  return std::none_of(kUnverifiedKernels.begin(), kUnverifiedKernels.end(),
                      [](std::string_view kernel) { return kernel.starts_with("hopper_"); });
}

// The command-line client, which is built beside this program; its name where it is not there.
std::string ClientPath() {
  std::error_code error;
  const auto path =
      std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "bertrand";
  if (error || !std::filesystem::exists(path, error)) return "bertrand";
  const auto here = std::filesystem::proximate(path, error);
  return error || here.string().starts_with("..") ? path.string() : here.string();
}

// After `ready`, people get something to try.
void PrintExample(const Engine& engine, const std::string& grpc_address) {
  if (isatty(STDERR_FILENO) == 0) return;
  const std::string calls = ExampleCalls(*engine.models()[0]->model, ClientPath(), grpc_address);
  std::fprintf(stderr, "\nTry it, from another terminal:\n%s\n", calls.c_str());
}

// Ports, from open to closed.
absl::Status Serve(const Options& options, int cores, Engine* engine, Metrics* metrics,
                   Health* health, Signals* signals) {
  auto http = HttpServer::Start(
      {.address = options.http_address, .max_connections = options.max_http_connections}, health,
      metrics);
  if (!http.ok()) return Annotate(http.status(), "--http-address");
  auto grpc = GrpcServer::Start(GrpcOptionsOf(options, cores), engine, health);
  if (!grpc.ok()) return Annotate(grpc.status(), "--grpc-address");
  signals->StartServing();
  health->set_state(Health::State::kServing);
  (*grpc)->SetServing(true);
  std::printf("ready grpc=%s http=%s\n", (*grpc)->address().c_str(), (*http)->address().c_str());
  std::fflush(stdout);
  PrintExample(*engine, (*grpc)->address());

  const absl::Status reason = signals->WaitForFirst();
  health->set_state(Health::State::kDraining);
  (*grpc)->SetServing(false);
  if (reason.ok()) {
    spdlog::info("draining: what was accepted is answered, new calls are refused");
  } else {
    spdlog::error("ending, calls fail: {}", ForLog(Message(reason)));
  }
  const auto patience =
      reason.ok() ? options.drain_timeout : std::min(options.drain_timeout, kLostDeviceTimeout);
  if (!(*grpc)->Shutdown(std::chrono::steady_clock::now() + patience)) {
    spdlog::warn("--drain-timeout passed with calls still open; they were cut off");
  }
  return reason;
}

absl::Status WarmUp(const Options& options, const Devices& devices, Engine& engine) {
  BERTRAND_RETURN_IF_ERROR(engine.WarmUp());
  const auto begin = std::chrono::steady_clock::now();
  BERTRAND_ASSIGN_OR_RETURN(
      const TuningReport report,
      devices.Tune(options.max_batch_tokens, duration_cast<milliseconds>(options.tuning_time),
                   options.unverified_kernels || HopperIsVerified()));
  for (const std::string& line : report.shapes) spdlog::debug("{}", ForLog(line));
  for (const std::string& line : report.notes) spdlog::info("{}", ForLog(line));
  if (report.shapes.empty()) return absl::OkStatus();
  const auto elapsed = duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
  spdlog::info("tuned for {} shapes in {} ms, kept in {}; --log-level debug lists them",
               report.shapes.size(), elapsed.count(), ForLog(options.tuning_cache));
  // What was chosen as it is, which loads it, and then recorded.
  BERTRAND_RETURN_IF_ERROR(engine.WarmUp());
  return engine.WarmUp();
}

absl::Status Run(const Options& options, const sigset_t& signal_set) {
  // Detached with its thread, so it must not go before the process does.
  auto* signals = new Signals(signal_set);
  RaiseOpenFilesLimit();
  const int cores = options.threads > 0 ? static_cast<int>(options.threads) : AvailableCores();
  if (!options.calibrate.empty()) return Calibrate(options, cores);
  auto names = ParseDevices(options.device);
  if (!names.ok()) return Annotate(names.status(), "--device");
  const int num_lanes = NumLanes(options, names->front(), cores);
  // A lane of a GPU waits for it, on a thread.
  const int waiting = IsGpu(names->front()) ? num_lanes * static_cast<int>(names->size()) : 0;
  ThreadPool pool(cores + waiting);
  Devices devices(*std::move(names), options.dtype,
                  options.tuning_cache.empty() ? "" : options.tuning_cache + "/gemm", &pool);
  // What cannot work fails before a model is fetched for it.
  BERTRAND_RETURN_IF_ERROR(devices.For(0, DType::kFloat32).status());
  if (absl::StartsWith(devices.name(0), "cuda")) WarnOfUnverifiedKernels();

  SteadyClock clock;
  Admission admission({.requests_max = options.max_queue_requests,
                       .bytes_max = options.max_queue_bytes,
                       .tokens_max = options.max_queue_tokens});
  Metrics metrics(AllMethodNames());
  BERTRAND_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                            MakeEngine(options, devices, num_lanes,
                                       {.pool = &pool,
                                        .admission = &admission,
                                        .metrics = &metrics,
                                        .clock = &clock,
                                        .device_lost = [signals](const absl::Status& reason) {
                                          signals->Stop(reason);
                                        }}));
  BERTRAND_RETURN_IF_ERROR(WarmUp(options, devices, *engine));
  if (options.check) {
    spdlog::info("--check: {} model(s) load", engine->models().size());
    return absl::OkStatus();
  }
  Health health;
  metrics.set_source([&] { return ReadGauges(*engine, admission, health); });
  absl::Status status = Serve(options, cores, engine.get(), &metrics, &health, signals);
  metrics.set_source(nullptr);
  return status;
}

int Main(int argc, char** argv) {
  const sigset_t signal_set = Signals::Block();
  auto parsed = ParseOptions(argc, argv);
  if (!parsed.ok()) {
    std::fprintf(stderr, "bertrand-server: %s\n", Message(parsed.status()).c_str());
    return 2;
  }
  if (!parsed->text_to_print.empty()) {
    std::fputs(parsed->text_to_print.c_str(), stdout);
    return 0;
  }
  SetUpLog(parsed->options);
  for (const std::string& warning : parsed->warnings) spdlog::warn("{}", ForLog(warning));
  const absl::Status status = Run(parsed->options, signal_set);
  if (!status.ok()) {
    std::fprintf(stderr, "bertrand-server: %s\n", Message(status).c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) { return bertrand::Main(argc, argv); }
