#include "server/grpc/rpc_status.h"

#include <gtest/gtest.h>

#include "kernels/status.h"
#include "server/overload.h"

namespace bertrand {
namespace {

TEST(RpcStatus, KeepsTheCodeAndCutsTheMessage) {
  const grpc::Status status = ToGrpcStatus(InvalidArgument(std::string(5000, 'x')));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message().size(), 1024U);
  EXPECT_TRUE(status.error_details().empty());
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(RpcStatus, ARetryHasRetryInfo) {
  const grpc::Status status = ToGrpcStatus(Overloaded("full", 1250));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  // As google.rpc's own classes write it: code 8, "full", Any(RetryInfo(1 s, 250,000,000 ns)).
  const std::string duration("\x08\x01\x10\x80\xe5\x9a\x77", 7);
  const std::string info = "\x0a\x07" + duration;
  const std::string any = "\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x09" + info;
  EXPECT_EQ(status.error_details(),
            "\x08\x08\x12\x04"
            "full\x1a\x35" +
                any);
}

TEST(RpcStatus, ALimitHasNone) {
  EXPECT_TRUE(ToGrpcStatus(ResourceExhausted("limit")).error_details().empty());
}

}  // namespace
}  // namespace bertrand
