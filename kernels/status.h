#pragma once

// Errors and invariants, for every folder.
//
// Input, files and the environment fail with absl::Status: the message says the actual value, the
// expected one and where. A broken invariant ends the process through BERTRAND_CHECK.
//
// Debian's absl::string_view is not std's, so the constructors here take std types and are the one
// place where the two meet. All functions are thread-safe.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>

namespace bertrand {

absl::Status InvalidArgument(std::string_view message);
absl::Status NotFound(std::string_view message);
absl::Status FailedPrecondition(std::string_view message);
absl::Status ResourceExhausted(std::string_view message);
absl::Status Unimplemented(std::string_view message);
absl::Status Unavailable(std::string_view message);
absl::Status DeadlineExceeded(std::string_view message);
absl::Status Cancelled(std::string_view message);
absl::Status Internal(std::string_view message);

// status.message() as std::string.
std::string Message(const absl::Status& status);

// The same code, with `context: ` before the message. OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              std::string_view message);

}  // namespace bertrand

// Ends the process with file, line and message when `condition` is false, in every build.
#define BERTRAND_CHECK(condition, message)                                \
  do {                                                                    \
    if (!(condition)) [[unlikely]] {                                      \
      ::bertrand::CheckFailed(__FILE__, __LINE__, #condition, (message)); \
    }                                                                     \
  } while (false)

#define BERTRAND_RETURN_IF_ERROR(expression)                                    \
  do {                                                                          \
    if (absl::Status bertrand_status_ = (expression); !bertrand_status_.ok()) { \
      return bertrand_status_;                                                  \
    }                                                                           \
  } while (false)

#define BERTRAND_CONCAT_INNER_(a, b) a##b
#define BERTRAND_CONCAT_(a, b) BERTRAND_CONCAT_INNER_(a, b)
#define BERTRAND_ASSIGN_OR_RETURN(lhs, expression) \
  BERTRAND_ASSIGN_OR_RETURN_IMPL_(BERTRAND_CONCAT_(bertrand_statusor_, __LINE__), lhs, expression)
#define BERTRAND_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expression) \
  auto statusor = (expression);                                    \
  if (!statusor.ok()) return statusor.status();                    \
  lhs = *std::move(statusor)
