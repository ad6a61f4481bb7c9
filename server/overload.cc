#include "server/overload.h"

#include <absl/strings/cord.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "kernels/status.h"

namespace bertrand {
namespace {

constexpr char kRetryPayload[] = "bertrand/retry-after-ms";

}  // namespace

absl::Status Overloaded(std::string_view message, int64_t retry_after_ms) {
  absl::Status status = ResourceExhausted(message);
  status.SetPayload(kRetryPayload, absl::Cord(absl::StrCat(retry_after_ms)));
  return status;
}

std::optional<int64_t> RetryAfterMs(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryPayload);
  int64_t retry_after_ms = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &retry_after_ms)) {
    return std::nullopt;
  }
  return retry_after_ms;
}

}  // namespace bertrand
