#include "server/grpc/rpc_status.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <string>

#include "kernels/status.h"
#include "server/overload.h"
#include "server/quote.h"

namespace bertrand {
namespace {

using google::protobuf::io::CodedOutputStream;
using google::protobuf::io::StringOutputStream;

constexpr size_t kMessageBytesMax = 1024;

void WriteNumber(CodedOutputStream* out, uint32_t field, uint64_t value) {
  out->WriteTag(field << 3);
  out->WriteVarint64(value);
}

void WriteBytes(CodedOutputStream* out, uint32_t field, const std::string& bytes) {
  out->WriteTag(field << 3 | 2);
  out->WriteVarint32(static_cast<uint32_t>(bytes.size()));
  out->WriteString(bytes);
}

template <typename Write>
std::string Encode(Write write) {
  std::string bytes;
  StringOutputStream stream(&bytes);
  CodedOutputStream out(&stream);
  write(&out);
  out.Trim();
  return bytes;
}

// google.rpc.Status{code = 1, message = 2, details = 3 Any{type_url = 1, value = 2}} with one
// google.rpc.RetryInfo{retry_delay = 1 Duration{seconds = 1, nanos = 2}}. By hand: four small
// messages, of which Debian has no generated code.
std::string RetryDetails(int code, const std::string& message, int64_t retry_after_ms) {
  const std::string duration = Encode([&](CodedOutputStream* out) {
    WriteNumber(out, 1, static_cast<uint64_t>(retry_after_ms / 1000));
    WriteNumber(out, 2, static_cast<uint64_t>(retry_after_ms % 1000) * 1'000'000);
  });
  const std::string info = Encode([&](CodedOutputStream* out) { WriteBytes(out, 1, duration); });
  const std::string any = Encode([&](CodedOutputStream* out) {
    WriteBytes(out, 1, "type.googleapis.com/google.rpc.RetryInfo");
    WriteBytes(out, 2, info);
  });
  return Encode([&](CodedOutputStream* out) {
    WriteNumber(out, 1, static_cast<uint64_t>(code));
    WriteBytes(out, 2, message);
    WriteBytes(out, 3, any);
  });
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const int code = static_cast<int>(status.code());  // the same numbers, by design
  const std::string message = CutMessage(Message(status), kMessageBytesMax);
  std::string details;
  if (const auto retry = RetryAfterMs(status); retry.has_value()) {
    details = RetryDetails(code, message, *retry);
  }
  return grpc::Status(static_cast<grpc::StatusCode>(code), message, details);
}

void AddRetryMetadata(const absl::Status& status, grpc::ServerContext* context) {
  if (const auto retry = RetryAfterMs(status); retry.has_value()) {
    context->AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(*retry));
  }
}

}  // namespace bertrand
