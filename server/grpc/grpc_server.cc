#include "server/grpc/grpc_server.h"

#include <absl/strings/str_cat.h>
#include <google/protobuf/stubs/logging.h>
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <pthread.h>

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/mutex.h"
#include "kernels/status.h"
#include "proto/bertrand.grpc.pb.h"
#include "server/grpc/connections.h"
#include "server/grpc/methods.h"
#include "server/grpc/stream_call.h"
#include "server/grpc/unary_call.h"

namespace bertrand {
namespace {

// Every method raw: wrapped one by one, so that reflection lists the services.
template <typename T>
using RawInference14 = v1::Inference::WithRawMethod_Embed<v1::Inference::WithRawMethod_EmbedStream<
    v1::Inference::WithRawMethod_EmbedTokens<v1::Inference::WithRawMethod_EmbedSparse<
        v1::Inference::WithRawMethod_Classify<v1::Inference::WithRawMethod_ClassifyZeroShot<
            v1::Inference::WithRawMethod_Rerank<v1::Inference::WithRawMethod_ClassifyTokens<
                v1::Inference::WithRawMethod_AnswerQuestion<v1::Inference::WithRawMethod_FillMask<
                    v1::Inference::WithRawMethod_DetectReplacedTokens<
                        v1::Inference::WithRawMethod_PredictSentencePair<
                            v1::Inference::WithRawMethod_Tokenize<
                                v1::Inference::WithRawMethod_Detokenize<T>>>>>>>>>>>>>>;
using RawInference = RawInference14<v1::Inference::Service>;
using RawModels = v1::Models::WithRawMethod_ListModels<
    v1::Models::WithRawMethod_GetModel<v1::Models::WithRawMethod_LoadModel<
        v1::Models::WithRawMethod_UnloadModel<v1::Models::Service>>>>;

// Calls asked for in advance on each queue. More than the bursts that arrive between two polls.
constexpr int kEmbedCallsAhead = 64;
constexpr int kOtherCallsAhead = 4;
// gRPC answers a message above its own limit with a text of its own: leave room for ours.
constexpr int64_t kMessageLimitFactor = 4;
constexpr int kReflectionThreadsMax = 16;
constexpr int kPingIntervalMsMin = 10'000;
constexpr int kKeepaliveMs = 60'000;
// For health watchers and reflection streams, which do not end by themselves.
constexpr auto kCloseGrace = std::chrono::milliseconds(200);
// A drained server closes when it has not been called for kQuiet, or after kQuietMax at last.
constexpr auto kQuiet = std::chrono::milliseconds(50);
constexpr auto kQuietMax = std::chrono::seconds(1);

// gRPC's own log: only its first error is kept, since it alone knows why a port cannot be had. A
// line a bad call would be a flood.
Mutex log_mutex;
std::string first_grpc_error ABSL_GUARDED_BY(log_mutex);

void KeepFirstError(gpr_log_func_args* arguments) {
  if (arguments->severity != GPR_LOG_SEVERITY_ERROR) return;
  MutexLock lock(log_mutex);
  if (first_grpc_error.empty()) first_grpc_error = arguments->message;
}

std::string WhyNotListening() {
  MutexLock lock(log_mutex);
  const bool in_use = first_grpc_error.find("Address already in use") != std::string::npos;
  if (in_use) return "Address already in use";
  return first_grpc_error.empty() ? "cannot listen" : first_grpc_error.substr(0, 300);
}

template <typename Service, typename Base, typename Method>
UnaryCall::RequestFn Bind(Service* service, Method Base::*request) {
  return [service, request](grpc::ServerContext* context, grpc::ByteBuffer* message,
                            grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>* writer,
                            grpc::ServerCompletionQueue* queue, void* tag) {
    (service->*request)(context, message, writer, queue, queue, tag);
  };
}

}  // namespace

class GrpcServer::Impl {
 public:
  Impl(const GrpcOptions& options, Engine* engine, const Health* health)
      : options_(options), site_{engine, health, options.limits} {}

  absl::Status Start();
  const std::string& address() const { return address_; }
  void SetServing(bool serving);
  bool Shutdown(TimePoint deadline);

