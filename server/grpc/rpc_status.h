#pragma once

// absl::Status -> gRPC, the one place where it happens.

#include <absl/status/status.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

namespace bertrand {

// The same code, the message cut to 1 KB (it travels in the trailers). A status that is worth a
// retry also gets google.rpc.RetryInfo in its details.
grpc::Status ToGrpcStatus(const absl::Status& status);

// `grpc-retry-pushback-ms` for such a status: gRPC clients with a retry policy wait that long.
void AddRetryMetadata(const absl::Status& status, grpc::ServerContext* context);

}  // namespace bertrand
