#include "kernels/status.h"

#include <cstdio>
#include <cstdlib>

namespace bertrand {
namespace {

absl::Status Make(absl::StatusCode code, std::string_view message) {
  return absl::Status(code, absl::string_view(message.data(), message.size()));
}

}  // namespace

absl::Status InvalidArgument(std::string_view message) {
  return Make(absl::StatusCode::kInvalidArgument, message);
}
absl::Status NotFound(std::string_view message) {
  return Make(absl::StatusCode::kNotFound, message);
}
absl::Status FailedPrecondition(std::string_view message) {
  return Make(absl::StatusCode::kFailedPrecondition, message);
}
absl::Status ResourceExhausted(std::string_view message) {
  return Make(absl::StatusCode::kResourceExhausted, message);
}
absl::Status Unimplemented(std::string_view message) {
  return Make(absl::StatusCode::kUnimplemented, message);
}
absl::Status Unavailable(std::string_view message) {
  return Make(absl::StatusCode::kUnavailable, message);
}
absl::Status DeadlineExceeded(std::string_view message) {
  return Make(absl::StatusCode::kDeadlineExceeded, message);
}
absl::Status Cancelled(std::string_view message) {
  return Make(absl::StatusCode::kCancelled, message);
}
absl::Status Internal(std::string_view message) {
  return Make(absl::StatusCode::kInternal, message);
}

std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return Make(status.code(), std::string(context) + ": " + Message(status));
}

void CheckFailed(const char* file, int line, const char* condition, std::string_view message) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s: %.*s\n", file, line, condition,
               static_cast<int>(message.size()), message.data());
  std::abort();
}

}  // namespace bertrand