 private:
  void Configure(grpc::ServerBuilder* builder) const;
  void ListSources();
  void AddUnary(MethodIndex method, UnaryCall::RequestFn request);
  static void Poll(grpc::ServerCompletionQueue* queue);
  bool WaitForNone(const std::atomic<int64_t>& count, TimePoint deadline) const;
  void WaitForQuiet(TimePoint deadline) const;

  const GrpcOptions options_;
  const GrpcSite site_;
  RawInference inference_;
  RawModels models_;
  CallCounts counts_;
  StreamCall::Registry streams_;
  std::deque<UnaryCall::Source> unary_sources_;
  StreamCall::Source stream_source_;
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::thread> threads_;
  std::string address_;
  uint16_t port_ = 0;
};

void GrpcServer::Impl::Configure(grpc::ServerBuilder* builder) const {
  const auto message_limit = static_cast<int>(
      std::min<int64_t>(options_.limits.request_bytes_max * kMessageLimitFactor, 1 << 30));
  builder->SetMaxReceiveMessageSize(message_limit);
  builder->SetMaxSendMessageSize(-1);  // ours is checked before an answer is made
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                              static_cast<int>(options_.max_concurrent_calls));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kPingIntervalMsMin);
  if (options_.max_connection_age.count() > 0) {
    const int age_ms = static_cast<int>(
        std::min<int64_t>(options_.max_connection_age.count(), std::numeric_limits<int>::max()));
    builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, age_ms);
    builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, age_ms);
  }
  // Decompressing makes megabytes of kilobytes before any limit of ours is looked at.
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  grpc::ResourceQuota quota("bertrand");
  quota.SetMaxThreads(kReflectionThreadsMax);
  builder->SetResourceQuota(quota);
}

absl::Status GrpcServer::Impl::Start() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options_.address, grpc::InsecureServerCredentials(), &port);
  Configure(&builder);
  builder.RegisterService(&inference_);
  builder.RegisterService(&models_);
  for (int i = 0; i < options_.num_queues; ++i) queues_.push_back(builder.AddCompletionQueue());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) {
    if (server_ != nullptr) server_->Shutdown();
    for (const auto& queue : queues_) {
      queue->Shutdown();
      Poll(queue.get());
    }
    return Unavailable(absl::StrCat(options_.address, ": ", WhyNotListening()));
  }
  port_ = static_cast<uint16_t>(port);
  address_ = absl::StrCat(options_.address.substr(0, options_.address.rfind(':')), ":", port);
  SetServing(false);
  ListSources();
  for (size_t i = 0; i < queues_.size(); ++i) {
    grpc::ServerCompletionQueue* queue = queues_[i].get();
    for (const UnaryCall::Source& source : unary_sources_) {
      const bool busy = source.method == static_cast<size_t>(MethodIndex::kEmbed);
      for (int call = 0; call < (busy ? kEmbedCallsAhead : kOtherCallsAhead); ++call) {
        UnaryCall::Listen(&source, queue);
      }
    }
    for (int call = 0; call < kOtherCallsAhead; ++call) StreamCall::Listen(&stream_source_, queue);
    threads_.emplace_back([queue] { Poll(queue); });
    pthread_setname_np(threads_.back().native_handle(), absl::StrCat("grpc-cq-", i).c_str());
  }
  return absl::OkStatus();
}

void GrpcServer::Impl::AddUnary(MethodIndex method, UnaryCall::RequestFn request) {
  unary_sources_.push_back({&site_, static_cast<size_t>(method), std::move(request), &counts_});
}

