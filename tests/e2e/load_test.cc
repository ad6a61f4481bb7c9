// Many calls at once: overload, cancellation, and SIGTERM in the middle of it.

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <map>
#include <thread>

#include "tests/e2e/server_process.h"

namespace bertrand {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

// Calls that are all under way at the same time, on one connection.
class ManyCalls {
 public:
  explicit ManyCalls(const ServerProcess& server) : stub_(server.NewClient()) {}

  void Start(int count, const v1::EmbedRequest& request, milliseconds deadline) {
    for (int i = 0; i < count; ++i) {
      auto call = std::make_unique<Call>();
      SetDeadline(&call->context, deadline);
      call->reader = stub_->AsyncEmbed(&call->context, request, &queue_);
      call->reader->Finish(&call->response, &call->status, call.get());
      calls_.push_back(std::move(call));
    }
  }
  void CancelAll() {
    for (const auto& call : calls_) call->context.TryCancel();
  }
  // How often each status came; `hints` counts those with a retry hint.
  std::map<grpc::StatusCode, int> Wait(int* hints = nullptr) {
    std::map<grpc::StatusCode, int> counts;
    for (size_t i = 0; i < calls_.size(); ++i) {
      void* tag = nullptr;
      bool ok = false;
      if (!queue_.Next(&tag, &ok)) break;
      const Call& call = *static_cast<Call*>(tag);
      ++counts[call.status.error_code()];
      if (hints == nullptr || call.status.ok()) continue;
      *hints += static_cast<int>(
          call.context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms") > 0 &&
          call.status.error_details().find("google.rpc.RetryInfo") != std::string::npos);
    }
    return counts;
  }

