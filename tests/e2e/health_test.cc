// grpc.health.v1, reflection, and the HTTP port. The two gRPC services are called with bytes: their
// messages are small, and their generated code is not everywhere.

#include <grpcpp/impl/codegen/client_unary_call.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/e2e/server_process.h"

namespace bertrand {
namespace {

using grpc::internal::RpcMethod;

constexpr char kServing = 1, kNotServing = 2, kServiceUnknown = 3;

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

std::string ServiceName(const std::string& service) {
  if (service.empty()) return "";
  std::string field = {'\x0a', static_cast<char>(service.size())};
  return field.append(service);
}

// The answer's `status`, or the call's error.
char StatusIn(const grpc::ByteBuffer& answer) {
  const std::string bytes = ToString(answer);
  return bytes.size() == 2 && bytes[0] == 8 ? bytes[1] : 0;
}

grpc::Status Check(const std::shared_ptr<grpc::Channel>& channel, const std::string& service,
                   char* serving) {
  grpc::ClientContext context;
  SetDeadline(&context, std::chrono::seconds(10));
  grpc::ByteBuffer answer;
  const grpc::Status status = grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
      channel.get(), RpcMethod("/grpc.health.v1.Health/Check", RpcMethod::NORMAL_RPC), &context,
      ToBuffer(ServiceName(service)), &answer);
  *serving = StatusIn(answer);
  return status;
}

// The first state that Watch tells, and, after SIGTERM, the next one.
class Watcher {
 public:
  Watcher(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
    SetDeadline(&context_, std::chrono::seconds(10));
    reader_.reset(grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(
        channel.get(), RpcMethod("/grpc.health.v1.Health/Watch", RpcMethod::SERVER_STREAMING),
        &context_, ToBuffer(ServiceName(service))));
  }
  char Next() {
    grpc::ByteBuffer answer;
    return reader_->Read(&answer) ? StatusIn(answer) : -1;
  }
  ~Watcher() {
    context_.TryCancel();
    grpc::ByteBuffer rest;
    while (reader_->Read(&rest)) {
    }
    reader_->Finish().IgnoreError();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> reader_;
};

class HealthTest : public testing::Test {
 protected:
  void SetUp() override {
    server_ = ServerProcess::StartReady();
    ASSERT_NE(server_, nullptr);
    channel_ = server_->NewChannel();
  }
  std::unique_ptr<ServerProcess> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(HealthTest, CheckAndWatch) {
  for (const char* service : {"", "tiny", "bertrand.v1.Inference", "bertrand.v1.Models"}) {
    char serving = 0;
    EXPECT_TRUE(Check(channel_, service, &serving).ok()) << service;
    EXPECT_EQ(serving, kServing) << service;
  }
  char serving = 0;
  EXPECT_EQ(Check(channel_, "nobody", &serving).error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(Watcher(channel_, "nobody").Next(), kServiceUnknown);

  Watcher watcher(channel_, "tiny");
  EXPECT_EQ(watcher.Next(), kServing);
  // A call that is open keeps the server draining, so that the watcher sees it.
  grpc::ClientContext context;
  SetDeadline(&context, std::chrono::seconds(10));
  const auto client = server_->NewClient();
  const auto stream = client->EmbedStream(&context);
  v1::EmbedResponse response;
  ASSERT_TRUE(stream->Write(NewRequest({"a"})) && stream->Read(&response));
  server_->Signal(SIGTERM);
  EXPECT_EQ(watcher.Next(), kNotServing);
  EXPECT_EQ(stream->Finish().error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(server_->WaitForEnd(std::chrono::seconds(10)), 0);  // the watcher does not hold it
}

TEST_F(HealthTest, ReflectionListsEverything) {
  grpc::ClientContext context;
  SetDeadline(&context, std::chrono::seconds(10));
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
      grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
          channel_.get(),
          RpcMethod("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                    RpcMethod::BIDI_STREAMING),
          &context));
  grpc::ByteBuffer answer;
  ASSERT_TRUE(stream->Write(ToBuffer(std::string("\x3a\x00", 2))));  // list_services
  ASSERT_TRUE(stream->Read(&answer));
  const std::string services = ToString(answer);
  for (const char* name :
       {"bertrand.v1.Inference", "bertrand.v1.Models", "grpc.health.v1.Health"}) {
    EXPECT_NE(services.find(name), std::string::npos) << name;
  }
  ASSERT_TRUE(
      stream->Write(ToBuffer("\x22\x15"
                             "bertrand.v1.Inference")));  // containing symbol
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_NE(ToString(answer).find("DetectReplacedTokens"), std::string::npos);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(HealthTest, HttpRoutes) {
  EXPECT_EQ(server_->HttpGet("/health").find("HTTP/1.1 200"), 0U);
  const std::string metrics = server_->HttpGet("/metrics");
  EXPECT_EQ(metrics.find("HTTP/1.1 200"), 0U);
  EXPECT_NE(metrics.find("text/plain; version=0.0.4"), std::string::npos);
  for (const char* family :
       {"bertrand_requests_total{code=\"OK\",method=\"Embed\"} 0", "bertrand_queue_tokens 0",
        "bertrand_queue_oldest_age_seconds 0", "bertrand_request_duration_seconds_bucket",
        "bertrand_batch_tokens_count 0", "process_resident_memory_bytes "}) {
    EXPECT_NE(metrics.find(family), std::string::npos) << family;
  }
  EXPECT_EQ(metrics.back(), '\n');
  const std::string missing = server_->HttpGet("/no/such/route");
  EXPECT_EQ(missing.find("HTTP/1.1 404"), 0U);
  EXPECT_NE(missing.find("\"error\""), std::string::npos);
  EXPECT_EQ(server_->HttpGet("/metrics").find("/no/such"), std::string::npos);
}

TEST_F(HealthTest, HttpMethodsAndLimits) {
  const std::string head =
      server_->Http("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(head.find("HTTP/1.1 200"), 0U);
  EXPECT_EQ(head.find("\r\n\r\n"), head.size() - 4);  // no body
  EXPECT_EQ(server_
                ->Http("POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
                       "Connection: close\r\n\r\n{}")
                .find("HTTP/1.1 405"),
            0U);
  EXPECT_EQ(server_->Http("GET /health HTTP/1.1\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n")
                .find("HTTP/1.1 431"),
            0U);
  EXPECT_EQ(server_->Http("nonsense\r\n\r\n").find("HTTP/1.1 400"), 0U);
  EXPECT_EQ(server_->Http("GET /health HTTP/1.0\r\n\r\n").find("HTTP/1.0 200"), 0U);
  ExpectWell(*server_);
}

TEST_F(HealthTest, ACounterGrowsByOneARequest) {
  v1::EmbedResponse response;
  ASSERT_TRUE(Embed(*server_->NewClient(), NewRequest({"a", "b"}), &response).ok());
  const std::string metrics = server_->HttpGet("/metrics");
  EXPECT_NE(metrics.find("bertrand_requests_total{code=\"OK\",method=\"Embed\"} 1\n"),
            std::string::npos);
  EXPECT_NE(metrics.find("bertrand_inputs_total 2\n"), std::string::npos);
}

}  // namespace
}  // namespace bertrand