void GrpcServer::Impl::ListSources() {
  AddUnary(MethodIndex::kEmbed, Bind(&inference_, &RawInference::RequestEmbed));
  AddUnary(MethodIndex::kEmbedTokens, Bind(&inference_, &RawInference::RequestEmbedTokens));
  AddUnary(MethodIndex::kEmbedSparse, Bind(&inference_, &RawInference::RequestEmbedSparse));
  AddUnary(MethodIndex::kClassify, Bind(&inference_, &RawInference::RequestClassify));
  AddUnary(MethodIndex::kClassifyZeroShot,
           Bind(&inference_, &RawInference::RequestClassifyZeroShot));
  AddUnary(MethodIndex::kRerank, Bind(&inference_, &RawInference::RequestRerank));
  AddUnary(MethodIndex::kClassifyTokens, Bind(&inference_, &RawInference::RequestClassifyTokens));
  AddUnary(MethodIndex::kAnswerQuestion, Bind(&inference_, &RawInference::RequestAnswerQuestion));
  AddUnary(MethodIndex::kFillMask, Bind(&inference_, &RawInference::RequestFillMask));
  AddUnary(MethodIndex::kDetectReplacedTokens,
           Bind(&inference_, &RawInference::RequestDetectReplacedTokens));
  AddUnary(MethodIndex::kPredictSentencePair,
           Bind(&inference_, &RawInference::RequestPredictSentencePair));
  AddUnary(MethodIndex::kTokenize, Bind(&inference_, &RawInference::RequestTokenize));
  AddUnary(MethodIndex::kDetokenize, Bind(&inference_, &RawInference::RequestDetokenize));
  AddUnary(MethodIndex::kListModels, Bind(&models_, &RawModels::RequestListModels));
  AddUnary(MethodIndex::kGetModel, Bind(&models_, &RawModels::RequestGetModel));
  AddUnary(MethodIndex::kLoadModel, Bind(&models_, &RawModels::RequestLoadModel));
  AddUnary(MethodIndex::kUnloadModel, Bind(&models_, &RawModels::RequestUnloadModel));
  stream_source_ = {&site_, static_cast<size_t>(MethodIndex::kEmbedStream),
                    [this](grpc::ServerContext* context, StreamCall::Stream* stream,
                           grpc::ServerCompletionQueue* queue, void* tag) {
                      inference_.RequestEmbedStream(context, stream, queue, queue, tag);
                    },
                    &counts_, &streams_};
}

void GrpcServer::Impl::Poll(grpc::ServerCompletionQueue* queue) {
  void* tag = nullptr;
  bool ok = false;
  while (queue->Next(&tag, &ok)) static_cast<Tag*>(tag)->Proceed(ok);
}

void GrpcServer::Impl::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  for (const char* service :
       {"", v1::Inference::service_full_name(), v1::Models::service_full_name()}) {
    health->SetServingStatus(service, serving);
  }
  for (const auto& served : site_.engine->models()) health->SetServingStatus(served->name, serving);
}

bool GrpcServer::Impl::WaitForNone(const std::atomic<int64_t>& count, TimePoint deadline) const {
  while (count.load() > 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return count.load() == 0;
}

void GrpcServer::Impl::WaitForQuiet(TimePoint deadline) const {
  TimePoint quiet_since = std::chrono::steady_clock::now();
  int64_t seen = -1;
  for (TimePoint now = quiet_since; now < deadline; now = std::chrono::steady_clock::now()) {
    const int64_t total = counts_.accepted_total.load();
    if (total != seen || counts_.accepted.load() > 0) quiet_since = now;
    if (now - quiet_since >= kQuiet) return;
    seen = total;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

bool GrpcServer::Impl::Shutdown(TimePoint deadline) {
  streams_.DrainAll();
  const bool all_answered = WaitForNone(counts_.accepted, deadline);
  // Calls that come now are told that the server goes. When nobody calls any more, or does not stop
  // calling, the port is closed below gRPC, which would answer CANCELLED.
  WaitForQuiet(std::chrono::steady_clock::now() + kQuietMax);
  CloseConnections(port_);
  WaitForNone(counts_.accepted, std::chrono::steady_clock::now() + kCloseGrace);
  // What is still here is cancelled when the grace is over.
  server_->Shutdown(std::chrono::system_clock::now() + kCloseGrace);
  // Finish on a queue that is shut down aborts: every call must be gone before.
  site_.engine->WaitIdle();
  WaitForNone(counts_.live, TimePoint::max());
  for (const auto& queue : queues_) queue->Shutdown();
  for (std::thread& thread : threads_) thread.join();
  return all_answered;
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcOptions& options,
                                                              Engine* engine,
                                                              const Health* health) {
  gpr_set_log_function(KeepFirstError);
  // protobuf writes a line for every message it cannot parse.
  google::protobuf::SetLogHandler(nullptr);
  auto impl = std::make_unique<Impl>(options, engine, health);
  BERTRAND_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() = default;
const std::string& GrpcServer::address() const { return impl_->address(); }
void GrpcServer::SetServing(bool serving) { impl_->SetServing(serving); }
bool GrpcServer::Shutdown(TimePoint deadline) { return impl_->Shutdown(deadline); }

}  // namespace bertrand
