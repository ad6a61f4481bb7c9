#pragma once

// RESOURCE_EXHAUSTED in its two kinds: the server is full now (worth a retry, carries a hint), or a
// limit was passed (never worth one, carries none, and names the flag). The hint travels as a
// payload of the status, so that gRPC and HTTP can each say it in their own way.

#include <absl/status/status.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace bertrand {

absl::Status Overloaded(std::string_view message, int64_t retry_after_ms);

// The hint of a status made by Overloaded.
std::optional<int64_t> RetryAfterMs(const absl::Status& status);

}  // namespace bertrand