 private:
  struct Call {
    grpc::ClientContext context;
    v1::EmbedResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::EmbedResponse>> reader;
  };
  std::unique_ptr<v1::Inference::Stub> stub_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Call>> calls_;
};

v1::EmbedRequest LongRequest(size_t num_inputs) {
  std::string text;
  for (int i = 0; i < 38; ++i) text += "a ";
  return NewRequest(std::vector<std::string>(num_inputs, text));
}

TEST(Load, TwoThousandCallsAtOnce) {
  const auto server = ServerProcess::StartReady();
  ASSERT_NE(server, nullptr);
  ManyCalls calls(*server);
  calls.Start(2000, LongRequest(8), seconds(5));
  auto counts = calls.Wait();
  int allowed = 0;
  for (const auto code : {grpc::OK, grpc::RESOURCE_EXHAUSTED, grpc::DEADLINE_EXCEEDED}) {
    allowed += counts[code];
  }
  EXPECT_EQ(allowed, 2000);
  EXPECT_GT(counts[grpc::OK], 0);
  ExpectWell(*server);
}

TEST(Load, AFullQueueRefusesWithARetryHint) {
  const auto server = ServerProcess::StartReady({"--max-queue-requests", "4"});
  ASSERT_NE(server, nullptr);
  ManyCalls calls(*server);
  calls.Start(300, LongRequest(64), seconds(20));
  int hints = 0;
  auto counts = calls.Wait(&hints);
  EXPECT_GT(counts[grpc::OK], 0);
  EXPECT_GT(counts[grpc::RESOURCE_EXHAUSTED], 0);
  EXPECT_EQ(counts[grpc::OK] + counts[grpc::RESOURCE_EXHAUSTED], 300);
  EXPECT_EQ(hints, counts[grpc::RESOURCE_EXHAUSTED]);
  ExpectWell(*server);
}

TEST(Load, AStreamWaitsWhereACallIsRefused) {
  const auto server =
      ServerProcess::StartReady({"--max-queue-requests", "2", "--max-queue-tokens", "3000"});
  ASSERT_NE(server, nullptr);
  std::atomic<int> num_answers{0};
  std::vector<std::thread> clients;
  for (int client = 0; client < 3; ++client) {
    clients.emplace_back([&] {
      grpc::ClientContext context;
      SetDeadline(&context, seconds(30));
      const auto stub = server->NewClient();
      const auto stream = stub->EmbedStream(&context);
      std::thread writer([&] {
        for (int i = 0; i < 40; ++i) stream->Write(LongRequest(50));
        stream->WritesDone();
      });
      v1::EmbedResponse response;
      while (stream->Read(&response)) ++num_answers;
      writer.join();
      const grpc::Status status = stream->Finish();
      EXPECT_TRUE(status.ok()) << status.error_message();
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(num_answers, 120);
}

TEST(Load, CancelledAndExpiredCallsDoNotDelayOthers) {
  const auto server = ServerProcess::StartReady();
  ASSERT_NE(server, nullptr);
  ManyCalls calls(*server);
  calls.Start(650, LongRequest(100), seconds(60));
  calls.Start(650, LongRequest(100), milliseconds(20));
  calls.CancelAll();
  ExpectWell(*server);
  calls.Wait();
  ExpectWell(*server);
}

// Calls without pause until the server says that it goes.
TEST(Load, SigtermLosesNothing) {
  const auto server = ServerProcess::StartReady();
  ASSERT_NE(server, nullptr);
  std::atomic<int> num_ok{0}, num_unavailable{0}, num_other{0};
  std::vector<std::thread> clients;
  for (int client = 0; client < 8; ++client) {
    clients.emplace_back([&] {
      const auto stub = server->NewClient();
      for (;;) {
        v1::EmbedResponse response;
        const grpc::Status status = Embed(*stub, LongRequest(20), &response);
        if (status.ok()) {
          ++num_ok;
          continue;
        }
        num_unavailable += status.error_code() == grpc::UNAVAILABLE;
        if (status.error_code() != grpc::UNAVAILABLE) {
          ++num_other;
          ADD_FAILURE() << status.error_code() << " " << status.error_message();
        }
        return;
      }
    });
  }
  std::this_thread::sleep_for(milliseconds(500));
  server->Signal(SIGTERM);
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(server->WaitForEnd(seconds(20)), 0);
  EXPECT_GT(num_ok, 0);
  EXPECT_EQ(num_other, 0);
}

// CANCELLED would say that the clients themselves gave up, and so would not be retried elsewhere.
TEST(Load, CallsDuringTheDrainAreUnavailable) {
  const auto server = ServerProcess::StartReady({"--threads", "1"});
  ASSERT_NE(server, nullptr);
  ManyCalls calls(*server);
  calls.Start(40, LongRequest(200), seconds(60));
  std::atomic<bool> gone{false};
  std::atomic<int> num_told{0};
  std::vector<std::thread> clients;
  for (int client = 0; client < 6; ++client) {
    clients.emplace_back([&] {
      const auto stub = server->NewClient();
      while (!gone) {
        v1::EmbedResponse response;
        const grpc::Status status = Embed(*stub, NewRequest({"hello"}), &response);
        const bool unavailable = status.error_code() == grpc::UNAVAILABLE;
        EXPECT_TRUE(status.ok() || unavailable)
            << status.error_code() << " " << status.error_message();
        num_told += unavailable && status.error_message() == "the server is shutting down";
      }
    });
  }
  std::this_thread::sleep_for(milliseconds(300));
  server->Signal(SIGTERM);
  EXPECT_EQ(server->WaitForEnd(seconds(30)), 0);
  gone = true;
  for (std::thread& client : clients) client.join();
  EXPECT_GT(num_told, 0);
  auto counts = calls.Wait();
  EXPECT_EQ(counts[grpc::OK] + counts[grpc::UNAVAILABLE], 40);
}

TEST(Load, AcceptedCallsAreAnsweredAfterSigterm) {
  const auto server = ServerProcess::StartReady({"--threads", "1"});
  ASSERT_NE(server, nullptr);
  ManyCalls calls(*server);
  calls.Start(100, LongRequest(50), seconds(30));
  // Until some are known to be accepted.
  while (server->HttpGet("/metrics").find("bertrand_admitted_requests 0\n") != std::string::npos) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  server->Signal(SIGTERM);
  auto counts = calls.Wait();
  EXPECT_GT(counts[grpc::OK], 0);
  EXPECT_EQ(counts[grpc::OK] + counts[grpc::UNAVAILABLE], 100);
  EXPECT_EQ(server->WaitForEnd(seconds(30)), 0);
}

TEST(Load, ASecondSignalEndsAtOnce) {
  const auto server = ServerProcess::StartReady();
  ASSERT_NE(server, nullptr);
  grpc::ClientContext context;
  const auto stub = server->NewClient();
  ManyCalls calls(*server);
  calls.Start(100, LongRequest(500), seconds(60));
  server->Signal(SIGTERM);
  std::this_thread::sleep_for(milliseconds(20));
  server->Signal(SIGTERM);
  const auto begin = steady_clock::now();
  EXPECT_GE(server->WaitForEnd(seconds(10)), 0);
  EXPECT_LT(steady_clock::now() - begin, seconds(5));
  calls.CancelAll();
  calls.Wait();
}

}  // namespace
}  // namespace bertrand
